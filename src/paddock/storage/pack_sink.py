"""Chunks into packs of about 64 MiB, made durable in the background."""

from __future__ import annotations

import threading

from paddock.model.ids import Digest
from paddock.model.records import PackRecord
from paddock.storage.compression import Compressor
from paddock.storage.objects import Bytes, ObjectStore
from paddock.storage.packs import PackWriter

PACK_BYTES = 64 << 20
_UNFINISHED_MAX = 2


class PackSink:
    """Encodes chunks and fills packs with them. While the disk syncs a full pack, the next is filled. Not thread-safe.

    An error of a pack that is finished in the background is raised by a later `add`, or by `finish`.
    """

    def __init__(self, objects: ObjectStore, *, pack_bytes: int = PACK_BYTES) -> None:
        self._objects = objects
        self._pack_bytes = pack_bytes
        self._compressor = Compressor()
        self._current: PackWriter | None = None
        self._finishing: list[_Finishing] = []
        self._finished: list[PackRecord] = []

    def add(self, digest: Digest, data: Bytes) -> None:
        """Store one chunk. Keeps no view of `data`."""
        stored, codec = self._compressor.encode(data)
        if self._current is None:
            self._current = PackWriter(self._objects)
        self._current.add(digest, stored, len(data), codec)
        if self._current.bytes >= self._pack_bytes:
            self._finishing.append(_Finishing(self._current))
            self._current = None
            self._await(_UNFINISHED_MAX)

    def take_finished(self) -> tuple[PackRecord, ...]:
        """Packs that have become durable since they were last taken; waits for none."""
        while self._finishing and self._finishing[0].ended:
            self._await(len(self._finishing) - 1)
        return self._take()

    def finish(self) -> tuple[PackRecord, ...]:
        """Make all durable; the packs that were not taken yet, in order."""
        self._await(0)
        if self._current is not None:
            self._finished.append(self._current.finish())
            self._current = None
        return self._take()

    def abort(self) -> None:
        """Drop the unfinished pack; wait for those that the disk syncs. Raises nothing, leaves no thread behind."""
        for finishing in self._finishing:
            finishing.join()
        self._finishing.clear()
        if self._current is not None:
            self._current.abort()
            self._current = None

    def _take(self) -> tuple[PackRecord, ...]:
        packs = tuple(self._finished)
        self._finished.clear()
        return packs

    def _await(self, unfinished_max: int) -> None:
        while len(self._finishing) > unfinished_max:
            self._finished.append(self._finishing.pop(0).result())


class _Finishing:
    """A pack that a thread of its own finishes."""

    def __init__(self, writer: PackWriter) -> None:
        self._writer = writer
        self._record: PackRecord | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="paddock-pack", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def result(self) -> PackRecord:
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._record is not None
        return self._record

    def _run(self) -> None:
        try:
            self._record = self._writer.finish()
        except BaseException as error:  # noqa: BLE001 - raised by `result`, in the thread that can act on it
            self._error = error
            self._writer.abort()
