"""Packs: one object that holds many chunks and ends in its own index.

Layout, little-endian:

    "PDKPACK1"                                              8 bytes
    the stored chunks, one after the other
    index: for each chunk, digest 32, offset u64, stored length u32, size u32, codec u8
    footer: index offset u64, index length u64, BLAKE3-256 of the index, "PDKPACK1"

Codec 0 is plain; 1 is one zstd frame. A pack is complete or absent; a torn or damaged one is Corrupt when read.
"""

from __future__ import annotations

import struct

from blake3 import blake3

from paddock.model.errors import Corrupt
from paddock.model.ids import Digest, PackId, new_id
from paddock.model.records import Location, PackRecord
from paddock.storage.objects import Bytes, ObjectStore, ObjectWriter

MAGIC = b"PDKPACK1"
PLAIN = 0
ZSTD = 1
ENTRY = struct.Struct("<32sQIIB")
FOOTER = struct.Struct("<QQ32s8s")
_WRITE_BUFFER_BYTES = 1 << 20


def pack_key(pack: PackId) -> str:
    """The object key of a pack."""
    return f"packs/{pack[:2]}/{pack}"


class PackWriter:
    """Writes one pack. Not thread-safe. `finish` or `abort` ends it; an unfinished pack leaves nothing behind."""

    def __init__(self, objects: ObjectStore) -> None:
        self.pack = PackId(new_id())
        self.bytes = len(MAGIC)
        self._writer: ObjectWriter = objects.create(pack_key(self.pack))
        self._buffer: list[bytes] = [MAGIC]
        self._buffered = len(MAGIC)
        self._entries: list[tuple[Digest, int, int, int, int]] = []

    def add(self, digest: Digest, stored: Bytes, size: int, codec: int) -> None:
        """Append one chunk: `stored` are its bytes as encoded by `codec`, `size` its length once decoded. Keeps no view of them."""
        length = len(stored)
        self._entries.append((digest, self.bytes, length, size, codec))
        self.bytes += length
        if length >= _WRITE_BUFFER_BYTES // 4:
            self._drain()
            self._writer.write(stored)
            return
        self._buffer.append(stored if isinstance(stored, bytes) else bytes(stored))
        self._buffered += length
        if self._buffered >= _WRITE_BUFFER_BYTES:
            self._drain()

    def finish(self) -> PackRecord:
        """Write the index and make the pack durable and visible. On an error nothing is visible; call `abort`."""
        index = b"".join([ENTRY.pack(*entry) for entry in self._entries])
        self._buffer += (index, FOOTER.pack(self.bytes, len(index), blake3(index).digest(), MAGIC))
        self._drain()
        self._writer.finish()
        total = self.bytes + len(index) + FOOTER.size
        return PackRecord(self.pack, total, _locations(self.pack, self._entries))

    def abort(self) -> None:
        self._writer.abort()

    def _drain(self) -> None:
        if self._buffer:
            self._writer.write(b"".join(self._buffer))
        self._buffer.clear()
        self._buffered = 0


def read_pack_index(objects: ObjectStore, pack: PackId, *, size: int | None = None) -> PackRecord:
    """What a pack holds, by its own index. `size`: of the object, where known (spares a request).

    NotFound where there is no such pack; Corrupt, naming it, where it is torn or its index is damaged. What looks damaged is read
    a second time: it may have been damaged on its way, not where it lies.
    """
    found, index = read_index_bytes(objects, pack, size=size)
    return pack_record(pack, found, index)


def read_index_bytes(objects: ObjectStore, pack: PackId, *, size: int | None = None) -> tuple[int, bytes]:
    """The size of a pack and its own index as it is stored, verified. Read twice, and errors, as `read_pack_index`."""
    try:
        return _read_index(objects, pack, size)
    except Corrupt:
        return _read_index(objects, pack, None)


def _read_index(objects: ObjectStore, pack: PackId, size: int | None) -> tuple[int, bytes]:
    key = pack_key(pack)
    if size is None:
        size = objects.info(key).size
    if size < len(MAGIC) + FOOTER.size:
        raise _damaged(pack, f"it has only {size} bytes")
    footer = objects.read_range(key, size - FOOTER.size, FOOTER.size)
    offset, length, digest, magic = FOOTER.unpack(footer)
    if magic != MAGIC:
        raise _damaged(pack, "it does not end in a pack footer")
    if offset + length + FOOTER.size != size or length % ENTRY.size:
        raise _damaged(pack, "its footer does not fit its length")
    index = objects.read_range(key, offset, length)
    if blake3(index).digest() != digest:
        raise _damaged(pack, "its index does not match its digest")
    return size, bytes(index)


def check_head(objects: ObjectStore, pack: PackId) -> None:
    """Corrupt if a pack does not begin as packs do: the only bytes that neither a chunk's digest nor the index covers."""
    if objects.read_range(pack_key(pack), 0, len(MAGIC)) != MAGIC:
        raise _damaged(pack, "it does not begin with a pack header")


def encode_index(record: PackRecord) -> bytes:
    """The bytes of a pack's index from its record."""
    return b"".join(
        [ENTRY.pack(digest, place.offset, place.stored, place.size, place.codec) for digest, place in record.chunks]
    )


def pack_record(pack: PackId, size: int, index: bytes) -> PackRecord:
    """The record of a pack from the bytes of its index (as a helper process reports it)."""
    return PackRecord(pack, size, _locations(pack, list(ENTRY.iter_unpack(index))))


def _locations(pack: PackId, entries: list[tuple[Digest, int, int, int, int]]) -> tuple[tuple[Digest, Location], ...]:
    return tuple(
        [(digest, Location(pack, offset, stored, size, codec)) for digest, offset, stored, size, codec in entries]
    )


def _damaged(pack: PackId, fault: str) -> Corrupt:
    return Corrupt(f"pack {pack} is damaged: {fault}; restore it from a copy, or run fsck to see what needs it")
