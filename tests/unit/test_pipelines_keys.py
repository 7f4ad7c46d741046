"""Names of datums: their exact format, and what they do and don't depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from blake3 import blake3

from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes
from paddock.pipelines import keys
from paddock.pipelines.inputs import leaves_of, plan_datums
from paddock.pipelines.keys import datum_ids_and_keys, sort_names, transform_digest
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.testing.matches import FakeMatches, match_paths

TRANSFORM = Digest(b"t" * 32)
CROSS = {
    "cross": [
        {"pfs": {"repo": "a", "glob": "/*"}},
        {"pfs": {"name": "bee", "project": "other", "repo": "b", "branch": "dev", "glob": "/(*)", "join_on": "$1"}},
    ]
}


def spec_of(node: dict[str, Any], **fields: Any) -> PipelineSpec:
    return validate_spec({"pipeline": "p", "transform": {"cmd": ["true"]}, "input": node, **fields}).spec


class Names(NamedTuple):
    ids: list[bytes]
    keys: list[bytes]
    sort_names: list[str]


def names_of(node: dict[str, Any], matches: Sequence[FakeMatches], transform: Digest = TRANSFORM) -> Names:
    spec = spec_of(node)
    datums = plan_datums(spec.input, matches)
    ids, keys = datum_ids_and_keys(datums, leaves_of(spec), matches, transform)
    return Names(list(ids), list(keys), sort_names(datums, matches, ids, np.arange(len(datums))).to_pylist())


def field(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def test_ids_and_keys_have_the_documented_format() -> None:
    left, right = match_paths("/*", ["/x", "/d/ä"]), match_paths("/(*)", ["/y"])
    names = names_of(CROSS, [left, right])
    identity = b"".join(map(field, ("default", "a", "main", "a", "/d", "other", "b", "dev", "bee", "/y")))
    content = (
        field("a") + field("/d") + left.digests[0] + b"\2" + field("") + field("")
        + field("bee") + field("/y") + right.digests[0] + b"\0" + field("y") + field("")
    )  # fmt: skip
    assert names.ids[0] == blake3(b"paddock.datum-id.v1\0" + identity).digest(length=16)
    assert names.keys[0] == blake3(b"paddock.datum-key.v1\0" + TRANSFORM + content).digest()
    assert names.sort_names[0] == f"/d {names.ids[0].hex()}"
    assert len(names.ids) == len(names.keys) == 2


def test_the_transform_digest_has_a_fixed_value() -> None:
    spec = spec_of(CROSS)
    text = (
        '{"accept_return_code":[],"cmd":["true"],"code":null,"env":{},"err_cmd":[],"err_stdin":[],"image":"",'
        '"placeholders":false,"stdin":[],"user":"","working_dir":""}'
    )
    assert transform_digest(spec, None) == blake3(b"paddock.transform.v1\0" + text.encode()).digest()


def changed(matches: FakeMatches, position: int) -> FakeMatches:
    digests = list(matches.digests)
    digests[position] = Digest(bytes(32))
    return replace(matches, digests=PackedBytes.of(digests, 32))


def test_a_changed_file_changes_the_keys_of_its_datums_only_and_no_id() -> None:
    left, right = match_paths("/*", ["/x", "/y"]), match_paths("/(*)", ["/1", "/2"])
    before = names_of(CROSS, [left, right])
    after = names_of(CROSS, [left, changed(right, 0)])
    assert before.ids == after.ids
    assert [old == new for old, new in zip(before.keys, after.keys, strict=True)] == [False, True, False, True]


@pytest.mark.parametrize(
    ("fields", "id_changes", "key_changes"),
    [
        ({"name": "b"}, True, True),
        ({"repo": "z", "name": "a"}, True, False),
        ({"project": "z"}, True, False),
        ({"branch": "z"}, True, False),
        ({"empty_files": True}, False, True),
        ({"join_on": "k"}, False, True),
        ({"group_by": "k"}, False, True),
        ({"glob": "/**"}, False, False),
        ({"outer_join": True}, False, False),
        ({"lazy": True}, False, False),
    ],
)
def test_what_ids_and_keys_depend_on(fields: dict[str, Any], id_changes: bool, key_changes: bool) -> None:
    matches = [match_paths("/*", ["/x"])]
    plain = {"repo": "a", "glob": "/*"}
    before = names_of({"pfs": plain}, matches)
    after = names_of({"pfs": {**plain, **fields}}, matches)
    assert (before.ids != after.ids) == id_changes
    assert (before.keys != after.keys) == key_changes


def test_keys_depend_on_the_transform() -> None:
    matches = [match_paths("/*", ["/x"])]
    node = {"pfs": {"repo": "a", "glob": "/*"}}
    assert names_of(node, matches).keys != names_of(node, matches, Digest(b"u" * 32)).keys
    assert names_of(node, matches).ids == names_of(node, matches, Digest(b"u" * 32)).ids


@pytest.mark.parametrize(
    "transform",
    [
        {"cmd": ["false"]},
        {"stdin": ["x"]},
        {"env": {"A": "1"}},
        {"working_dir": "/tmp"},
        {"accept_return_code": [1]},
        {"err_cmd": ["true"]},
        {"err_cmd": ["true"], "err_stdin": ["x"]},
        {"image": "x"},
        {"placeholders": True},
        {"warm": True},
    ],
)
def test_the_transform_digest_covers_what_can_change_results(transform: dict[str, Any]) -> None:
    node = {"pfs": {"repo": "a", "glob": "/*"}}
    plain = transform_digest(spec_of(node), None)
    other = transform_digest(spec_of(node, transform={"cmd": ["true"], **transform}), None)
    assert plain != other
    assert transform_digest(spec_of(node), Digest(bytes(32))) != plain


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "x"},
        {"pipeline": {"name": "other", "project": "q"}},
        {"parallelism_spec": {"constant": 3}},
        {"datum_tries": 1},
        {"datum_timeout": "1s"},
        {"job_timeout": "1s"},
        {"datum_set_spec": {"number": 1}},
        {"resource_limits": {"cpu": 2}},
        {"output_branch": "x"},
        {"transform": {"cmd": ["true"], "debug": True, "code": "./elsewhere"}},
        {"transform": {"cmd": ["true"], "accept_return_code": []}},
        {"transform": {"cmd": ["true"], "warm_datums_max": 5, "warm_memory_max": "1G"}},
    ],
)
def test_the_transform_digest_leaves_out_what_cannot(fields: dict[str, Any]) -> None:
    node = {"pfs": {"repo": "a", "glob": "/*"}}
    assert transform_digest(spec_of(node), None) == transform_digest(spec_of(node, **fields), None)


def test_exit_codes_are_a_set() -> None:
    node = {"pfs": {"repo": "a", "glob": "/*"}}
    first = transform_digest(spec_of(node, transform={"cmd": ["x"], "accept_return_code": [2, 1]}), None)
    assert first == transform_digest(spec_of(node, transform={"cmd": ["x"], "accept_return_code": [1, 2, 2]}), None)


def test_siblings_of_a_union_that_match_the_same_file_name_it_the_same() -> None:
    node = {"union": [{"pfs": {"repo": "a", "glob": "/*"}}, {"pfs": {"repo": "a", "glob": "/x*"}}]}
    matches = [match_paths("/*", ["/x"]), match_paths("/x*", ["/x"])]
    names = names_of(node, matches)
    assert len(set(names.ids)) == len(set(names.sort_names)) == 1


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {"group": [{"pfs": {"repo": "a", "glob": "/(?)*", "group_by": "$1"}}]}
    found = [match_paths("/(?)*", [f"/{letter}{number}" for letter in "abc" for number in range(letter == "b" or 3)])]
    crossed = [match_paths("/*", ["/x", "/y", "/z"]), match_paths("/(*)", ["/1", "/2"])]
    whole = [names_of(group, found), names_of(CROSS, crossed)]
    monkeypatch.setattr(keys, "BLOCK_DATUMS", 2)
    assert [names_of(group, found), names_of(CROSS, crossed)] == whole


def test_an_input_without_matches_has_no_names() -> None:
    assert names_of({"pfs": {"repo": "a", "glob": "/*"}}, [match_paths("/*", [])]) == Names([], [], [])
