"""Secrets as the clients of Go send them, who keep releases of charts in them: a protobuf message in an envelope.

The numbers of the fields are those of Kubernetes' own `generated.proto` (of `runtime.Unknown`, `ObjectMeta` and `Secret`). Answers are JSON,
which these clients take as well.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from paddock.testing.kubernetes.statuses import Object, RefusedError

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"


def decode(body: bytes) -> Object:
    """A Secret as JSON has it; the options of a deletion are taken for none. Refused (415): anything else."""
    if not body.startswith(_MAGIC):
        raise RefusedError(415, "UnsupportedMediaType", "the body of the request is no message in protobuf")
    envelope = dict(_fields(memoryview(body)[len(_MAGIC) :]))
    kind = _texts(envelope[1])[2]
    if kind == "DeleteOptions":
        return {}
    if kind != "Secret":
        raise RefusedError(415, "UnsupportedMediaType", f"{kind} is not understood in protobuf; send it as JSON")
    return {"apiVersion": "v1", "kind": "Secret", **_secret(memoryview(envelope[2]))}


def _secret(message: memoryview) -> Object:
    found: Object = {"metadata": {}, "data": {}}
    for number, value in _fields(message):
        if number == 1:
            found["metadata"] = _metadata(memoryview(value))
        elif number == 2:
            key, content = _pair(value)
            found["data"][key] = base64.b64encode(content).decode()
        elif number == 3:
            found["type"] = value.decode()
    return found


def _metadata(message: memoryview) -> Object:
    names = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    found: Object = {}
    for number, value in _fields(message):
        if number in names and value:
            found[names[number]] = value.decode()
        elif number in (11, 12):
            key, content = _pair(value)
            found.setdefault("labels" if number == 11 else "annotations", {})[key] = content.decode()
    return found


def _pair(entry: bytes) -> tuple[str, bytes]:
    fields = dict(_fields(memoryview(entry)))
    return fields[1].decode(), fields.get(2, b"")


def _texts(message: bytes) -> dict[int, str]:
    return {number: value.decode() for number, value in _fields(memoryview(message))}


def _fields(message: memoryview) -> Iterator[tuple[int, bytes]]:
    """Number and value of each field that has bytes; numbers are read over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size, at = _varint(message, at)
        if key & 7 == 2:
            yield key >> 3, bytes(message[at : at + size])
            at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = message[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return found, at
