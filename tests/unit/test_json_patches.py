"""Merge patches (RFC 7396) and operations (RFC 6902), with the examples of the RFCs."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.model.json_patches import apply_operations, check_operations, merge


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(document: Any, patch: Any, result: Any) -> None:
    assert merge(document, patch) == result


@pytest.mark.parametrize(
    ("document", "operation", "result"),
    [
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"foo": "bar", "baz": "qux"}),
        ({"foo": ["a", "b"]}, {"op": "add", "path": "/foo/1", "value": "q"}, {"foo": ["a", "q", "b"]}),
        ({"foo": ["a"]}, {"op": "add", "path": "/foo/-", "value": ["b"]}, {"foo": ["a", ["b"]]}),
        ({"baz": "q", "foo": 1}, {"op": "remove", "path": "/baz"}, {"foo": 1}),
        ({"foo": [1, 2, 3]}, {"op": "remove", "path": "/foo/1"}, {"foo": [1, 3]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": None}, {"a": None}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"l": [1, 2, 3]}, {"op": "move", "from": "/l/0", "path": "/l/2"}, {"l": [2, 3, 1]}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"a/b": 1}, {"op": "replace", "path": "/a~1b", "value": 2}, {"a/b": 2}),
        ({"a": 1}, {"op": "replace", "path": "", "value": {"b": 2}}, {"b": 2}),
    ],
)
def test_operations(document: Any, operation: dict[str, Any], result: Any) -> None:
    before = repr(document)
    assert check_operations([operation]) == []
    assert apply_operations(document, [operation]) == result
    assert repr(document) == before, "what is given is not changed"


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "remove", "path": "/a/b"}, "there is nothing at /a/b"),
        ({"op": "replace", "path": "/x", "value": 1}, "there is nothing at /x"),
        ({"op": "add", "path": "/x/y", "value": 1}, "there is nothing at /x"),
        ({"op": "add", "path": "/l/9", "value": 1}, "the list has"),
        ({"op": "add", "path": "/l/01", "value": 1}, "not a position"),
        ({"op": "remove", "path": "/l/-"}, "not a position"),
        ({"op": "test", "path": "/t", "value": 1}, "the value there is True"),
        ({"op": "add", "path": "/t/x", "value": 1}, "neither a mapping nor a list"),
        ({"op": "move", "from": "/a", "path": "/a/b"}, "into itself"),
    ],
)
def test_an_operation_that_can_not_be_done_is_named(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        apply_operations({"a": {}, "l": [1], "t": True}, [{"op": "test", "path": "/l/0", "value": 1}, operation])
    assert str(caught.value).startswith(f"operation 1 ({operation['op']} {operation['path']}): ")


def test_a_patch_is_checked_before_it_is_used() -> None:
    faults = check_operations(
        [
            "add",
            {"op": "delete", "path": "/a"},
            {"op": "add", "path": "/a"},
            {"op": "remove", "path": "a"},
            {"op": "copy", "path": "/a"},
            {"op": "add", "path": "/a", "value": None},
        ]
    )
    assert [index for index, _ in faults] == [0, 1, 2, 3, 4]
    assert "needs 'value'" in faults[2][1]
    assert "'a' is not a path" in faults[3][1]
    assert "needs 'from'" in faults[4][1]
