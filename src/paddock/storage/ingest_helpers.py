"""Drives the helper processes that read small files (`ingest_worker` says how they talk)."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from paddock.model.dataclass import dataclass
from paddock.model.errors import PaddockError, Unavailable, error_of_code
from paddock.model.ids import Digest, PackId
from paddock.model.records import PackRecord
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.ingest_worker import EMPTY, PACK, receive, send
from paddock.storage.objects import LocalObjects
from paddock.storage.packs import pack_record

BATCH_FILES = 2000
HELPERS_MAX = 4
_SAMPLE_STEP = 16

RECORDS = np.dtype(
    [
        ("digest", "V32"),
        ("size", "<i8"),
        ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"),
        ("inode", "<u8"),
        ("executable", "u1"),
        ("status", "u1"),
        ("errno", "<i4"),
    ]
)
"""`ingest_worker.RECORD` for numpy."""


Records = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that a helper read: their positions, and a RECORD each."""

    positions: Sequence[int]
    records: Records


class Claims:
    """Which chunks are stored, or being stored, so that each is stored once. Thread-safe."""

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        self._taken: set[Digest] = {EMPTY}
        self._lock = threading.Lock()

    def take(self, digests: Sequence[Digest]) -> bytes:
        """One byte for each digest: 1 where the caller is to store it."""
        with self._lock:
            fresh = [digest for digest in dict.fromkeys(digests) if digest not in self._taken]
            self._taken.update(fresh)
        wanted = set(fresh) - self._known(fresh)
        flags = bytearray(len(digests))
        for index, digest in enumerate(digests):
            if digest in wanted:
                wanted.remove(digest)
                flags[index] = 1
        return bytes(flags)

    def _known(self, fresh: Sequence[Digest]) -> set[Digest]:
        """Which chunks the store has; perhaps not all, where it has hardly any of them.

        Asking for all would cost a third of the whole: where a sample has no hit, the few that may be there are stored twice.
        """
        sample = fresh[::_SAMPLE_STEP]
        found = self._store.index.known(sample)
        return found if not found or len(sample) == len(fresh) else self._store.index.known(fresh)


class Helpers:
    """A set of helper processes that read and store the files they are given.

    A context manager: leaving it ends the processes; what they had not finished is dropped.
    """

    def __init__(self, store: ChunkStore, objects: LocalObjects, writer: ChunkWriter) -> None:
        """Start them. Raises OSError where the system gives no process."""
        self._claims = Claims(store)
        self._writer = writer
        self._events: queue.SimpleQueue[Batch | PackRecord | BaseException | None] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._running = 0
        try:
            for _ in range(min(HELPERS_MAX, max(1, len(os.sched_getaffinity(0))))):
                self._processes.append(_start(objects))
        except BaseException:
            self._end()
            raise

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def start(self, source: str, paths: Sequence[str], positions: Sequence[int]) -> None:
        """Begin with the files `source + paths[position]`; `results` tells how it went."""
        batches = _Batches(source, paths, positions)
        for process in self._processes:
            thread = threading.Thread(target=self._drive, args=(process, batches), name="paddock-ingest", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._running = len(self._threads)

    def results(self, *, wait: bool) -> Iterator[Batch]:
        """Batches as they are done, in no order. With `wait`, to the end: then all is durable and registered with the writer.

        Raises what a helper reports (LimitExceeded for a full disk), Unavailable where one dies.
        """
        while self._running and (wait or not self._events.empty()):
            event = self._events.get()
            if event is None:
                self._running -= 1
            elif isinstance(event, BaseException):
                raise event
            elif isinstance(event, PackRecord):
                self._writer.adopt([event])
            else:
                yield event

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def _drive(self, process: subprocess.Popen[bytes], batches: _Batches) -> None:
        """Feed one helper, in a thread of its own."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            while (batch := batches.take()) is not None:
                positions, names = batch
                send(process.stdin, b"B", names)
                records = np.frombuffer(self._await(process.stdout, b"R"), dtype=RECORDS)
                send(process.stdin, b"U", self._claims.take(digests_of(records)))
                self._events.put(Batch(positions, records))
            send(process.stdin, b"F")
            self._await(process.stdout, b"D")
            self._events.put(None)
        except (EOFError, OSError, ValueError):
            self._events.put(self._last_words(process.stdout))
        except BaseException as error:  # noqa: BLE001 - raised by `results`
            self._events.put(error)

    def _last_words(self, stream: IO[bytes]) -> PaddockError:
        """Why a helper ended that can't be written to any more."""
        try:
            self._await(stream, b"D")
        except PaddockError as error:
            return error
        except (EOFError, OSError, ValueError):
            pass
        return Unavailable("a helper process that reads files ended early; run the command again")

    def _await(self, stream: IO[bytes], wanted: bytes) -> bytes:
        while True:
            letter, payload = receive(stream)
            if letter == wanted:
                return payload
            if letter == b"E":
                code, _, message = payload.decode().partition("\n")
                raise error_of_code(code, message)
            pack, size = PACK.unpack_from(payload)
            self._events.put(pack_record(PackId(pack.decode()), size, payload[PACK.size :]))

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    _close(stream)


class _Batches:
    """Hands out the files, some thousands at a time. Thread-safe."""

    def __init__(self, source: str, paths: Sequence[str], positions: Sequence[int]) -> None:
        self._source = source
        self._paths = paths
        self._positions = positions
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> tuple[Sequence[int], bytes] | None:
        """Positions and their joined names; None at the end."""
        with self._lock:
            chosen = self._positions[self._next : self._next + BATCH_FILES]
            self._next += len(chosen)
        if not len(chosen):
            return None
        return chosen, os.fsencode("\0".join([self._source + self._paths[position] for position in chosen]))


def digests_of(records: Records) -> list[Digest]:
    """The digest of each record."""
    data = np.ascontiguousarray(records["digest"]).tobytes()
    return [Digest(data[at : at + 32]) for at in range(0, len(data), 32)]


def _start(objects: LocalObjects) -> subprocess.Popen[bytes]:
    # Our own module path, without `site` (10 ms) and without the current directory.
    path = os.pathsep.join(place for place in sys.path if place)
    process = subprocess.Popen(
        [sys.executable, "-S", "-P", "-m", "paddock.storage.ingest_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdin is not None
    send(process.stdin, b"O", os.fsencode(objects.root.absolute()))
    return process


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:
        pass  # what was not sent to a helper that has ended
