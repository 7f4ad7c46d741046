"""Row groups of a Parquet file as Parquet files of their own: the groups' bytes as they are, and a footer that names only them."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Sequence

from paddock.model.dataclass import dataclass
from paddock.storage.splitting.records import SplitError
from paddock.storage.splitting.thrift import Struct, read_struct, write_struct

MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_TAIL = struct.Struct("<I4s")

# Fields by their number in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_FILE_ROWS, _FILE_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_PATH, _CHUNK_OFFSET, _CHUNK_META = 1, 2, 3
_CHUNK_INDEXES = (4, 5, 6, 7)
"""Places of the page indexes, which lie outside of the groups and are left out."""
_META_BYTES, _META_DATA, _META_INDEX, _META_DICTIONARY = 7, 9, 10, 11
_META_BLOOM = (14, 15)

ReadRange = Callable[[int, int], bytes]
"""Bytes of the file: (offset, length)."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """offset, length: of its bytes in the file."""

    offset: int
    length: int
    rows: int


class ParquetFooter:
    """The footer of a Parquet file. SplitError: it has none, or a broken one."""

    def __init__(self, size: int, read: ReadRange) -> None:
        self._meta = _read_footer(size, read)
        try:
            self.groups = [_row_group(each) for each in self._meta.get(_FILE_GROUPS) or ()]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SplitError(f"has a broken Parquet footer: a row group can't be read ({error})", size) from error
        for number, group in enumerate(self.groups):
            if group.offset < len(MAGIC) or group.offset + group.length > size:
                raise SplitError(f"has a broken Parquet footer: row group {number} lies outside of the file", size)

    def piece(self, first: int, count: int) -> tuple[RowGroup, bytes]:
        """Some row groups as one, and the footer (with its length and magic) of a file of `PAR1` and their bytes."""
        groups = self.groups[first : first + count]
        start = min(group.offset for group in groups)
        end = max(group.offset + group.length for group in groups)
        merged = RowGroup(start, end - start, sum(group.rows for group in groups))
        meta = Struct(dict(self._meta.fields))
        chosen: Sequence[Struct] = self._meta.get(_FILE_GROUPS)[first : first + count]
        meta.set(_FILE_GROUPS, [_moved(each, len(MAGIC) - start, number) for number, each in enumerate(chosen)])
        meta.set(_FILE_ROWS, merged.rows)
        footer = write_struct(meta)
        return merged, footer + _TAIL.pack(len(footer), MAGIC)

    def at(self, offset: int, rows: int) -> tuple[int, int]:
        """(first, count) of the row groups that begin at a byte and hold so many rows."""
        first = next(number for number, group in enumerate(self.groups) if group.offset == offset and group.rows)
        count = total = 0
        while total < rows:
            total += self.groups[first + count].rows
            count += 1
        return first, count


def _read_footer(size: int, read: ReadRange) -> Struct:
    if size < len(MAGIC) + _TAIL.size or read(0, len(MAGIC)) not in (MAGIC, _ENCRYPTED):
        raise SplitError("is no Parquet file: it does not begin with PAR1", 0)
    length, magic = _TAIL.unpack(read(size - _TAIL.size, _TAIL.size))
    if magic == _ENCRYPTED:
        raise SplitError("is encrypted; decrypt it to split it", size - len(MAGIC))
    if magic != MAGIC:
        raise SplitError(
            "has a broken Parquet footer: it does not end in PAR1; the file was cut off", size - len(MAGIC)
        )
    start = size - _TAIL.size - length
    if start < len(MAGIC):
        raise SplitError(f"has a broken Parquet footer: it claims {length} bytes", size - _TAIL.size)
    try:
        return read_struct(read(start, length))
    except ValueError as error:
        raise SplitError(f"has a broken Parquet footer: {error}", start) from error


def _row_group(group: Struct) -> RowGroup:
    starts, ends = [], []
    for chunk in group.get(_GROUP_COLUMNS):
        if chunk.get(_CHUNK_PATH):
            raise ValueError("its columns lie in another file")
        meta = chunk.get(_CHUNK_META)
        start, dictionary = meta.get(_META_DATA), meta.get(_META_DICTIONARY)
        if dictionary:
            start = min(start, dictionary)
        starts.append(start)
        ends.append(start + meta.get(_META_BYTES))
    return RowGroup(min(starts), max(ends) - min(starts), group.get(_GROUP_ROWS))


def _moved(group: Struct, by: int, ordinal: int) -> Struct:
    """A row group whose bytes lie `by` further on."""
    moved = copy.deepcopy(group)
    if _GROUP_OFFSET in moved.fields:
        moved.set(_GROUP_OFFSET, moved.get(_GROUP_OFFSET) + by)
    if _GROUP_ORDINAL in moved.fields:
        moved.set(_GROUP_ORDINAL, ordinal)
    for chunk in moved.get(_GROUP_COLUMNS):
        if chunk.get(_CHUNK_OFFSET):
            chunk.set(_CHUNK_OFFSET, chunk.get(_CHUNK_OFFSET) + by)
        for id in _CHUNK_INDEXES:
            chunk.fields.pop(id, None)
        meta = chunk.get(_CHUNK_META)
        for id in (_META_DATA, _META_INDEX, _META_DICTIONARY):
            if meta.get(id):
                meta.set(id, meta.get(id) + by)
        for id in _META_BLOOM:
            meta.fields.pop(id, None)
    return moved
