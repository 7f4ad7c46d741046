"""Rows of a segment where they lie, and segments made of runs of rows. No pyarrow or numpy: for few rows, by commands that start for them.

A read of one key is a bisection over the offsets; a new segment is made of slices of its columns, not of values.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from paddock.model.errors import Corrupt
from paddock.storage.segments import HEADER, MAGIC, ColumnType, TableKind, frame

_WIDTHS = {"int64": 8, "int32": 4, "uint8": 1, "float64": 8}
_FORMATS: dict[str, Any] = {"int64": "q", "int32": "i", "uint8": "B", "float64": "d"}


class SegmentView:
    """A segment's rows, over its bytes. Corrupt where they are none of this kind."""

    def __init__(self, kind: TableKind, data: bytes) -> None:
        self.kind = kind
        self._numbers = {column.name: number for number, column in enumerate(kind.columns)}
        try:
            magic, rows, count, schema = HEADER.unpack_from(data)
            lengths = struct.unpack_from(f"<{count}Q", data, HEADER.size)
        except struct.error as error:
            raise Corrupt(f"a segment of a {kind.name} table is too short: {error}") from error
        position = HEADER.size + 8 * count
        expected = sum(column.type.buffers for column in kind.columns)
        padded = position + sum(length + -length % 8 for length in lengths)
        if magic != MAGIC or schema != kind.schema or count != expected or padded != len(data):
            raise Corrupt(f"a chunk is not a segment of a {kind.name} table, or of a format this version does not know")
        self.rows: int = rows
        self._columns: list[list[memoryview]] = []
        whole = memoryview(data)
        buffers = iter(lengths)
        for column in kind.columns:
            taken: list[memoryview] = []
            for _ in range(column.type.buffers):
                length = next(buffers)
                taken.append(whole[position : position + length])
                position += length + -length % 8
            self._columns.append(taken)
        self._key_offsets = self._columns[0][0].cast("i")

    def key(self, row: int) -> bytes:
        """The key of a row, of text in UTF-8. The key column is text or binary."""
        return bytes(self._columns[0][1][self._key_offsets[row] : self._key_offsets[row + 1]])

    def bisect(self, key: bytes) -> int:
        """The first row whose key is not less."""
        low, high = 0, self.rows
        while low < high:
            middle = (low + high) // 2
            if self.key(middle) < key:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, key: bytes) -> int | None:
        """The row of a key."""
        row = self.bisect(key)
        return row if row < self.rows and self.key(row) == key else None

    def directly_below(self, stem: bytes, row: int) -> Iterator[int]:
        """Of rows from `row` on, whose keys are paths, those whose key is the stem and a name; what is below a longer stem is leapt over."""
        while row < self.rows:
            key = self.key(row)
            if not key.startswith(stem):
                return
            inner = key.find(b"/", len(stem))
            if inner < 0:
                yield row
                row += 1
            else:
                row = self.bisect(key[:inner] + b"0")  # which follows "/"

    def numbers(self, column: str) -> Sequence[int]:
        """A column of integers."""
        number = self._numbers[column]
        return self._columns[number][0].cast(_FORMATS[self.kind.columns[number].type.name])

    def value(self, row: int, column: str) -> Any:
        """One value: str, bytes, int, float, or a list of these."""
        number = self._numbers[column]
        return _value(self.kind.columns[number].type, self._columns[number], row)

    def values(self, column: str) -> list[Any]:
        """All values of a column."""
        number = self._numbers[column]
        return _values(self.kind.columns[number].type, self._columns[number], self.rows)

    def buffers(self, number: int) -> Sequence[memoryview]:
        return self._columns[number]


class Run(NamedTuple):
    """The rows first ≤ row < last of a segment."""

    view: SegmentView
    first: int
    last: int


def joined(kind: TableKind, runs: Sequence[Run]) -> bytes:
    """The segment of these rows one after the other: the bytes that `encode_segment` makes of their values."""
    buffers: list[bytes] = []
    for number, column in enumerate(kind.columns):
        parts = [(run.view.buffers(number), run.first, run.last) for run in runs]
        buffers += _joined_column(column.type, parts)
    return frame(kind, sum(run.last - run.first for run in runs), buffers)


_Part = tuple[Sequence[memoryview], int, int]


def _joined_column(column_type: ColumnType, parts: Sequence[_Part]) -> list[bytes]:
    if column_type.item is None and column_type.name not in ("string", "binary"):
        width = column_type.width if column_type.name == "fixed" else _WIDTHS[column_type.name]
        return [b"".join(buffers[0][first * width : last * width] for buffers, first, last in parts)]
    offsets = array("i", [0])
    inner: list[_Part] = []
    for buffers, first, last in parts:
        own = buffers[0].cast("i")[first : last + 1]
        shift = offsets[-1] - own[0]
        offsets.extend([offset + shift for offset in own[1:]] if shift else own[1:])
        inner.append((buffers[1:], own[0], own[-1]))
    if column_type.item is not None:
        return [offsets.tobytes(), *_joined_column(column_type.item, inner)]
    return [offsets.tobytes(), b"".join(buffers[0][first:last] for buffers, first, last in inner)]


def _value(column_type: ColumnType, buffers: Sequence[memoryview], row: int) -> Any:
    if column_type.item is not None:
        offsets = buffers[0].cast("i")
        return [_value(column_type.item, buffers[1:], at) for at in range(offsets[row], offsets[row + 1])]
    if column_type.name == "fixed":
        return bytes(buffers[0][row * column_type.width : (row + 1) * column_type.width])
    if column_type.name in ("string", "binary"):
        offsets = buffers[0].cast("i")
        data = bytes(buffers[1][offsets[row] : offsets[row + 1]])
        return data.decode() if column_type.name == "string" else data
    return buffers[0].cast(_FORMATS[column_type.name])[row]


def _values(column_type: ColumnType, buffers: Sequence[memoryview], rows: int) -> list[Any]:
    if column_type.item is not None:
        return [_value(column_type, buffers, row) for row in range(rows)]
    if column_type.name == "fixed":
        width, data = column_type.width, bytes(buffers[0])
        return [data[at : at + width] for at in range(0, rows * width, width)]
    if column_type.name in ("string", "binary"):
        offsets, data = buffers[0].cast("i").tolist(), bytes(buffers[1])
        found = [data[first:last] for first, last in pairwise(offsets)]
        return [value.decode() for value in found] if column_type.name == "string" else found
    return list(buffers[0].cast(_FORMATS[column_type.name]))
