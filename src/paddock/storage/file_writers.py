"""Writing many files below a target: by two threads, as most of the cost is system calls. Large ones are also read there."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from paddock.storage.chunks import ChunkStore
from paddock.storage.output_files import OutputFile
from paddock.storage.target_directory import TargetDirectory

_GROUP_FILES = 4096
_SMALL_BYTES = 1 << 20
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20
_THREADS = 2
_BATCHES_AHEAD = 4

Done = tuple[OutputFile, os.stat_result]
_Batch = list[tuple[OutputFile, list[bytes]]]


def write_files(store: ChunkStore, root: Path, files: Iterable[OutputFile]) -> Iterator[Done]:
    """Write files below `root`, telling each, with its status, soon after it is done. Chunks are located and read in bulk.

    Errors are those of `TargetDirectory.write` and of reading chunks; files that were written by then stay. Holds some 80 MiB.
    """
    with ExitStack() as stack:
        writers = _Writers(store, root, stack)
        remaining = iter(files)
        while group := list(islice(remaining, _GROUP_FILES)):
            pieces = store.read_many(chunk for file in group if file.size <= _SMALL_BYTES for chunk in file.chunks)
            for file in group:
                if file.size > _SMALL_BYTES:
                    yield from writers.add_large(file)
                else:
                    yield from writers.add(file, list(islice(pieces, len(file.chunks))))
        yield from writers.finish()


class _Writers:
    """Threads that write batches of small files, or a large one, each into a target directory of its own."""

    def __init__(self, store: ChunkStore, root: Path, stack: ExitStack) -> None:
        self._store = store
        self._free: queue.SimpleQueue[TargetDirectory] = queue.SimpleQueue()
        for _ in range(_THREADS):
            self._free.put(stack.enter_context(TargetDirectory(root)))
        self._pool = stack.enter_context(ThreadPoolExecutor(_THREADS, thread_name_prefix="paddock-write"))
        self._running: deque[Future[list[Done]]] = deque()
        # Run before the pool is left, which would otherwise write all that is still queued after an error.
        stack.callback(self._drop)
        self._batch: _Batch = []
        self._bytes = 0

    def add(self, file: OutputFile, content: list[bytes]) -> list[Done]:
        """Take a file; those that are done meanwhile."""
        self._batch.append((file, content))
        self._bytes += file.size
        if len(self._batch) < _BATCH_FILES and self._bytes < _BATCH_BYTES:
            return []
        return self._send(_BATCHES_AHEAD)

    def add_large(self, file: OutputFile) -> list[Done]:
        """Take a file that its writer reads, piece by piece; those that are done meanwhile."""
        self._submit_batch()
        self._running.append(self._pool.submit(self._write_large, file))
        return self._await(_BATCHES_AHEAD)

    def finish(self) -> Iterator[Done]:
        yield from self._send(0)

    def _send(self, running_max: int) -> list[Done]:
        self._submit_batch()
        return self._await(running_max)

    def _submit_batch(self) -> None:
        if self._batch:
            self._running.append(self._pool.submit(self._write, self._batch))
        self._batch, self._bytes = [], 0

    def _await(self, running_max: int) -> list[Done]:
        done: list[Done] = []
        while len(self._running) > running_max:
            done += self._running.popleft().result()
        return done

    def _write(self, batch: _Batch) -> list[Done]:
        directory = self._free.get()
        try:
            return [(file, directory.write(file.path, content, executable=file.executable)) for file, content in batch]
        finally:
            self._free.put(directory)

    def _write_large(self, file: OutputFile) -> list[Done]:
        directory = self._free.get()
        try:
            pieces = self._store.read_views(file.chunks)
            return [(file, directory.write(file.path, pieces, executable=file.executable))]
        finally:
            self._free.put(directory)

    def _drop(self) -> None:
        for task in self._running:
            task.cancel()
