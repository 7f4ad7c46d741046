"""Whether a chunk is stored compressed. Decided by trying; tried less often where it did not pay lately."""

from __future__ import annotations

import threading

import zstandard

from paddock.storage.objects import Bytes
from paddock.storage.packs import PLAIN, ZSTD

LEVEL = 1
_SMALLEST_BYTES = 512
_SAMPLE_BYTES = 16 << 10
_FAILURES_BEFORE_DOUBT = 8
_TRIES_IN_DOUBT = 32


class Compressor:
    """Encodes chunks for one writer. Not thread-safe.

    A chunk is compressed where that saves at least 1/8. Of a large one, three samples are tried first. After eight chunks in a row that did
    not pay, only one in 32 is tried until one pays, so data that does not compress costs next to nothing.
    """

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=LEVEL)
        self._failures = 0
        self._skipped = 0

    def encode(self, data: Bytes) -> tuple[Bytes, int]:
        """The bytes to store, and their codec."""
        if len(data) < _SMALLEST_BYTES or self._skips():
            return data, PLAIN
        if len(data) > 8 * _SAMPLE_BYTES and not self._sample_pays(data):
            self._failures += 1
            return data, PLAIN
        stored = self._zstd.compress(data)
        if not _pays(len(stored), len(data)):
            self._failures += 1
            return data, PLAIN
        self._failures = 0
        return stored, ZSTD

    def _skips(self) -> bool:
        if self._failures < _FAILURES_BEFORE_DOUBT:
            return False
        self._skipped = (self._skipped + 1) % _TRIES_IN_DOUBT
        return self._skipped != 0

    def _sample_pays(self, data: Bytes) -> bool:
        view = memoryview(data)
        middle = len(view) // 2
        samples = (view[:_SAMPLE_BYTES], view[middle : middle + _SAMPLE_BYTES], view[-_SAMPLE_BYTES:])
        return any(_pays(len(self._zstd.compress(sample)), _SAMPLE_BYTES) for sample in samples)


def _pays(stored: int, size: int) -> bool:
    return stored <= size - size // 8


_local = threading.local()


def decompress(stored: Bytes, size: int) -> bytes:
    """Decode one zstd frame of `size` bytes. ValueError where it is damaged or of another size. Thread-safe."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        # The size is checked before decoding, so a damaged header can't ask for more memory than the index says.
        if zstandard.frame_content_size(stored) != size:
            raise ValueError("the frame has another size than the index says")
        return decompressor.decompress(stored)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
