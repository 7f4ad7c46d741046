"""The root of a segmented table: the list of its segments. No pyarrow here: commands that change a few rows import this module.

The root is a segment of its own (of kind `root:<kind>`). The empty table has a root digest too, but nothing is stored for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from blake3 import blake3

from paddock.model.ids import Digest
from paddock.storage.segment_views import SegmentView
from paddock.storage.segments import BINARY, INT64, STRING, Column, TableKind, encode_segment, fixed

Key: TypeAlias = Any
"""str where the key column is text, else bytes."""


class SegmentRef(NamedTuple):
    """One segment: its first and last key, rows, weight (sum of `size`), and digest."""

    first: Key
    last: Key
    rows: int
    weight: int
    digest: Digest


class Root(NamedTuple):
    segments: tuple[SegmentRef, ...]
    rows: int
    weight: int


@lru_cache(maxsize=64)
def root_kind(kind: TableKind) -> TableKind:
    """The kind of the table of segments of a table."""
    columns = (
        Column("first", BINARY),
        Column("last", BINARY),
        Column("rows", INT64),
        Column("size", INT64),
        Column("digest", fixed(32)),
    )
    return TableKind(f"root:{kind.name}", columns)


def encode_root(kind: TableKind, segments: Sequence[SegmentRef]) -> bytes:
    """The bytes of a root."""
    columns: dict[str, list[Any]] = {
        "first": [key_bytes_of(segment.first) for segment in segments],
        "last": [key_bytes_of(segment.last) for segment in segments],
        "rows": [segment.rows for segment in segments],
        "size": [segment.weight for segment in segments],
        "digest": [segment.digest for segment in segments],
    }
    return encode_segment(root_kind(kind), columns)


def decode_root(kind: TableKind, data: bytes) -> Root:
    """A root from its bytes. Corrupt where they are none of this kind."""
    view = SegmentView(root_kind(kind), data)
    columns = {column.name: view.values(column.name) for column in view.kind.columns}
    if kind.key.type == STRING:
        for name in ("first", "last"):
            columns[name] = [key.decode() for key in columns[name]]
    segments = tuple(map(SegmentRef, *(columns[name] for name in ("first", "last", "rows", "size", "digest"))))
    return Root(segments, sum(columns["rows"]), sum(columns["size"]))


@lru_cache(maxsize=64)
def empty_root(kind: TableKind) -> Digest:
    """The root digest of the empty table. It is not stored."""
    return Digest(blake3(encode_root(kind, ())).digest())


def last_key(segment: SegmentRef) -> Any:
    """The key to search a sorted list of segments by."""
    return segment.last


def key_bytes_of(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else key
