"""Cutting a large file of which an earlier version is stored: cuts are searched for only where the two differ.

A cut depends on the bytes since the cut before, and on the first one after it. So where a chunk of the new version begins, and two chunks of the
earlier one follow each other there, byte for byte, the first of them is one of the new version's too. Hashing tells, on two threads. Elsewhere cuts are
searched for, until a chunk is met that the earlier version has. The chunks are those of `named_pieces`, whatever the earlier version is.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing

from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters, cut
from paddock.storage.objects import Bytes
from paddock.storage.streams import fill, named_pieces

_HASHERS = 2
_AHEAD = 4
"""Chunks that are read and hashed before they are asked for. One at first, so that little is done in vain where the versions differ again soon."""
_WINDOWS = 4
"""Some 8 MiB each, of which at least 4 are cut."""
_MISSES_MIN = 8
_MISSES_PART = 12
"""Versions that differ more often than in one of so many chunks are not compared to the end."""


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """The chunks of a file in order, with their sizes; not the last one, which the end of the file cut."""

    digests: Sequence[Digest]
    sizes: Sequence[int]


def recut_pieces(
    file: io.FileIO, size: int, chunking: ChunkingParameters, earlier: EarlierVersion
) -> Iterator[tuple[Digest, Bytes]]:
    """The chunks of a regular file of `size` bytes in order, as `named_pieces` of its start. A piece is valid until the next one is asked for.

    An error of reading is raised as it is. Where both versions are equal, half a second of processor time a GiB; holds 30 MiB then, else 110.
    """
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="paddock-read") as pool:
        yield from _Recutting(file, size, chunking, earlier, pool).pieces()


class _Recutting:
    def __init__(
        self,
        file: io.FileIO,
        size: int,
        chunking: ChunkingParameters,
        earlier: EarlierVersion,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._file = file
        self._size = size
        self._chunking = chunking
        self._earlier = earlier
        self._pool = pool
        self._places: dict[Digest, list[int]] = {}
        for place, digest in enumerate(earlier.digests):
            self._places.setdefault(digest, []).append(place)
        longest = max(earlier.sizes, default=0)
        self._buffers = [memoryview(bytearray(longest)) for _ in range(_AHEAD + 1)]
        """One more than are ahead: the one before them, which waits for what comes after it."""
        self._window = memoryview(bytearray(2 * chunking.max_bytes))
        self._position = 0
        """Where the next chunk of the file begins."""
        self._place = 0
        """Of the chunk of the earlier version that is expected there."""
        self._followed = 0
        self._misses = 0
        self._missed = -1
        """The place of the last chunk that was expected in vain."""

    def pieces(self) -> Iterator[tuple[Digest, Bytes]]:
        while self._position < self._size:
            before = self._position
            yield from self._follow()
            yield from self._search()
            if self._position == before:
                return  # the file became shorter

    def _follow(self) -> Iterator[tuple[Digest, Bytes]]:
        """Chunks that are those of the earlier version, but the last before they part."""
        ahead: deque[tuple[int, Future[tuple[Digest, memoryview]]]] = deque()
        place, position, depth = self._place, self._position, 1
        held: tuple[Digest, memoryview] | None = None
        try:
            while True:
                while len(ahead) < depth and self._fits(place, position):
                    size = self._earlier.sizes[place]
                    buffer = self._buffers[place % len(self._buffers)][:size]
                    ahead.append((place, self._pool.submit(self._named, position, buffer)))
                    place, position = place + 1, position + size
                if not ahead:
                    return
                expected, task = ahead.popleft()
                digest, piece = task.result()
                if digest != self._earlier.digests[expected]:
                    self._misses += 1
                    self._missed = expected
                    return
                if held is not None:
                    self._position += len(held[1])
                    self._place += 1
                    self._followed += 1
                    yield held
                held = digest, piece
                depth = min(depth + 1, _AHEAD)
        finally:
            wait([task for _, task in ahead])  # their buffers are used again

    def _fits(self, place: int, position: int) -> bool:
        return place < len(self._earlier.digests) and position + self._earlier.sizes[place] <= self._size

    def _named(self, position: int, buffer: memoryview) -> tuple[Digest, memoryview]:
        """Runs in a thread. Shorter than the buffer where the file has become so."""
        filled = 0
        while filled < len(buffer):
            count = os.preadv(self._file.fileno(), [buffer[filled:]], position + filled)
            if not count:
                break
            filled += count
        piece = buffer[:filled]
        return Digest(blake3(piece).digest()), piece

    def _search(self) -> Iterator[tuple[Digest, Bytes]]:
        """Chunks as they are cut, up to one that the earlier version has, or to the end."""
        with closing(self._cut_on()) as pieces:
            for digest, piece in pieces:
                self._position += len(piece)
                yield digest, piece
                if self._meets(digest):
                    return

    def _meets(self, digest: Digest) -> bool:
        """Whether the earlier version has this chunk, and is worth following; expect what comes after it then."""
        places = self._places.get(digest)
        if places is None or (self._misses > _MISSES_MIN and self._misses * _MISSES_PART > self._followed):
            return False
        after = bisect_left(places, self._place)
        following = places[after if after < len(places) else 0] + 1
        if following in (self._missed, len(self._earlier.digests)):
            return False
        self._place = following
        return True

    def _cut_on(self) -> Generator[tuple[Digest, Bytes]]:
        """First a little, here: most differences are short. Then ahead, on threads, whose start costs as much as cutting 100 MiB."""
        start = self._position
        for _ in range(_WINDOWS):
            self._file.seek(start)
            filled, ended = fill(self._file, self._window, 0)
            for piece in cut(self._window[:filled], self._chunking, ended=ended):
                start += len(piece)
                yield Digest(blake3(piece).digest()), piece
            if ended:
                return
        self._file.seek(start)
        yield from named_pieces(self._file, self._chunking)
