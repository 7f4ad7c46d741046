"""Segmented tables: sorted rows with a unique key, cut into segments by content, under one root.

Equal rows give equal roots whatever edits made them. A change rewrites the segments in which its keys fall; a
comparison reads the segments that differ. All work inside a segment is columnar.

The root is a segment (of kind `root:<kind>`) that lists the segments in order. The empty table has a root digest
too, but nothing is stored for it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.errors import Bug
from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.columnar import (
    bisect_key,
    conform,
    decode_segment,
    empty_table,
    encode_table,
    number_array,
    segment_ends,
    sort_by_key,
)
from paddock.storage.cuts import BOUNDARY_BITS
from paddock.storage.row_compare import differing
from paddock.storage.segments import TableKind
from paddock.storage.table_roots import Key, Root, SegmentRef, decode_root, empty_root, encode_root, last_key

_WINDOW_ROWS = 1 << 19
_CACHE_BYTES = 96 << 20
_AHEAD_FROM = 6
"""Fewer segments are read sooner than threads are started."""
_AHEAD_SEGMENTS = 6
_AHEAD_THREADS = 2


class Tables:
    """Reads and writes tables. Thread-safe. Keeps decoded segments, at most about 96 MiB, and roots.

    Errors of every read: Corrupt, or NotFound for a chunk that the store does not know.
    """

    def __init__(self, store: ChunkStore, *, boundary_bits: int = BOUNDARY_BITS) -> None:
        """`boundary_bits`: segments have 2 ** bits rows on average. Equal tables are only equal roots under the same number,
        so a home never uses another than the default; tests do, to have many segments of few rows.
        """
        self.store = store
        self.boundary_bits = boundary_bits
        self._cache = _SegmentCache(_CACHE_BYTES)
        self._roots: OrderedDict[Digest, Root] = OrderedDict()

    def forget_segments(self) -> None:
        """Let go of the decoded segments, after work that read more of them than is soon read again."""
        self._cache.clear()

    def empty(self, kind: TableKind) -> Digest:
        """The root of the table without rows."""
        return empty_root(kind)

    def root(self, kind: TableKind, digest: Digest) -> Root:
        """The segments of a table."""
        if digest == empty_root(kind):
            return Root((), 0, 0)
        root = self._roots.get(digest)
        if root is None:
            root = decode_root(kind, self.store.read(digest))
            self._roots[digest] = root
            if len(self._roots) > 16:
                self._roots.popitem(last=False)
        return root

    def write(self, kind: TableKind, table: pa.Table, writer: ChunkWriter) -> Digest:
        """Write a table of its own. Rows in any order; Conflict names a key that occurs twice."""
        table = sort_by_key(kind, conform(kind, table))
        windows = (table.slice(start, _WINDOW_ROWS) for start in range(0, table.num_rows, _WINDOW_ROWS))
        return self._write_sorted(kind, windows, writer)

    def _write_sorted(self, kind: TableKind, pieces: Iterable[pa.Table], writer: ChunkWriter) -> Digest:
        cutter = _Cutter(kind, writer, self.boundary_bits)
        for piece in pieces:
            cutter.feed(piece)
        cutter.end()
        return self._write_root(kind, cutter.segments, writer)

    def scan(
        self, kind: TableKind, root: Digest, first: Key | None = None, last: Key | None = None
    ) -> Iterator[pa.Table]:
        """Rows with first ≤ key < last in order, in one table for each segment that has any."""
        segments = [
            segment
            for segment in self.root(kind, root).segments
            if (first is None or segment.last >= first) and (last is None or segment.first < last)
        ]
        for segment, table in zip(segments, self._read_ahead(kind, segments), strict=True):
            start = 0 if first is None or segment.first >= first else bisect_key(table.column(0), first)
            end = table.num_rows
            if last is not None and segment.last >= last:
                end = bisect_key(table.column(0), last)
            if start < end:
                yield table.slice(start, end - start)

    def get(self, kind: TableKind, root: Digest, key: Key) -> dict[str, Any] | None:
        """The row of one key as plain values, or None. Reads at most one segment."""
        segments = self.root(kind, root).segments
        at = bisect_left(segments, key, key=last_key)
        if at == len(segments) or segments[at].first > key:
            return None
        table = self._segment(kind, segments[at])
        row = bisect_key(table.column(0), key)
        if row == table.num_rows or table.column(0)[row].as_py() != key:
            return None
        values: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
        return values

    def lookup(self, kind: TableKind, root: Digest, keys: pa.Array) -> pa.Table:
        """The rows whose key is among `keys` (any order, repeats allowed), sorted by key."""
        wanted = sorted(set(keys.to_pylist()))
        found = [empty_table(kind)]
        for segment, some in _by_segment(self.root(kind, root).segments, wanted):
            table = self._segment(kind, segment)
            values = pa.array(some, type=table.schema.field(0).type)
            found.append(table.filter(pc.is_in(table.column(0), value_set=values)))
        return pa.concat_tables(found).combine_chunks()

    def merge(
        self,
        kind: TableKind,
        root: Digest,
        upserts: pa.Table,
        deletions: pa.Array | Sequence[Key] | None,
        writer: ChunkWriter,
    ) -> Digest:
        """The table without the rows of `deletions` (missing ones are ignored), then with `upserts` added or replaced.

        Reads and writes only the segments in which keys fall, and those after them until a cut is met again.
        """
        upserts = sort_by_key(kind, conform(kind, upserts))
        deleted = deletions.to_pylist() if isinstance(deletions, pa.Array) else list(deletions or ())
        segments = self.root(kind, root).segments
        if not segments:
            return self.write(kind, upserts, writer)
        cutter = _Cutter(kind, writer, self.boundary_bits)
        for segment, changes in _split_changes(segments, upserts, sorted(set(deleted))):
            if changes is None and not cutter.carrying:
                cutter.segments.append(segment)
                continue
            table = self._segment(kind, segment)
            cutter.feed(table if changes is None else _apply(table, *changes))
        cutter.end()
        return self._write_root(kind, cutter.segments, writer)

    def merge_sorted(
        self,
        kind: TableKind,
        root: Digest,
        pieces: Iterable[pa.Table],
        deletions: Sequence[Key],
        writer: ChunkWriter,
    ) -> Digest:
        """As `merge`, with upserts that come in pieces, in the order of their keys. Onto an empty table they take the memory of a piece."""
        pieces = _in_order(kind, pieces)
        if not self.root(kind, root).segments:
            return self._write_sorted(kind, pieces, writer)
        return self.merge(kind, root, pa.concat_tables([empty_table(kind), *pieces]), deletions, writer)

    def diff(
        self, kind: TableKind, old: Digest, new: Digest, first: Key | None = None, last: Key | None = None
    ) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Pairs of (rows only in old or changed, as they were; rows only in new or changed, as they are), in key order.

        Each pair covers a range of keys; both sides are sorted. Reads only segments that differ. With first ≤ key < last.
        """
        if old == new:
            return
        old_segments, new_segments = self.root(kind, old).segments, self.root(kind, new).segments
        same = {segment.digest for segment in old_segments} & {segment.digest for segment in new_segments}
        left = _Feed(self, kind, [s for s in old_segments if s.digest not in same], first, last)
        right = _Feed(self, kind, [s for s in new_segments if s.digest not in same], first, last)
        while left.fill() | right.fill():
            limit = min((key for key in (left.last, right.last) if key is not None), default=None)
            pair = differing(left.take(limit), right.take(limit))
            if pair[0].num_rows or pair[1].num_rows:
                yield pair

    def _read_ahead(self, kind: TableKind, segments: Sequence[SegmentRef]) -> Iterator[pa.Table]:
        """The segments in order; where there are many, others read, decompress and verify the next ones meanwhile."""
        if len(segments) < _AHEAD_FROM:
            yield from (self._segment(kind, segment) for segment in segments)
            return
        with ThreadPoolExecutor(_AHEAD_THREADS, thread_name_prefix="paddock-read") as pool:
            coming: deque[Future[pa.Table]] = deque()
            try:
                for segment in segments:
                    coming.append(pool.submit(self._segment, kind, segment))
                    if len(coming) > _AHEAD_SEGMENTS:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def _segment(self, kind: TableKind, segment: SegmentRef) -> pa.Table:
        table = self._cache.get(segment.digest)
        if table is None:
            table = decode_segment(kind, self.store.read(segment.digest))
            self._cache.put(segment.digest, table)
        return table

    def _write_root(self, kind: TableKind, segments: Sequence[SegmentRef], writer: ChunkWriter) -> Digest:
        if not segments:
            return empty_root(kind)
        return writer.put(encode_root(kind, segments))


def _in_order(kind: TableKind, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The pieces, conforming. Bug where a key is not above the one before it."""
    last: Key | None = None
    for piece in pieces:
        keys = piece.column(0)
        if len(keys) == 0:
            continue
        ordered = len(keys) == 1 or pc.all(pc.less(keys[:-1], keys[1:])).as_py()
        if not ordered or (last is not None and keys[0].as_py() <= last):
            raise Bug(f"rows of a {kind.name} table do not come in order")
        last = keys[-1].as_py()
        yield conform(kind, piece)


class _Cutter:
    """Cuts a stream of sorted rows into segments and writes them."""

    def __init__(self, kind: TableKind, writer: ChunkWriter, boundary_bits: int) -> None:
        self.segments: list[SegmentRef] = []
        self._kind = kind
        self._writer = writer
        self._boundary_bits = boundary_bits
        self._carried: list[pa.Table] = []

    @property
    def carrying(self) -> bool:
        """Whether rows wait for the next cut."""
        return bool(self._carried)

    def feed(self, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            return
        start = 0
        for end in segment_ends(rows, self._boundary_bits):
            self._emit(rows.slice(start, end - start))
            start = end
        if start < rows.num_rows:
            self._carried.append(rows.slice(start))

    def end(self) -> None:
        if self._carried:
            self._emit(self._carried.pop())

    def _emit(self, rows: pa.Table) -> None:
        if self._carried:
            rows = pa.concat_tables([*self._carried, rows]).combine_chunks()
            self._carried.clear()
        keys = rows.column(0)
        weight = pc.sum(rows.column("size")).as_py() if self._kind.weighted else 0
        digest = self._writer.put(encode_table(self._kind, rows))
        first, last = keys[0].as_py(), keys[-1].as_py()
        self.segments.append(SegmentRef(first, last, rows.num_rows, weight, digest))


class _Feed:
    """One side of a comparison: rows of the differing segments, taken in step with the other side."""

    def __init__(
        self,
        tables: Tables,
        kind: TableKind,
        segments: Sequence[SegmentRef],
        first: Key | None,
        last: Key | None,
    ) -> None:
        self._rows = empty_table(kind)
        self._parts = self._read(tables, kind, segments, first, last)
        self._ended = False

    @staticmethod
    def _read(
        tables: Tables, kind: TableKind, segments: Sequence[SegmentRef], first: Key | None, last: Key | None
    ) -> Iterator[pa.Table]:
        chosen = [
            segment
            for segment in segments
            if (first is None or segment.last >= first) and (last is None or segment.first < last)
        ]
        for table in tables._read_ahead(kind, chosen):
            start = 0 if first is None else bisect_key(table.column(0), first)
            end = table.num_rows if last is None else bisect_key(table.column(0), last)
            if start < end:
                yield table.slice(start, end - start)

    def fill(self) -> bool:
        """Have rows where there are any left; whether there are."""
        if self._rows.num_rows == 0 and not self._ended:
            following = next(self._parts, None)
            if following is None:
                self._ended = True
            else:
                self._rows = following
        return bool(self._rows.num_rows > 0)

    @property
    def last(self) -> Key | None:
        """The last key at hand; None where the side has ended."""
        return self._rows.column(0)[-1].as_py() if self._rows.num_rows else None

    def take(self, limit: Key | None) -> pa.Table:
        """The rows at hand up to and including `limit`."""
        keys = self._rows.column(0)
        end = bisect_key(keys, limit)
        if end < len(keys) and keys[end].as_py() == limit:
            end += 1
        taken, self._rows = self._rows.slice(0, end), self._rows.slice(end)
        return taken


class _SegmentCache:
    def __init__(self, bytes_max: int) -> None:
        self._tables: OrderedDict[Digest, pa.Table] = OrderedDict()
        self._bytes = 0
        self._bytes_max = bytes_max
        self._lock = threading.Lock()

    def get(self, digest: Digest) -> pa.Table | None:
        with self._lock:
            table = self._tables.get(digest)
            if table is not None:
                self._tables.move_to_end(digest)
            return table

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()
            self._bytes = 0

    def put(self, digest: Digest, table: pa.Table) -> None:
        with self._lock:
            if digest not in self._tables:
                self._tables[digest] = table
                self._bytes += table.nbytes
            while self._bytes > self._bytes_max:
                self._bytes -= self._tables.popitem(last=False)[1].nbytes


def _by_segment(segments: Sequence[SegmentRef], keys: Sequence[Key]) -> Iterator[tuple[SegmentRef, Sequence[Key]]]:
    """Segments that may hold some of the sorted keys, with those keys."""
    start = 0
    while start < len(keys):
        at = bisect_left(segments, keys[start], key=last_key)
        if at == len(segments):
            return
        end = bisect_left(keys, segments[at].last, lo=start)
        end += end < len(keys) and keys[end] == segments[at].last
        yield segments[at], keys[start:end]
        start = end


_Changes = tuple[pa.Table, list[Key], Sequence[Key]]


def _split_changes(
    segments: Sequence[SegmentRef], upserts: pa.Table, deletions: Sequence[Key]
) -> Iterator[tuple[SegmentRef, _Changes | None]]:
    """Each segment with the upserts (rows, and their keys) and deletions that fall into it; keys past the end fall into the last."""
    keys = upserts.column(0).to_pylist()
    upsert = deletion = 0
    for number, segment in enumerate(segments):
        if number == len(segments) - 1:
            upsert_end, deletion_end = len(keys), len(deletions)
        else:
            upsert_end = _after(keys, segment.last, upsert)
            deletion_end = _after(deletions, segment.last, deletion)
        if upsert_end > upsert or deletion_end > deletion:
            rows = upserts.slice(upsert, upsert_end - upsert)
            yield segment, (rows, keys[upsert:upsert_end], deletions[deletion:deletion_end])
        else:
            yield segment, None
        upsert, deletion = upsert_end, deletion_end


def _after(keys: Sequence[Key], key: Key, start: int) -> int:
    at = bisect_left(keys, key, lo=start)
    return at + 1 if at < len(keys) and keys[at] == key else at


def _apply(table: pa.Table, upserts: pa.Table, upsert_keys: list[Key], deletions: Sequence[Key]) -> pa.Table:
    """Sorted rows of the segment without the deletions, with the upserts."""
    positions, replaced = _positions(table.column(0), upsert_keys)
    deleted, hits = _positions(table.column(0), deletions)
    keep = np.ones(table.num_rows, dtype=bool)
    keep[positions[replaced]] = False
    keep[deleted[hits]] = False
    kept_before = np.concatenate(([0], np.cumsum(keep)))
    rows = np.insert(np.flatnonzero(keep), kept_before[positions], table.num_rows + np.arange(upserts.num_rows))
    return pa.concat_tables([table, upserts]).take(number_array(rows)).combine_chunks()


def _positions(keys: pa.ChunkedArray, wanted: Sequence[Key]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each wanted key its place among the sorted keys, and whether it is there."""
    if len(wanted) < 64:
        places = [bisect_key(keys, key) for key in wanted]
        present = [at < len(keys) and keys[at].as_py() == key for at, key in zip(places, wanted, strict=True)]
    else:
        listed = keys.to_pylist()
        places = [bisect_left(listed, key) for key in wanted]
        present = [at < len(listed) and listed[at] == key for at, key in zip(places, wanted, strict=True)]
    return np.array(places, dtype=np.int64), np.array(present, dtype=bool)
