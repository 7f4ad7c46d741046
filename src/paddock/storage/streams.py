"""A stream of bytes as named chunks. A long file is read, cut and hashed by a thread ahead of the caller."""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Iterator

from blake3 import blake3

from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters, Reader, cut
from paddock.storage.objects import Bytes

__all__ = ["Reader", "name_pieces", "named_pieces"]

_HEAD_BYTES = 4 << 20
_WINDOW_BYTES = 16 << 20
_RING = 3

Pieces = list[tuple[Digest, memoryview]]


def named_pieces(reader: Reader, chunking: ChunkingParameters, *, first: bytes = b"") -> Iterator[tuple[Digest, Bytes]]:
    """The chunks of a stream (after the bytes `first`) in order: pure in its bytes, however the reader slices them.

    A piece is valid until the next one is asked for. An error of the reader is raised as it is. Holds at most 64 MiB.
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
            yield from window
        return
    ahead = _Ahead(windows)
    try:
        for window in ahead:
            yield from window
    finally:
        ahead.stop()


def name_pieces(data: bytes, chunking: ChunkingParameters) -> Pieces:
    """The chunks of a whole file at hand."""
    return [(Digest(blake3(piece).digest()), piece) for piece in cut(data, chunking)]


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


def _windows(reader: Reader, head: bytes, chunking: ChunkingParameters) -> Iterator[Pieces]:
    """Chunks in windows of some 16 MiB, in three buffers used in turn: faulting in fresh memory costs as much as hashing it."""
    ring = [bytearray(_WINDOW_BYTES + len(head) + chunking.max_bytes) for _ in range(_RING)]
    tail: Bytes = head
    turn = 0
    ended = False
    while not ended:
        buffer = memoryview(ring[turn % _RING])
        buffer[: len(tail)] = tail
        filled, ended = _fill(reader, buffer, len(tail))
        window = [(Digest(blake3(piece).digest()), piece) for piece in cut(buffer[:filled], chunking, ended=ended)]
        tail = buffer[sum(len(piece) for _, piece in window) : filled]
        turn += 1
        yield window


def _fill(reader: Reader, buffer: memoryview, filled: int) -> tuple[int, bool]:
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


class _Ahead:
    """Runs an iterator of windows one step ahead, in a thread that ends with `stop`.

    With one window queued, one in the hands of each side, a ring of three buffers is never overwritten in use.
    """

    def __init__(self, windows: Iterator[Pieces]) -> None:
        self._windows = windows
        self._free = threading.Semaphore(1)
        self._queue: queue.SimpleQueue[Pieces | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="paddock-read", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Pieces]:
        while True:
            window = self._queue.get()
            self._free.release()
            if window is None:
                return
            if isinstance(window, BaseException):
                raise window
            yield window

    def stop(self) -> None:
        self._stopped = True
        self._free.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            for window in self._windows:
                self._free.acquire()
                if self._stopped:
                    return
                self._queue.put(window)
        except BaseException as error:  # noqa: BLE001 - raised by the consumer
            self._queue.put(error)
        else:
            self._queue.put(None)
