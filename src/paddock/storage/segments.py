"""The canonical bytes of a run of table rows, and their schema. No pyarrow here: workers import this module.

A segment is plain Arrow buffers, little-endian, so that it is read without a copy; but framed by this layout, which
never changes, so that equal rows give equal bytes on any version of any library:

    "PDKSEG1\\n"                     8 bytes
    rows u32, buffers u32
    schema                          16 bytes: the start of BLAKE3 of the kind's name and columns (`schema_text`)
    the length of each buffer       u64 each
    the buffers                     each followed by zero bytes up to a multiple of 8

Buffers of a column, in order: string, binary: offsets i32 (rows + 1, the first is 0), data; fixed(n), numbers: data; list:
offsets i32, then the buffers of its items. There are no nulls. The first column is the key.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import accumulate
from typing import Any

from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.errors import Bug, LimitExceeded

MAGIC = b"PDKSEG1\n"
HEADER = struct.Struct("<8sII16s")
BUFFER_BYTES_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One of the types below; `width` is of fixed(n), `item` of a list."""

    name: str
    width: int = 0
    item: ColumnType | None = None

    def __str__(self) -> str:
        if self.item is not None:
            return f"list<{self.item}>"
        return f"{self.name}({self.width})" if self.name == "fixed" else self.name

    @property
    def buffers(self) -> int:
        """How many buffers a column of this type has."""
        if self.item is not None:
            return 1 + self.item.buffers
        return 2 if self.name in ("string", "binary") else 1


STRING = ColumnType("string")
BINARY = ColumnType("binary")
INT64 = ColumnType("int64")
INT32 = ColumnType("int32")
UINT8 = ColumnType("uint8")
FLOAT64 = ColumnType("float64")


def fixed(width: int) -> ColumnType:
    """Binary values of exactly `width` bytes."""
    return ColumnType("fixed", width)


def list_of(item: ColumnType) -> ColumnType:
    """Lists of values of a type that is not itself a list."""
    return ColumnType("list", item=item)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True)
class TableKind:
    """A kind of table. The first column is the key. An int64 column `size` is summed as the weight of segments and tables.

    A kind's name and columns are part of the stored format: a change makes it another kind.
    """

    name: str
    columns: tuple[Column, ...]
    schema: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", blake3(self.schema_text.encode()).digest()[:16])

    def __hash__(self) -> int:
        return hash(self.schema)  # of which the columns need not be hashed one by one

    @property
    def schema_text(self) -> str:
        """For example `tree:path=string,size=int64`."""
        return f"{self.name}:" + ",".join(f"{column.name}={column.type}" for column in self.columns)

    @property
    def key(self) -> Column:
        return self.columns[0]

    @property
    def weighted(self) -> bool:
        return any(column.name == "size" and column.type == INT64 for column in self.columns)


_NUMBERS = {"int64": "q", "int32": "i", "uint8": "B", "float64": "d"}


def encode_segment(kind: TableKind, columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The segment of these rows, in the order given: lists of equal length by column name, of str, bytes, int, float or lists.

    Pure Python, for workers; about 1 µs a value. Bug where lengths differ or a value does not fit its type.
    """
    rows = len(columns[kind.key.name])
    buffers: list[bytes] = []
    for column in kind.columns:
        values = columns[column.name]
        if len(values) != rows:
            raise Bug(f"column {column.name} of {kind.name} has {len(values)} values for {rows} rows")
        try:
            buffers += _column_buffers(column.type, values)
        except (struct.error, TypeError, AttributeError) as error:
            raise Bug(f"column {column.name} of {kind.name} holds a value that is no {column.type}: {error}") from error
    return frame(kind, rows, buffers)


def frame(kind: TableKind, rows: int, buffers: Sequence[bytes | memoryview]) -> bytes:
    """Put finished buffers into the layout above."""
    parts: list[bytes | memoryview] = [
        HEADER.pack(MAGIC, rows, len(buffers), kind.schema),
        struct.pack(f"<{len(buffers)}Q", *map(len, buffers)),
    ]
    for buffer in buffers:
        if len(buffer) > BUFFER_BYTES_MAX:
            raise LimitExceeded(
                f"one segment of a {kind.name} table would hold {len(buffer)} bytes in one column; use shorter keys"
            )
        parts.append(buffer)
        parts.append(bytes(-len(buffer) % 8))
    return b"".join(parts)


def _column_buffers(column_type: ColumnType, values: Sequence[Any]) -> list[bytes]:
    if column_type.item is not None:
        items = [item for value in values for item in value]
        return [_offsets(values), *_column_buffers(column_type.item, items)]
    if column_type.name == "string":
        values = [value.encode() for value in values]
    if column_type.name in ("string", "binary"):
        return [_offsets(values), b"".join(values)]
    if column_type.name == "fixed":
        if any(len(value) != column_type.width for value in values):
            raise TypeError(f"not {column_type.width} bytes long")
        return [b"".join(values)]
    return [struct.pack(f"<{len(values)}{_NUMBERS[column_type.name]}", *values)]


def _offsets(values: Sequence[Any]) -> bytes:
    return struct.pack(f"<{len(values) + 1}i", 0, *accumulate(map(len, values)))
