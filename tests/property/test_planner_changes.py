"""A plan from what changed is the plan of everything: for random nested inputs, random trees and random edits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.splits import SplitRule
from paddock.pipelines.affected import traceable
from paddock.pipelines.inputs import Leaf
from paddock.pipelines.spec import validate_spec
from paddock.runtime.cut_files import Cuts, File
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan import InputCommit, Plan
from paddock.runtime.plan_changed import plan_changed
from paddock.runtime.plan_request import Base, PlanRequest
from paddock.runtime.plan_whole import plan_whole
from paddock.storage.chunks import CHUNKING, ChunkStore
from paddock.storage.tables import Tables
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects

GLOBS = ["/(*)", "/(?)*", "/*(?)", "/(*)/(*)", "/{x,y}(*)", "/**(*)", "/(a)*", "/", "/a", "/x(a)*", "/x?(a)*"]
FILES = ["/" + first + second for first in ("a", "b", "xa", "ya") for second in ("", "1", "2", "/a", "/b")]
TRANSFORM = Digest(blake3(b"transform").digest())
JOB = bytes(15) + b"\1"
Files = dict[str, int]


@pytest.fixture(scope="module")
def trees() -> Trees:
    return Trees(Tables(ChunkStore(MemoryObjects(), MemoryIndex(), chunking=CHUNKING)))


@st.composite
def nodes(draw: st.DrawFn, names: Iterator[int], depth: int, inside: str = "") -> dict[str, Any]:
    combining = ["union"] if inside in ("join", "group") else ["cross", "union", "join", "group"]
    kind = draw(st.sampled_from(["pfs", *combining] if depth else ["pfs"]))
    if kind != "pfs":
        inner = inside if inside in ("join", "group") else kind
        return {kind: [draw(nodes(names, depth - 1, inner)) for _ in range(draw(st.integers(1, 3)))]}
    glob = draw(st.sampled_from(GLOBS))
    template = st.sampled_from(["$1", "k", "$1-$1", "${1}x"] if "(" in glob else ["k"])
    return {
        "pfs": {
            "name": draw(st.sampled_from([f"i{next(names)}"] * 9 + ["same"])),
            "repo": draw(st.sampled_from(["r", "s"])),
            "glob": glob,
            "join_on": draw(template),
            "group_by": draw(template),
            "outer_join": draw(st.booleans()),
        }
    }


contents = st.dictionaries(st.sampled_from(FILES), st.integers(0, 3), min_size=4, max_size=9)
edits = st.dictionaries(st.sampled_from(FILES), st.one_of(st.none(), st.integers(0, 3)), max_size=2)


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Files], dict[str, Files]]:
    data = draw(nodes(count(), 2))
    before = {repo: _without_clashes(draw(contents)) for repo in ("r", "s")}
    after = {}
    for repo, files in before.items():
        changes = draw(edits)
        after[repo] = _without_clashes({path: value for path, value in (files | changes).items() if value is not None})
    return data, before, after


def _without_clashes(files: Files) -> Files:
    return {path: value for path, value in files.items() if not any(other.startswith(path + "/") for other in files)}


def write_tree(trees: Trees, files: Files) -> Digest:
    rows = [TreeRow(path, b"", value, Digest(blake3(bytes([value])).digest()), False) for path, value in files.items()]
    with trees.tables.store.writer() as writer:
        root = trees.merge(trees.empty(), tree_table(rows), [], [], writer)
        writer.flush()
    return root


def write_datums(trees: Trees, plan: Plan) -> Digest:
    with trees.tables.store.writer() as writer:
        root = trees.tables.merge_sorted(DATUMS, plan.base_datums, plan.tables(), plan.dropped, writer)
        writer.flush()
    return root


def finish(plan: Plan, batch: bytes) -> None:
    """Let all planned datums have a good result."""
    for position in range(len(plan)):
        plan.results.set(position, batch, position, JOB)
        plan.successes[position] = True


def shown(plan: Plan) -> dict[str, Any]:
    return {
        "rows": [row for table in plan.tables() for row in table.to_pylist()],
        "kept": plan.kept,
        "dropped": sorted(plan.dropped),
        "removed": {batch: ordinals.tolist() for batch, ordinals in plan.removed.items()},
        "base": (plan.base_datums, plan.base_tree) if plan.kept else None,
    }


def no_cuts(leaf: Leaf, rule: SplitRule, files: Iterable[File]) -> Mapping[Digest, Cuts]:
    raise AssertionError("no leaf splits files here")


def requests(
    trees: Trees, data: dict[str, Any], before: dict[str, Files], after: dict[str, Files]
) -> tuple[PlanRequest, Plan] | None:
    """The job after the change, and the finished plan of the one before; None where the input is refused."""
    places = {repo: ("default", repo, "main") for repo in before}
    old = {places[repo]: write_tree(trees, files) for repo, files in before.items()}
    new = {places[repo]: InputCommit("new", write_tree(trees, files)) for repo, files in after.items()}
    inputs = {place: InputCommit("old", tree) for place, tree in old.items()}
    try:
        spec = validate_spec({"pipeline": "p", "transform": {"cmd": ["true"]}, "input": data}).spec
        first = plan_whole(LeafMatches(trees, no_cuts), PlanRequest(spec, TRANSFORM, inputs, None, reuse=True))
    except InvalidInput:
        return None
    finish(first, bytes([7]) * 32)
    base = Base(write_datums(trees, first), trees.empty(), spec.input, TRANSFORM, old, settled=True)
    return PlanRequest(spec, TRANSFORM, new, base, reuse=True), first


@settings(max_examples=200)
@given(problem=problems())
def test_the_plan_of_a_change_is_the_plan_of_everything(
    trees: Trees, problem: tuple[dict[str, Any], dict[str, Files], dict[str, Files]]
) -> None:
    made = requests(trees, *problem)
    if made is None:
        return
    request, _ = made
    assert request.base is not None
    try:
        whole = plan_whole(LeafMatches(trees, no_cuts), request)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            plan_changed(LeafMatches(trees, no_cuts), request)
        return
    changed = plan_changed(LeafMatches(trees, no_cuts), request)
    if changed is None:
        assert whole.kept == 0 or not traceable(request.spec.input)
        return
    assert shown(changed) == shown(whole)
    for plan in (changed, whole):
        finish(plan, bytes([8]) * 32)
    everything = plan_whole(
        LeafMatches(trees, no_cuts), PlanRequest(request.spec, TRANSFORM, request.inputs, None, reuse=True)
    )
    assert write_datums(trees, changed) == write_datums(trees, whole)
    rows = pa.concat_tables(trees.tables.scan(DATUMS, write_datums(trees, changed))) if len(everything) else None
    assert (rows.column("key").to_pylist() if rows is not None else []) == list(everything.keys)
