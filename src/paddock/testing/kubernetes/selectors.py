"""Label and field selectors, as list and watch take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from paddock.testing.kubernetes.statuses import Object, RefusedError

Selector = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>[\w./-]+)\s+(?P<word>in|notin)\s+\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[\w./-]+)\s*(?P<word>==|=|!=)\s*(?P<value>[\w./-]*)$")
_KEY = re.compile(r"^(?P<not>!?)\s*(?P<key>[\w./-]+)$")
_COMMA = re.compile(r",(?![^(]*\))")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "pods": ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.restartPolicy"),
    "events": ("metadata.name", "metadata.namespace", "involvedObject.name", "involvedObject.uid", "reason", "type"),
}
"""What may be selected by; of other kinds name and namespace."""


def selector(resource: str, *, labels: str, fields: str) -> Selector:
    """Whether an object is meant by both selectors. Refused (400): they can't be read, or a field can't be selected by."""
    parts = [_label(part.strip()) for part in _COMMA.split(labels) if part.strip()]
    parts += [_field(resource, part.strip()) for part in fields.split(",") if part.strip()]
    return lambda found: all(part(found) for part in parts)


def _labels(found: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels


def _label(text: str) -> Selector:
    if match := _SET.match(text):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["word"] == "in":
            return lambda found: _labels(found).get(key) in values
        return lambda found: _labels(found).get(key) not in values
    if match := _EQUAL.match(text):
        key, value = match["key"], match["value"]
        if match["word"] == "!=":
            return lambda found: _labels(found).get(key) != value
        return lambda found: _labels(found).get(key) == value
    if match := _KEY.match(text):
        key, absent = match["key"], bool(match["not"])
        return lambda found: (key in _labels(found)) != absent
    raise RefusedError(400, "BadRequest", f'unable to parse requirement: found "{text}"')


def _field(resource: str, text: str) -> Selector:
    match = _EQUAL.match(text)
    known = FIELDS.get(resource, ("metadata.name", "metadata.namespace"))
    if match is None or match["key"] not in known:
        raise RefusedError(400, "BadRequest", f'field label not supported: "{text}"')
    path, value, different = match["key"].split("."), match["value"], match["word"] == "!="
    return lambda found: (_at(found, path) == value) != different


def _at(found: Object, path: list[str]) -> str:
    inner: object = found
    for part in path:
        inner = inner.get(part, "") if isinstance(inner, dict) else ""
    return str(inner)
