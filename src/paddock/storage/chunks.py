"""Chunks: immutable runs of bytes under the BLAKE3-256 of their plain bytes, kept in packs, found by an index.

Everything bulky is a chunk, so one writer's flush makes a whole put durable with one pack. No pyarrow here: workers
import this module.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Protocol

from blake3 import blake3

from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.model.records import Location, PackRecord
from paddock.storage.chunking import (
    CHUNKING,
    EMPTY_DIGEST,
    EMPTY_FILE,
    ChunkingParameters,
    Reader,
    StoredFile,
    file_chunks,
    file_digest,
    stored_file,
)
from paddock.storage.compression import decompress
from paddock.storage.objects import Bytes, ObjectStore, Reading
from paddock.storage.pack_sink import PackSink
from paddock.storage.packs import PLAIN, ZSTD, pack_key
from paddock.storage.streams import named_pieces

__all__ = [
    "CHUNKING",
    "EMPTY_DIGEST",
    "EMPTY_FILE",
    "ChunkIndex",
    "ChunkStore",
    "ChunkWriter",
    "ChunkingParameters",
    "DetachedWriter",
    "StoredFile",
    "file_chunks",
    "file_digest",
    "read_chunk",
]

_PENDING_BYTES = 8 << 20
_PENDING_CHUNKS = 8192
_LARGE_BYTES = 256 << 10
"""From here on a question to the index costs less than holding the bytes back."""
_READ_CHUNKS = 1024


class ChunkIndex(Protocol):
    """Where chunks lie; kept by the catalog. Thread-safe."""

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        """The locations of those that are known; one bulk query."""

    def known(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that a writer need not store again; one bulk query. Fewer than `locate` finds while garbage is collected."""

    def epoch(self) -> str:
        """A text that changes before any chunk that was `known` is dropped: while it stays, all of them are there."""

    def register(self, packs: Sequence[PackRecord]) -> None:
        """Make the chunks of durable packs findable. Idempotent: a chunk that is known keeps its first location."""


class ChunkSink(Protocol):
    """Where a writer puts the chunks that are to be stored. Not thread-safe. `PackSink` is one; a server is another."""

    def add(self, digest: Digest, data: Bytes) -> None:
        """Store one chunk. Keeps no view of `data`."""

    def take_finished(self) -> tuple[PackRecord, ...]:
        """Packs that have become durable, and are not in the index yet."""

    def finish(self) -> tuple[PackRecord, ...]:
        """Make all durable; the packs that were not taken yet."""

    def abort(self) -> None:
        """Drop what is not durable yet. Raises nothing."""


class ChunkStore:
    """Reads chunks, and makes writers. Thread-safe; a writer is not."""

    def __init__(self, objects: ObjectStore, index: ChunkIndex, *, chunking: ChunkingParameters = CHUNKING) -> None:
        self.objects = objects
        self.index = index
        self.chunking = chunking

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        return self.index.locate(digests)

    def read(self, digest: Digest) -> bytes:
        """The bytes of one chunk, verified. NotFound: the index does not know it. Corrupt: damaged, or its pack is missing."""
        return next(self.read_many([digest]))

    def read_many(self, digests: Iterable[Digest]) -> Iterator[bytes]:
        """The bytes of many chunks in order, verified. Neighbours in a pack are read together; holds about 20 MiB."""
        for data in self.read_views(digests):
            yield data if isinstance(data, bytes) else bytes(data)

    def read_views(self, digests: Iterable[Digest]) -> Iterator[Bytes]:
        """`read_many` without a copy: a view keeps all that was read with it (up to 20 MiB) in memory."""
        remaining = iter(digests)
        while wanted := list(islice(remaining, _READ_CHUNKS)):
            locations = self.index.locate(wanted)
            for digest in wanted:
                if digest not in locations:
                    raise _unknown(digest)
            yield from self._read_located(wanted, locations)

    def _read_located(self, wanted: Sequence[Digest], locations: Mapping[Digest, Location]) -> Iterator[Bytes]:
        done = 0
        try:
            for data in read_located(self.objects, [(each, locations[each]) for each in wanted]):
                yield data
                done += 1
        except Corrupt:
            # Garbage collection may have moved chunks to another pack since they were located.
            rest = wanted[done:]
            moved = self.index.locate(rest)
            if any(digest not in moved for digest in rest) or all(moved[each] == locations[each] for each in rest):
                raise
            yield from read_located(self.objects, [(each, moved[each]) for each in rest])

    def writer(self) -> ChunkWriter:
        return ChunkWriter(self)

    def read_file(
        self,
        size: int,
        digest: Digest,
        chunks: Sequence[Digest],
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[bytes]:
        """The bytes of a file (by its tree row), or `length` of them from `offset`, in pieces of up to a chunk."""
        end = size if length is None else min(size, offset + length)
        position = 0
        wanted: list[tuple[Digest, int, int]] = []
        listed = file_chunks(size, digest, chunks)
        sizes = self.chunk_sizes(listed) if len(listed) > 1 else [size] * len(listed)
        for chunk, chunk_size in zip(listed, sizes, strict=True):
            if position < end and position + chunk_size > offset:
                wanted.append((chunk, max(0, offset - position), min(chunk_size, end - position)))
            position += chunk_size
        pieces = self.read_many(chunk for chunk, _, _ in wanted)
        for (_, first, last), data in zip(wanted, pieces, strict=True):
            yield data if last - first == len(data) else data[first:last]

    def chunk_sizes(self, digests: Sequence[Digest]) -> list[int]:
        """Plain sizes in order, from the index alone. NotFound names a chunk that it does not know."""
        locations = self.index.locate(digests)
        try:
            return [locations[digest].size for digest in digests]
        except KeyError as error:
            raise _unknown(error.args[0]) from None


def read_chunk(objects: ObjectStore, digest: Digest, location: Location) -> bytes:
    """The bytes of the chunk at `location`, verified; Corrupt names the chunk and its pack.

    What looks damaged is read a second time: it may have been damaged on its way, not where it lies.
    """
    try:
        return _read_once(objects, digest, location)
    except Corrupt:
        return _read_once(objects, digest, location)


def _read_once(objects: ObjectStore, digest: Digest, location: Location) -> bytes:
    try:
        stored = objects.read_range(pack_key(location.pack), location.offset, location.stored)
    except NotFound:
        raise _missing_pack(digest, location) from None
    return decode_chunk(digest, location, stored)


def decode_chunk(digest: Digest, location: Location, stored: Bytes) -> bytes:
    """Decode and verify what was read at `location`."""
    data = _verified(digest, location, stored)
    return data if isinstance(data, bytes) else bytes(data)


def _verified(digest: Digest, location: Location, stored: Bytes) -> Bytes:
    """Plain chunks as they were read, others decoded."""
    data: Bytes
    if location.codec == PLAIN:
        data = stored
    elif location.codec == ZSTD:
        try:
            data = decompress(stored, location.size)
        except ValueError as error:
            raise _damaged(digest, location, str(error)) from error
    else:
        raise _damaged(digest, location, f"its codec {location.codec} is unknown to this version")
    if blake3(data).digest() != digest:
        raise _damaged(digest, location, "its bytes do not match its digest")
    return data


def read_located(objects: ObjectStore, wanted: Sequence[tuple[Digest, Location]]) -> Iterator[Bytes]:
    """Read chunks in the order given, verified; runs that lie near each other in one pack cost one read.

    Where the store says so, several runs are read at once, ahead of the one that is asked for.
    """
    runs = list(_runs(wanted, objects.reading))
    for run, data in zip(runs, _fetched(objects, runs), strict=True):
        if data is None:
            # One by one, so that the error names the chunk that is affected.
            for digest, location in run:
                yield read_chunk(objects, digest, location)
            continue
        view, start = memoryview(data), run[0][1].offset
        for digest, location in run:
            stored = view[location.offset - start :][: location.stored]
            chunk: Bytes
            try:
                chunk = _verified(digest, location, stored)
            except Corrupt:
                chunk = read_chunk(objects, digest, location)
            yield chunk


_Run = Sequence[tuple[Digest, Location]]


def _runs(wanted: _Run, reading: Reading) -> Iterator[_Run]:
    start = 0
    while start < len(wanted):
        end = _run_end(wanted, start, reading)
        yield wanted[start:end]
        start = end


def _run_end(wanted: _Run, start: int, reading: Reading) -> int:
    first = wanted[start][1]
    position = first.offset
    for index in range(start, len(wanted)):
        location = wanted[index][1]
        near = position <= location.offset <= position + reading.gap_bytes
        if location.pack != first.pack or not near:
            return index
        position = location.offset + location.stored
        if position - first.offset > reading.run_bytes and index > start:
            return index
    return len(wanted)


def _fetched(objects: ObjectStore, runs: Sequence[_Run]) -> Iterator[bytes | None]:
    """The bytes of each run, in order; None where they can't be read together."""
    if objects.reading.at_once == 1 or len(runs) == 1:
        for run in runs:
            yield _fetch(objects, run)
        return
    ahead: deque[_Fetching] = deque()
    for run in runs:
        ahead.append(_Fetching(objects, run))
        if len(ahead) >= objects.reading.at_once:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _fetch(objects: ObjectStore, run: _Run) -> bytes | None:
    first, last = run[0][1], run[-1][1]
    try:
        return objects.read_range(pack_key(first.pack), first.offset, last.offset + last.stored - first.offset)
    except (NotFound, Corrupt):
        return None


class _Fetching:
    """A run that a thread of its own reads. Ends by itself where nobody asks for the result."""

    def __init__(self, objects: ObjectStore, run: _Run) -> None:
        self._objects = objects
        self._run = run
        self._data: bytes | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="paddock-read", daemon=True)
        self._thread.start()

    def result(self) -> bytes | None:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._data

    def _read(self) -> None:
        try:
            self._data = _fetch(self._objects, self._run)
        except BaseException as error:  # noqa: BLE001 - raised by `result`, in the thread that can act on it
            self._error = error


class DetachedWriter:
    """Writes chunks into packs without an index: chunks in `known` (and its own) are not stored again. Not thread-safe.

    Used where the catalog is out of reach (workers, helper processes). A context manager: leaving it without `flush` aborts.
    """

    def __init__(
        self,
        objects: ObjectStore,
        known: Mapping[Digest, Location] | None = None,
        *,
        chunking: ChunkingParameters = CHUNKING,
    ) -> None:
        self.chunking = chunking
        self._known = {} if known is None else known
        self._written: set[Digest] = set()
        self._sink = PackSink(objects)

    def put(self, data: Bytes) -> Digest:
        """Store one chunk (not empty, at most 4 GiB) and return its digest."""
        return self.put_named(Digest(blake3(data).digest()), data)

    def put_named(self, digest: Digest, data: Bytes) -> Digest:
        """`put` where the digest is known already; it must be that of `data`."""
        if digest not in self._written and digest not in self._known:
            self._written.add(digest)
            self._sink.add(digest, data)
        return digest

    def put_stream(self, reader: Reader) -> StoredFile:
        """Store a whole stream as one file."""
        return _put_pieces(self, named_pieces(reader, self.chunking))

    def flush(self) -> tuple[PackRecord, ...]:
        """Make everything durable; returns the packs since the last flush. After an error nothing of the last pack is visible."""
        return self._sink.finish()

    def abort(self) -> None:
        """Drop the unfinished pack. Finished ones stay behind, unreferenced, for garbage collection."""
        self._sink.abort()

    def __enter__(self) -> DetachedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class ChunkWriter:
    """Writes chunks that the store does not have yet. Not thread-safe. A context manager: leaving it without `flush` aborts.

    What is put is held back (at most 8 MiB), so that the index is asked in bulk. A pack that is full enters the index at once:
    who runs a killed put again stores only what is missing.
    """

    def __init__(self, store: ChunkStore, sink: ChunkSink | None = None, *, large_bytes: int = _LARGE_BYTES) -> None:
        """sink: default, packs in the store's objects. large_bytes: chunks from here on are not held back."""
        self.chunking = store.chunking
        self._store = store
        self.sink: ChunkSink = PackSink(store.objects) if sink is None else sink
        self._large_bytes = large_bytes
        self._pending: dict[Digest, bytes] = {}
        self._pending_bytes = 0
        self._decided: set[Digest] = set()
        self._adopted: list[PackRecord] = []
        self.stored_bytes = 0
        """Bytes of all packs written and adopted, complete after `flush`."""

    def put(self, data: Bytes) -> Digest:
        """Store one chunk (not empty, at most 4 GiB) and return its digest. Keeps no view of `data`."""
        return self.put_named(Digest(blake3(data).digest()), data)

    def put_named(self, digest: Digest, data: Bytes) -> Digest:
        """`put` where the digest is known already; it must be that of `data`."""
        if digest in self._decided:
            return digest
        self._decided.add(digest)
        if len(data) >= self._large_bytes:
            if not self._store.index.known([digest]):
                self.sink.add(digest, data)
                self._register_finished()
            return digest
        self._pending[digest] = data if isinstance(data, bytes) else bytes(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _PENDING_BYTES or len(self._pending) >= _PENDING_CHUNKS:
            self._settle()
        return digest

    def expect(self, digests: Sequence[Digest]) -> None:
        """Ask the index about chunks that are likely to be put, all at once."""
        self._decided |= self._store.index.known(digests)

    def put_stream(self, reader: Reader, *, first: bytes = b"") -> StoredFile:
        """Store a whole stream, after the bytes `first`, as one file."""
        return self.put_pieces(named_pieces(reader, self.chunking, first=first))

    def put_pieces(self, pieces: Iterable[tuple[Digest, Bytes]]) -> StoredFile:
        """Store a file that is cut and hashed already."""
        return _put_pieces(self, pieces)

    def append_stream(self, file: StoredFile, reader: Reader) -> StoredFile:
        """Store `file` followed by the stream: the same chunks as a fresh put of both, at the cost of one chunk and the stream.

        The chunks of `file` must be in the store, flushed.
        """
        listed = list(file_chunks(file.size, file.digest, file.chunks))
        if not listed:
            return self.put_stream(reader)
        last = self._store.read(listed[-1])
        added = _put_pieces(self, named_pieces(reader, self.chunking, first=last))
        tail = file_chunks(added.size, added.digest, added.chunks)
        return stored_file(file.size - len(last) + added.size, [*listed[:-1], *tail])

    def adopt(self, packs: Sequence[PackRecord]) -> None:
        """Take over durable packs that others wrote: their chunks are findable from now on; `flush` returns them too."""
        self._store.index.register(packs)
        self._adopted += packs

    def flush(self) -> tuple[PackRecord, ...]:
        """Make everything durable, then findable; returns the packs since the last flush.

        After an error, what was put may be stored in part but nothing refers to it; the writer must be left.
        """
        self._settle()
        written = self.sink.finish()
        if written:
            self._store.index.register(written)
        packs = (*self._adopted, *written)
        self.stored_bytes += sum(pack.bytes for pack in packs)
        self._adopted.clear()
        return packs

    def abort(self) -> None:
        """Drop the unfinished pack. Finished ones stay behind, unreferenced, for garbage collection."""
        self.sink.abort()

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _settle(self) -> None:
        known = self._store.index.known(list(self._pending)) if self._pending else set()
        for digest, data in self._pending.items():
            if digest not in known:
                self.sink.add(digest, data)
        self._pending.clear()
        self._pending_bytes = 0
        self._register_finished()

    def _register_finished(self) -> None:
        finished = self.sink.take_finished()
        if finished:
            self.adopt(finished)


class _Putter(Protocol):
    def put_named(self, digest: Digest, data: Bytes) -> Digest: ...


def _put_pieces(writer: _Putter, pieces: Iterable[tuple[Digest, Bytes]]) -> StoredFile:
    size = 0
    chunks: list[Digest] = []
    for digest, piece in pieces:
        size += len(piece)
        chunks.append(writer.put_named(digest, piece))
    return stored_file(size, chunks) if chunks else EMPTY_FILE


def _unknown(digest: Digest) -> NotFound:
    return NotFound(f"chunk {digest.hex()} is not in the store; run fsck to see what refers to it")


def _missing_pack(digest: Digest, location: Location) -> Corrupt:
    return Corrupt(f"chunk {digest.hex()} can't be read: its pack {location.pack} is missing; restore it from a copy")


def _damaged(digest: Digest, location: Location, fault: str) -> Corrupt:
    return Corrupt(
        f"chunk {digest.hex()} in pack {location.pack} is damaged: {fault}; restore the pack from a copy, "
        f"or run fsck to see what needs it"
    )
