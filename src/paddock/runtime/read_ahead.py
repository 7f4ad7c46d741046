"""Reads the small chunks of a batch ahead, so that neighbours in a pack cost one read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.model.records import Location
from paddock.runtime.protocol import DatumTask
from paddock.storage.chunks import decode_chunk, read_chunk
from paddock.storage.kept_objects import KeptObjects
from paddock.storage.objects import ObjectStore, Reading
from paddock.storage.packs import pack_key

_CHUNK_BYTES_MAX = 64 << 10
_AHEAD_CHUNKS = 512
_AHEAD_BYTES = 4 << 20
_SHARED_BYTES = 32 << 20


class ReadAhead:
    """Reads chunks, verified. Holds at most some 8 MiB of what it was told to expect (and one read more, while it sorts that out), and 32 MiB of chunks whose files were cut
    into pieces, since the next datums read them too. Not thread-safe.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._expected: list[tuple[Digest, Location]] = []
        self._places: dict[Digest, int] = {}
        self._cursor = 0
        self._held: dict[Digest, memoryview] = {}
        self._of_pieces: set[Digest] = set()
        self._shared: OrderedDict[Digest, bytes] = OrderedDict()

    def expect(self, datums: Iterable[DatumTask]) -> None:
        """The datums that come, in order; replaces what was expected before."""
        files = [file for datum in datums for each in datum.inputs if not each.empty_files for file in each.files]
        chunks = (chunk for file in files for chunk in file.chunks if chunk[1].stored <= _CHUNK_BYTES_MAX)
        self._expected = list(dict.fromkeys(chunks))
        self._of_pieces = {digest for file in files if file.cut is not None for digest, _ in file.chunks}
        self._places = {digest: place for place, (digest, _) in enumerate(self._expected)}
        self._cursor = 0
        self._held = {}

    def read(self, digest: Digest, location: Location) -> bytes:
        """One chunk. Errors as `read_chunk`; what is read ahead in vain costs nothing but time."""
        if digest not in self._of_pieces:
            return self._read(digest, location)
        data = self._shared.get(digest)
        if data is None:
            data = self._shared[digest] = self._read(digest, location)
            while sum(map(len, self._shared.values())) > _SHARED_BYTES and len(self._shared) > 1:
                self._shared.popitem(last=False)
        return data

    def _read(self, digest: Digest, location: Location) -> bytes:
        if digest not in self._held and self._places.get(digest, -1) >= self._cursor:
            self._fetch(self._places[digest])
        held = self._held.pop(digest, None)
        if held is not None:
            try:
                return decode_chunk(digest, location, held)
            except Corrupt:
                pass
        try:
            return read_chunk(self._objects, digest, location)
        except Corrupt:
            # Damaged may be the machine's own copy alone.
            if not isinstance(self._objects, KeptObjects) or not self._objects.drop(pack_key(location.pack)):
                raise
            return read_chunk(self._objects, digest, location)

    def _fetch(self, first: int) -> None:
        end, size = first, 0
        while end < len(self._expected) and end < first + _AHEAD_CHUNKS and size < _AHEAD_BYTES:
            size += self._expected[end][1].stored
            end += 1
        self._cursor = end
        self._held = {}
        wanted = sorted(self._expected[first:end], key=lambda each: (each[1].pack, each[1].offset))
        reading = self._objects.reading
        start = 0
        for index in range(1, len(wanted) + 1):
            if index == len(wanted) or _apart(wanted[start][1], wanted[index - 1][1], wanted[index][1], reading):
                self._read_run(wanted[start:index])
                start = index

    def _read_run(self, run: Sequence[tuple[Digest, Location]]) -> None:
        first, last = run[0][1], run[-1][1]
        try:
            length = last.offset + last.stored - first.offset
            view = memoryview(self._objects.read_range(pack_key(first.pack), first.offset, length))
        except (NotFound, Corrupt):
            return  # Read one by one when they are wanted, so that the error names the chunk.
        # A view holds all of the run: where that is mostly gaps, only the chunks are kept.
        sparse = length > 2 * sum(location.stored for _, location in run)
        for digest, location in run:
            offset = location.offset - first.offset
            held = view[offset : offset + location.stored]
            self._held[digest] = memoryview(bytes(held)) if sparse else held


def _apart(first: Location, one: Location, other: Location, reading: Reading) -> bool:
    """Whether a run from `first` to `one` should not go on to `other`."""
    return (
        one.pack != other.pack
        or other.offset - one.offset - one.stored > reading.gap_bytes
        or other.offset + other.stored - first.offset > reading.run_bytes
    )
