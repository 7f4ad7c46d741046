"""Copying the chunks that are in use out of packs that hold mostly garbage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from paddock.model.ids import Digest, PackId
from paddock.model.records import Location, PackRecord
from paddock.storage.chunks import decode_chunk
from paddock.storage.objects import ObjectStore
from paddock.storage.pack_sink import PACK_BYTES
from paddock.storage.packs import PackWriter, encode_index, pack_key, pack_record

_GAP_BYTES = 64 << 10
_RUN_BYTES = 16 << 20
_PACK_CHUNKS = 1 << 17
"""More in one pack would take hundreds of megabytes as objects."""


class Copy(NamedTuple):
    """A new pack, durable; its chunks as the 49 bytes each of its own index."""

    pack: PackId
    pack_bytes: int
    chunks: int
    chunk_bytes: int
    entries: bytes

    def record(self) -> PackRecord:
        return pack_record(self.pack, self.pack_bytes, self.entries)


class PackRewriter:
    """Writes chunks, as they are stored, into new packs. Not thread-safe. A context manager: leaving it without `finish` drops
    the unfinished pack; finished ones stay, unreferenced."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._current: PackWriter | None = None
        self._finished: list[Copy] = []
        self._count = 0

    def copy(self, chunks: Sequence[tuple[Digest, Location]]) -> None:
        """Copy chunks of one pack, verified. Corrupt names the first that is damaged; nothing refers to the copies then."""
        for run in _runs(sorted(chunks, key=_offset)):
            first, last = run[0][1], run[-1][1]
            data = self._objects.read_range(
                pack_key(first.pack), first.offset, last.offset + last.stored - first.offset
            )
            view = memoryview(data)
            for digest, place in run:
                stored = view[place.offset - first.offset :][: place.stored]
                decode_chunk(digest, place, stored)
                self._add(digest, bytes(stored), place)

    def finish(self) -> tuple[Copy, ...]:
        """Make the copies durable; the new packs. The index does not know them yet."""
        self._end_pack()
        return tuple(self._finished)

    def __enter__(self) -> PackRewriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._current is not None:
            self._current.abort()

    def _add(self, digest: Digest, stored: bytes, place: Location) -> None:
        if self._current is None:
            self._current = PackWriter(self._objects)
        self._current.add(digest, stored, place.size, place.codec)
        self._count += 1
        if self._current.bytes >= PACK_BYTES or self._count >= _PACK_CHUNKS:
            self._end_pack()

    def _end_pack(self) -> None:
        if self._current is not None:
            record = self._current.finish()
            stored = sum(place.stored for _, place in record.chunks)
            self._finished.append(Copy(record.pack, record.bytes, self._count, stored, encode_index(record)))
            self._current, self._count = None, 0


def _runs(chunks: Sequence[tuple[Digest, Location]]) -> Iterable[Sequence[tuple[Digest, Location]]]:
    """Chunks that one read gets together."""
    start = 0
    for index in range(1, len(chunks) + 1):
        if index < len(chunks):
            before, place = chunks[index - 1][1], chunks[index][1]
            end = before.offset + before.stored
            near = place.offset - end <= _GAP_BYTES and place.offset - chunks[start][1].offset <= _RUN_BYTES
            if near:
                continue
        yield chunks[start:index]
        start = index


def _offset(chunk: tuple[Digest, Location]) -> int:
    return chunk[1].offset
