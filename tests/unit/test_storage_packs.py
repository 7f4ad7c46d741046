"""Packs: the stored layout, and that no damage goes unseen."""

from __future__ import annotations

import os
import struct

import pytest
from blake3 import blake3

from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest, PackId
from paddock.model.records import PackRecord
from paddock.storage.chunks import read_chunk
from paddock.storage.compression import Compressor
from paddock.storage.packs import PLAIN, ZSTD, PackWriter, encode_index, pack_key, pack_record, read_pack_index
from paddock.testing.objects import MemoryObjects

CHUNKS = (b"first chunk", b"x" * 5000, os.urandom(700))


def digest_of(data: bytes) -> Digest:
    return Digest(blake3(data).digest())


def write_pack(objects: MemoryObjects, *chunks: bytes) -> PackRecord:
    writer = PackWriter(objects)
    compressor = Compressor()
    for chunk in chunks:
        stored, codec = compressor.encode(chunk)
        writer.add(digest_of(chunk), stored, len(chunk), codec)
    return writer.finish()


def test_a_pack_has_the_documented_layout() -> None:
    objects = MemoryObjects()
    record = write_pack(objects, b"abc", b"de")
    data = objects.contents[pack_key(record.pack)]
    index = b"".join(
        struct.pack("<32sQIIB", digest_of(chunk), offset, len(chunk), len(chunk), 0)
        for chunk, offset in ((b"abc", 8), (b"de", 11))
    )
    footer = struct.pack("<QQ", 13, len(index)) + blake3(index).digest() + b"PDKPACK1"
    assert data == b"PDKPACK1" + b"abc" + b"de" + index + footer
    assert record.bytes == len(data)


def test_the_index_in_the_pack_is_what_the_writer_reported() -> None:
    objects = MemoryObjects()
    record = write_pack(objects, *CHUNKS)
    assert read_pack_index(objects, record.pack) == record
    assert pack_record(record.pack, record.bytes, encode_index(record)) == record
    assert [location.codec for _, location in record.chunks] == [PLAIN, ZSTD, PLAIN]
    for chunk, (digest, location) in zip(CHUNKS, record.chunks, strict=True):
        assert read_chunk(objects, digest, location) == chunk


def test_large_chunks_go_through_without_being_kept() -> None:
    objects = MemoryObjects()
    big = bytearray(os.urandom(400_000))
    digest = digest_of(bytes(big))
    writer = PackWriter(objects)
    writer.add(digest, memoryview(big), len(big), PLAIN)
    kept = bytes(big)
    big[:] = bytes(len(big))
    record = writer.finish()
    assert read_chunk(objects, digest, record.chunks[0][1]) == kept


def test_every_flipped_byte_is_noticed() -> None:
    objects = MemoryObjects()
    record = write_pack(objects, b"first", b"second" * 200)
    key = pack_key(record.pack)
    sound = objects.contents[key]
    unnoticed, messages = [], []
    for place in range(8, len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 0x20
        objects.contents[key] = bytes(damaged)
        try:
            found = read_pack_index(objects, record.pack)
            for digest, location in found.chunks:
                read_chunk(objects, digest, location)
        except Corrupt as error:
            messages.append(str(error))
        else:
            unnoticed.append(place)
    assert unnoticed == []
    assert all(record.pack in message for message in messages)


def test_every_torn_pack_is_noticed() -> None:
    objects = MemoryObjects()
    record = write_pack(objects, b"first", b"second")
    key = pack_key(record.pack)
    sound = objects.contents[key]
    for length in range(len(sound)):
        objects.contents[key] = sound[:length]
        with pytest.raises(Corrupt):
            read_pack_index(objects, record.pack)


def test_a_chunk_of_another_digest_names_chunk_and_pack() -> None:
    objects = MemoryObjects()
    record = write_pack(objects, b"first", b"second")
    wrong = record.chunks[1][0]
    with pytest.raises(Corrupt, match=f"chunk {wrong.hex()} in pack {record.pack} is damaged"):
        read_chunk(objects, wrong, record.chunks[0][1])


def test_a_missing_pack_is_not_found_and_its_chunks_are_corrupt() -> None:
    objects = MemoryObjects()
    with pytest.raises(NotFound):
        read_pack_index(objects, PackId("0" * 32))
    record = write_pack(objects, b"first")
    objects.delete(pack_key(record.pack))
    with pytest.raises(Corrupt, match="is missing"):
        read_chunk(objects, *record.chunks[0])


def test_compression_is_used_where_it_pays_and_soon_given_up_where_not() -> None:
    compressor = Compressor()
    noise = [os.urandom(2048) for _ in range(100)]
    assert {compressor.encode(data)[1] for data in noise} == {PLAIN}
    text = b"the same words again and again, " * 64
    codecs = [compressor.encode(text)[1] for _ in range(64)]
    assert codecs[-1] == ZSTD
    assert codecs.index(ZSTD) < 32
    assert compressor.encode(text[:500])[1] == PLAIN
    assert compressor.encode(text * 200)[1] == ZSTD
