"""The compact protocol of Apache Thrift, as far as the footer of a Parquet file needs it: read, change, write.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from paddock.model.dataclass import dataclass

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_DEPTH_MAX = 64


@dataclass(slots=True)
class Struct:
    """Fields by id, in order: (type, value). Values of lists: (type of the items, items); of maps: (types, pairs)."""

    fields: dict[int, tuple[int, Any]] = field(default_factory=dict)

    def get(self, id: int) -> Any:
        """A field's value; of a list its items; None where it is missing."""
        kind, value = self.fields.get(id, (0, None))
        return value[1] if kind in (LIST, SET) else value

    def set(self, id: int, value: Any) -> None:
        """Give a field that is there another value; of a list other items."""
        kind, old = self.fields[id]
        self.fields[id] = kind, (old[0], value) if kind in (LIST, SET) else value


def read_struct(data: bytes) -> Struct:
    """ValueError where the bytes are no struct."""
    try:
        return _Reader(data).struct(0)
    except (IndexError, RecursionError) as error:
        raise ValueError("it ends too early") from error


def write_struct(value: Struct) -> bytes:
    target = bytearray()
    _write_struct(target, value)
    return bytes(target)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int) -> Struct:
        if depth > _DEPTH_MAX:
            raise ValueError("it is nested too deep")
        found = Struct()
        id = 0
        while head := self._byte():
            kind, delta = head & 15, head >> 4
            id = id + delta if delta else self._signed()
            found.fields[id] = kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return self._byte() == TRUE
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._unsigned())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._unsigned()
                self._check(count)
                return head & 15, [self._value(head & 15, depth + 1) for _ in range(count)]
            case 11:
                count = self._unsigned()
                self._check(count)
                kinds = self._byte() if count else 0
                types = kinds >> 4, kinds & 15
                return types, [tuple(self._value(each, depth + 1) for each in types) for _ in range(count)]
            case 12:
                return self.struct(depth + 1)
        raise ValueError(f"it has a field of the unknown type {kind}")

    def _check(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise ValueError("it ends too early")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._check(count)
        self._at += count
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("it has a number of more than 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _write_struct(target: bytearray, value: Struct) -> None:
    last = 0
    for id, (kind, content) in value.fields.items():
        stored = (TRUE if content else FALSE) if kind in (TRUE, FALSE) else kind
        if 0 < id - last < 16:
            target.append((id - last) << 4 | stored)
        else:
            target.append(stored)
            _write_signed(target, id)
        if kind not in (TRUE, FALSE):
            _write_value(target, kind, content)
        last = id
    target.append(0)


def _write_value(target: bytearray, kind: int, value: Any) -> None:
    match kind:
        case 1 | 2:
            target.append(TRUE if value else FALSE)
        case 3:
            target.append(value)
        case 4 | 5 | 6:
            _write_signed(target, value)
        case 7:
            target += value
        case 8:
            _write_unsigned(target, len(value))
            target += value
        case 9 | 10:
            item, items = value
            target.append(min(len(items), 15) << 4 | item)
            if len(items) > 14:
                _write_unsigned(target, len(items))
            for each in items:
                _write_value(target, item, each)
        case 11:
            types, pairs = value
            _write_unsigned(target, len(pairs))
            if pairs:
                target.append(types[0] << 4 | types[1])
            for pair in pairs:
                for each, content in zip(types, pair, strict=True):
                    _write_value(target, each, content)
        case 12:
            _write_struct(target, value)


def _write_signed(target: bytearray, value: int) -> None:
    _write_unsigned(target, ((value << 1) ^ (value >> 63)) & 0xFFFFFFFFFFFFFFFF)


def _write_unsigned(target: bytearray, value: int) -> None:
    while value > 127:
        target.append(value & 127 | 128)
        value >>= 7
    target.append(value)
