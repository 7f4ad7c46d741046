"""JSON documents changed by patches: merge patches (RFC 7396) and lists of operations (RFC 6902). Pure; nothing given is changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}
"""What each operation of RFC 6902 needs."""


def merge(document: Any, patch: Any) -> Any:
    """The document after a merge patch: mappings are merged, null removes, everything else replaces (lists whole)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def check_operations(operations: Sequence[Any]) -> list[tuple[int, str]]:
    """What is wrong with a patch whatever it is applied to: (number of the operation, message)."""
    return [(index, fault) for index, operation in enumerate(operations) if (fault := _fault(operation))]


def apply_operations(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """The document after all operations, in order. ValueError names the operation that can't be done, its path, and why."""
    changed = copy.deepcopy(document)
    for index, operation in enumerate(operations):
        try:
            changed = _apply(changed, operation)
        except ValueError as error:
            raise ValueError(f"operation {index} ({operation['op']} {operation['path']}): {error}") from None
    return changed


def _fault(operation: Any) -> str:
    if not isinstance(operation, Mapping):
        return "an operation is a mapping; write for example {op: add, path: /hostNetwork, value: true}"
    name = operation.get("op")
    if not isinstance(name, str) or name not in OPERATIONS:
        return f"there is no operation {name!r}; write op: one of {', '.join(OPERATIONS)}"
    for key in OPERATIONS[name]:
        if key not in operation:
            return f"{name} needs {key!r}"
        if key == "value":
            continue
        pointer = operation[key]
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            return f"{key}: {pointer!r} is not a path; write for example /containers/0/resources"
    return ""


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    path = _parts(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            return _add(_remove(document, path), path, copy.deepcopy(operation["value"]))
        case "test":
            found = _at(document, path)
            if not _equal(found, operation["value"]):
                raise ValueError(f"the value there is {found!r}")
            return document
        case "copy":
            return _add(document, path, copy.deepcopy(_at(document, _parts(operation["from"]))))
        case "move":
            source = _parts(operation["from"])
            if path[: len(source)] == source and path != source:
                raise ValueError(f"{operation['from']} can't be moved into itself")
            value = _at(document, source)
            return _add(_remove(document, source), path, value)
    raise ValueError("there is no such operation")


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _at(document: Any, path: Sequence[str]) -> Any:
    for depth, part in enumerate(path):
        place = "/" + "/".join(path[: depth + 1])
        if isinstance(document, dict):
            if part not in document:
                raise ValueError(f"there is nothing at {place}")
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(part, len(document) - 1)]
        else:
            raise ValueError(f"there is nothing at {place}")
    return document


def _index(part: str, last: int) -> int:
    if not (part.isascii() and part.isdigit()) or (len(part) > 1 and part[0] == "0"):
        raise ValueError(f"{part!r} is not a position in a list")
    if int(part) > last:
        raise ValueError(f"the list has {last + 1} items, so none at {part}" if last >= 0 else "the list is empty")
    return int(part)


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    """`document`, changed in place."""
    if not path:
        return value
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    else:
        raise ValueError("what it is to be added to is neither a mapping nor a list")
    return document


def _remove(document: Any, path: Sequence[str]) -> Any:
    """`document`, changed in place."""
    if not path:
        return None
    _at(document, path)
    parent, last = _at(document, path[:-1]), path[-1]
    del parent[int(last) if isinstance(parent, list) else last]
    return document
