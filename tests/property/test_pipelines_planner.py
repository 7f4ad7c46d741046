"""The columnar planner against the datum rules written as plain loops, for random nested inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, product
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.model.globs import compile_glob
from paddock.model.ids import Digest
from paddock.pipelines.inputs import Leaf, leaves, plan_datums
from paddock.pipelines.keys import datum_ids_and_keys, sort_names
from paddock.pipelines.models import Input
from paddock.pipelines.spec import validate_spec
from paddock.testing.matches import FakeMatches, match_paths

File = tuple[int, int]
GLOBS = ["/(*)", "/(?)*", "/*(?)", "/(*)/(*)", "/{x,y}(*)", "/**(*)", "/(a)*"]
FILES = ["/" + first + second for first in ("a", "b", "xa", "ya") for second in ("", "1", "2", "/a", "/b")]


@st.composite
def nodes(draw: st.DrawFn, names: Iterator[int], depth: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["pfs", "cross", "union", "join", "group"] if depth else ["pfs"]))
    if kind != "pfs":
        size = draw(st.integers(1, 3))
        return {kind: [draw(nodes(names, depth - 1)) for _ in range(size)]}
    name = f"i{next(names)}"
    template = st.sampled_from(["$1", "k", "$1-$1", "${1}x"])
    return {
        "pfs": {
            "name": name,
            "repo": draw(st.sampled_from(["r", "s"])),
            "glob": draw(st.sampled_from(GLOBS)),
            "join_on": draw(template),
            "group_by": draw(template),
            "outer_join": draw(st.booleans()),
        }
    }


@st.composite
def problems(draw: st.DrawFn) -> tuple[Input, list[FakeMatches]]:
    data = draw(nodes(count(), 2))
    node = validate_spec({"pipeline": "p", "transform": {"cmd": ["true"]}, "input": data}).spec.input
    trees = {repo: _without_clashes(draw(st.sets(st.sampled_from(FILES), max_size=5))) for repo in ("r", "s")}
    return node, [match_paths(leaf.glob, trees[leaf.repo]) for leaf in leaves(node)]


def _without_clashes(files: set[str]) -> set[str]:
    return {file for file in files if not any(other.startswith(file + "/") for other in files)}


def naive(
    node: Input, found: Sequence[Leaf], matches: Sequence[FakeMatches], numbers: Iterator[int]
) -> list[list[File]]:
    if node.pfs is not None:
        leaf = next(numbers)
        return [[(leaf, match)] for match in range(len(matches[leaf].paths))]
    parts = [naive(child, found, matches, numbers) for child in node.children]
    if node.union is not None:
        return [datum for part in parts for datum in part]
    if node.cross is not None:
        return [[file for datum in combination for file in datum] for combination in product(*parts)]
    if node.group is not None:
        files = sorted({file for part in parts for datum in part for file in datum})
        keys = {key_of(file, "group_by", found, matches) for file in files}
        return [[file for file in files if key_of(file, "group_by", found, matches) == key] for key in keys]
    return naive_join(parts, found, matches)


def naive_join(
    parts: Sequence[list[list[File]]], found: Sequence[Leaf], matches: Sequence[FakeMatches]
) -> list[list[File]]:
    files = [{file for datum in part for file in datum} for part in parts]
    datums: list[list[File]] = []
    for key in {key_of(file, "join_on", found, matches) for part in files for file in part}:
        chosen = [[file for file in part if key_of(file, "join_on", found, matches) == key] for part in files]
        if not all(chosen):
            chosen = [[file for file in part if found[file[0]].outer_join] for part in chosen]
            chosen = [part for part in chosen if part]
        if chosen:
            datums += [list(combination) for combination in product(*chosen)]
    return datums


def key_of(file: File, field: str, found: Sequence[Leaf], matches: Sequence[FakeMatches]) -> str:
    leaf, match = file
    path = matches[leaf].paths[match]
    result = compile_glob(found[leaf].glob).match(path)
    assert result is not None
    return result.expand(getattr(found[leaf], field))


@settings(max_examples=400)
@given(problems())
def test_columns_and_loops_make_the_same_datums(problem: tuple[Input, list[FakeMatches]]) -> None:
    node, matches = problem
    found = leaves(node)
    planned = plan_datums(node, matches)
    pairs = list(zip(planned.leaf.tolist(), planned.match.tolist(), strict=True))
    datums = [
        pairs[first:last]
        for first, last in zip(planned.offsets[:-1].tolist(), planned.offsets[1:].tolist(), strict=True)
    ]
    assert all(datum == sorted(datum) for datum in datums), "files are sorted by leaf and path"
    assert sorted(datums) == sorted(map(sorted, naive(node, found, matches, count())))
    again = plan_datums(node, matches)
    assert again.offsets.tolist() == planned.offsets.tolist()
    assert again.leaf.tolist() == planned.leaf.tolist()
    names = datum_ids_and_keys(planned, found, matches, Digest(bytes(32)))
    assert len(set(names.ids)) == len(datums), "each datum has an id of its own"
    sorted_by = sort_names(planned, matches, names.ids, np.arange(len(datums))).to_pylist()
    assert len(set(sorted_by)) == len(datums)
    assert all(text.split(" ")[-1] == id.hex() for text, id in zip(sorted_by, names.ids, strict=True))
