"""A stream of bytes as named chunks. A long file is read and cut by one thread, and hashed by another, ahead of the caller."""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from blake3 import blake3

from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters, Reader, cut
from paddock.storage.objects import Bytes

__all__ = ["Reader", "fill", "name_pieces", "named_pieces"]

_HEAD_BYTES = 4 << 20
_WINDOW_BYTES = 8 << 20
_RING = 5
"""One with the thread that reads, one with the one that hashes, one with the caller, and one between each two."""

Pieces = list[tuple[Digest, memoryview]]
T = TypeVar("T")


def named_pieces(reader: Reader, chunking: ChunkingParameters, *, first: bytes = b"") -> Iterator[tuple[Digest, Bytes]]:
    """The chunks of a stream (after the bytes `first`) in order: pure in its bytes, however the reader slices them.

    A piece is valid until the next one is asked for. An error of the reader is raised as it is. Holds at most 80 MiB.
    """
    head, ended = _read_head(reader, first, max(_HEAD_BYTES, chunking.max_bytes))
    if ended:
        for piece in cut(head, chunking):
            yield Digest(blake3(piece).digest()), piece
        return
    windows = _windows(reader, head, chunking)
    if not _is_regular_file(reader):
        # A thread that waits for a pipe could not be stopped when the caller is interrupted.
        for window in windows:
            yield from _named(window)
        return
    with _Ahead(windows) as cutting, _Ahead(map(_named, cutting)) as hashing:
        for pieces in hashing:
            yield from pieces


def name_pieces(data: bytes, chunking: ChunkingParameters) -> Pieces:
    """The chunks of a whole file at hand."""
    return _named(cut(data, chunking))


def _named(pieces: Iterable[memoryview]) -> Pieces:
    return [(Digest(blake3(piece).digest()), piece) for piece in pieces]


def _is_regular_file(reader: Reader) -> bool:
    try:
        return stat.S_ISREG(os.fstat(reader.fileno()).st_mode)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _read_head(reader: Reader, first: bytes, size: int) -> tuple[bytes, bool]:
    parts = [first]
    missing = size - len(first)
    while missing > 0:
        data = reader.read(missing)
        if not data:
            return b"".join(parts), True
        parts.append(data)
        missing -= len(data)
    return b"".join(parts), False


def _windows(reader: Reader, head: bytes, chunking: ChunkingParameters) -> Iterator[list[memoryview]]:
    """Chunks in windows of some 8 MiB, in a few buffers used in turn: faulting in fresh memory costs as much as hashing it."""
    ring = [bytearray(_WINDOW_BYTES + len(head) + chunking.max_bytes) for _ in range(_RING)]
    tail: Bytes = head
    turn = 0
    ended = False
    while not ended:
        buffer = memoryview(ring[turn % _RING])
        buffer[: len(tail)] = tail
        filled, ended = fill(reader, buffer, len(tail))
        window = list(cut(buffer[:filled], chunking, ended=ended))
        tail = buffer[sum(map(len, window)) : filled]
        turn += 1
        yield window


def fill(reader: Reader, buffer: memoryview, filled: int) -> tuple[int, bool]:
    """Read until the buffer is full; how full it is, and whether the stream ended."""
    readinto = getattr(reader, "readinto", None)
    while filled < len(buffer):
        if readinto is not None:
            count = readinto(buffer[filled:])
        else:
            data = reader.read(len(buffer) - filled)
            count = len(data)
            buffer[filled : filled + count] = data
        if not count:
            return filled, True
        filled += count
    return filled, False


class _Ahead(Generic[T]):
    """Runs an iterator one step ahead, in a thread that ends with the context: one item queued, one in the hands of each side.

    What it runs ahead of may be another's: the inner context is the one that consumes, so it ends first.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._free = threading.Semaphore(1)
        self._queue: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="paddock-read", daemon=True)
        self._thread.start()

    def __iter__(self) -> _Ahead[T]:
        return self

    def __next__(self) -> T:
        item = self._queue.get()
        self._free.release()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> _Ahead[T]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        self._free.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                self._free.acquire()
                if self._stopped:
                    return
                self._queue.put(item)
        except BaseException as error:  # noqa: BLE001 - raised by the consumer
            self._queue.put(error)
        else:
            self._queue.put(None)
