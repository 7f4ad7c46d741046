"""Segments as Arrow tables: the same bytes as `segments.encode_segment`, without a loop over rows."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.errors import Bug, Conflict, Corrupt
from paddock.storage.boundaries import boundaries
from paddock.storage.segments import HEADER, MAGIC, ColumnType, TableKind, frame

_SIMPLE = {
    "string": pa.string(),
    "binary": pa.binary(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint8": pa.uint8(),
    "float64": pa.float64(),
}


def arrow_type(column_type: ColumnType) -> Any:
    """The Arrow type of a column."""
    if column_type.item is not None:
        return pa.list_(arrow_type(column_type.item))
    if column_type.name == "fixed":
        return pa.binary(column_type.width)
    return _SIMPLE[column_type.name]


@lru_cache(maxsize=64)
def arrow_schema(kind: TableKind) -> pa.Schema:
    """The Arrow schema of a kind of table; nothing is nullable in fact."""
    return pa.schema([pa.field(column.name, arrow_type(column.type)) for column in kind.columns])


def conform(kind: TableKind, table: pa.Table) -> pa.Table:
    """The table with the kind's columns in the kind's order and types. Bug where it does not fit."""
    schema = arrow_schema(kind)
    if table.schema != schema:
        try:
            table = table.select(schema.names).cast(schema)
        except (KeyError, pa.ArrowInvalid, ValueError) as error:
            raise Bug(f"a table does not have the columns of {kind.name}: {error}") from error
    return table


def empty_table(kind: TableKind) -> pa.Table:
    return arrow_schema(kind).empty_table()


def sort_by_key(kind: TableKind, table: pa.Table) -> pa.Table:
    """Rows in order of the key, bytewise. Conflict names a key that occurs twice. Costs little where they are sorted."""
    keys = table.column(0)
    if len(table) > 1 and not pc.all(pc.less(keys[:-1], keys[1:])).as_py():
        table = table.take(pc.sort_indices(keys)).combine_chunks()
        keys = table.column(0)
        same = pc.equal(keys[:-1], keys[1:])
        if pc.any(same).as_py():
            twice = keys[pc.index(same, True).as_py()].as_py()
            raise Conflict(f"{kind.key.name} {_shown(twice)} occurs twice in one {kind.name} table")
    return table


def encode_table(kind: TableKind, table: pa.Table) -> bytes:
    """The segment of a conforming table, in its row order."""
    buffers: list[bytes | memoryview] = []
    for column in table.columns:
        buffers += _array_buffers(single_array(column))
    return frame(kind, table.num_rows, buffers)


def decode_segment(kind: TableKind, data: bytes) -> pa.Table:
    """The rows of a segment, over the bytes of `data` without a copy. Corrupt where it is none of this kind."""
    buffer = pa.py_buffer(data)
    try:
        magic, rows, count, schema = HEADER.unpack_from(data)
        lengths = struct.unpack_from(f"<{count}Q", data, HEADER.size)
    except struct.error as error:
        raise Corrupt(f"a segment of a {kind.name} table is too short: {error}") from error
    expected = sum(column.type.buffers for column in kind.columns)
    padded = HEADER.size + 8 * count + sum(length + -length % 8 for length in lengths)
    if magic != MAGIC or schema != kind.schema or count != expected or padded != len(data):
        raise Corrupt(f"a chunk is not a segment of a {kind.name} table, or of a format this version does not know")
    buffers = _slices(buffer, HEADER.size + 8 * count, lengths)
    arrays = [_array(arrow_type(column.type), rows, buffers) for column in kind.columns]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(kind))


def segment_ends(table: pa.Table, boundary_bits: int) -> list[int]:
    """Row numbers after which a segment ends, by the keys alone."""
    offsets, data = key_bytes(single_array(table.column(0)))
    return [int(index) + 1 for index in boundaries(offsets, data, boundary_bits)]


def key_bytes(array: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Offsets (from 0) and joined bytes of a string, binary or fixed-size binary array."""
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        offsets = np.arange(len(array) + 1, dtype=np.int32) * np.int32(width)
        return offsets, np.frombuffer(_fixed_data(array, width), dtype=np.uint8)
    offsets, start, end = _offset_view(array)
    data = array.buffers()[2]
    if data is None or start == end:
        return offsets, np.empty(0, dtype=np.uint8)
    return offsets, np.frombuffer(data, dtype=np.uint8)[start:end]


def number_array(values: npt.NDArray[Any]) -> pa.Array:
    """As an Arrow array, without a copy; `pa.array` would load numpy.ma for it, 25 ms of a command."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def flag_array(values: npt.NDArray[np.bool_]) -> pa.Array:
    """As an Arrow array of booleans; see `number_array`."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def single_array(column: pa.ChunkedArray) -> pa.Array:
    """The one array of a column in one piece."""
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def bisect_key(keys: pa.Array | pa.ChunkedArray, key: Any) -> int:
    """The first row whose key is not less than `key`; rows are sorted. Some 15 µs."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle].as_py() < key:
            low = middle + 1
        else:
            high = middle
    return low


def _array_buffers(array: pa.Array) -> Iterator[bytes | memoryview]:
    if array.null_count:
        raise Bug("a table holds a null; segments have none")
    if pa.types.is_list(array.type):
        offsets, start, end = _offset_view(array)
        yield offsets.view(np.uint8).data
        yield from _array_buffers(array.values[start:end])
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        offsets, start, end = _offset_view(array)
        yield offsets.view(np.uint8).data
        data = array.buffers()[2]
        yield b"" if data is None else memoryview(data)[start:end]
    elif pa.types.is_fixed_size_binary(array.type):
        yield _fixed_data(array, array.type.byte_width)
    else:
        yield _fixed_data(array, array.type.bit_width // 8)


def _offset_view(array: pa.Array) -> tuple[npt.NDArray[np.int32], int, int]:
    """Offsets from 0, and where the data starts and ends in its buffer."""
    buffer = array.buffers()[1]
    if len(array) == 0 or buffer is None:
        return np.zeros(1, dtype=np.int32), 0, 0
    view = np.frombuffer(buffer, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    start, end = int(view[0]), int(view[-1])
    return (view - view[0] if start else view), start, end


def _fixed_data(array: pa.Array, width: int) -> memoryview:
    data = array.buffers()[1]
    if data is None:
        return memoryview(b"")
    return memoryview(data)[array.offset * width : (array.offset + len(array)) * width]


def _slices(buffer: pa.Buffer, position: int, lengths: tuple[int, ...]) -> Iterator[pa.Buffer]:
    for length in lengths:
        yield buffer.slice(position, length)
        position += length + -length % 8


def _array(arrow: Any, rows: int, buffers: Iterator[pa.Buffer]) -> pa.Array:
    if pa.types.is_list(arrow):
        offsets = next(buffers)
        items = int(np.frombuffer(offsets, dtype=np.int32)[-1])
        child = _array(arrow.value_type, items, buffers)
        return pa.Array.from_buffers(arrow, rows, [None, offsets], 0, 0, [child])
    if pa.types.is_string(arrow) or pa.types.is_binary(arrow):
        return pa.Array.from_buffers(arrow, rows, [None, next(buffers), next(buffers)], 0)
    return pa.Array.from_buffers(arrow, rows, [None, next(buffers)], 0)


def _shown(key: Any) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)
