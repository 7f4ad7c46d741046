"""Chunks: written once, read back verified, files cut and appended to."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters, cut, file_chunks, file_digest
from paddock.storage.chunks import EMPTY_DIGEST, EMPTY_FILE, ChunkStore, DetachedWriter, StoredFile
from paddock.storage.objects import LocalObjects
from paddock.storage.packs import pack_key
from paddock.storage.streams import named_pieces
from paddock.testing.objects import MemoryIndex, MemoryObjects

SMALL = ChunkingParameters(min_bytes=64, average_bytes=256, max_bytes=1024)


class Trickle:
    """A stream that gives a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)
        self._random = random.Random(1)

    def read(self, size: int, /) -> bytes:
        return self._inner.read(min(size, self._random.randrange(1, 70_000)))


@pytest.fixture
def store() -> ChunkStore:
    return ChunkStore(MemoryObjects(), MemoryIndex(), chunking=SMALL)


def contents(store: ChunkStore) -> dict[str, bytes]:
    assert isinstance(store.objects, MemoryObjects)
    return store.objects.contents


def whole(store: ChunkStore, file: StoredFile, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read_file(file.size, file.digest, file.chunks, offset=offset, length=length))


def test_chunks_come_back_in_the_order_asked_for(store: ChunkStore) -> None:
    datas = [os.urandom(random.Random(n).randrange(1, 3000)) for n in range(300)]
    with store.writer() as writer:
        digests = [writer.put(data) for data in datas]
        writer.flush()
    assert digests == [blake3(data).digest() for data in datas]
    order = random.Random(2).sample(range(300), 300)
    assert list(store.read_many(digests[n] for n in order)) == [datas[n] for n in order]
    assert [store.read(digest) for digest in digests[:3]] == datas[:3]
    assert store.chunk_sizes(digests) == [len(data) for data in datas]


def test_one_flush_writes_one_pack(store: ChunkStore) -> None:
    with store.writer() as writer:
        for n in range(20):
            writer.put(b"chunk %d" % n)
        packs = writer.flush()
        assert writer.flush() == ()
    assert len(packs) == len(contents(store)) == 1
    assert writer.stored_bytes == packs[0].bytes == len(contents(store)[pack_key(packs[0].pack)])


def test_a_chunk_that_is_stored_is_not_stored_again(store: ChunkStore) -> None:
    with store.writer() as writer:
        writer.put(b"known")
        writer.flush()
    with store.writer() as writer:
        for data in (b"known", b"new", b"new", b"x" * 300_000, b"x" * 300_000):
            writer.put(data)
        (pack,) = writer.flush()
    assert len(pack.chunks) == 2
    with store.writer() as writer:
        writer.put(b"x" * 300_000)
        assert writer.flush() == ()


def test_leaving_a_writer_without_flush_leaves_nothing(store: ChunkStore) -> None:
    with store.writer() as writer:
        digest = writer.put(b"x" * 300_000)
    assert contents(store) == {}
    with pytest.raises(NotFound, match=digest.hex()):
        store.read(digest)
    with pytest.raises(NotFound, match=digest.hex()):
        list(store.read_many([digest]))


def test_a_held_back_view_may_be_overwritten_by_its_owner(store: ChunkStore) -> None:
    buffer = bytearray(b"before")
    with store.writer() as writer:
        digest = writer.put(memoryview(buffer))
        buffer[:] = b"after!"
        writer.flush()
    assert store.read(digest) == b"before"


def test_a_detached_writer_needs_no_index() -> None:
    objects, index = MemoryObjects(), MemoryIndex()
    store = ChunkStore(objects, index, chunking=SMALL)
    with DetachedWriter(objects, chunking=SMALL) as first:
        known = first.put(b"known")
        index.register(first.flush())
    with DetachedWriter(objects, index.locate([known]), chunking=SMALL) as second:
        second.put(b"known")
        file = second.put_stream(io.BytesIO(os.urandom(5000)))
        (pack,) = second.flush()
        assert second.flush() == ()
    assert known not in dict(pack.chunks)
    assert known not in index.locate(file.chunks)
    index.register([pack])
    assert blake3(whole(store, file)[:0]).digest() == EMPTY_DIGEST
    assert len(whole(store, file)) == 5000


def test_adopted_packs_are_findable_at_once() -> None:
    objects, index = MemoryObjects(), MemoryIndex()
    store = ChunkStore(objects, index)
    with DetachedWriter(objects) as other:
        digest = other.put(b"theirs")
        packs = other.flush()
    with store.writer() as writer:
        writer.adopt(packs)
        assert store.read(digest) == b"theirs"
        assert writer.flush() == packs
        assert writer.stored_bytes == packs[0].bytes


def test_files_of_no_chunk_one_chunk_and_many(store: ChunkStore) -> None:
    data = os.urandom(20_000)
    with store.writer() as writer:
        empty = writer.put_stream(io.BytesIO(b""))
        one = writer.put_stream(io.BytesIO(data[:60]))
        many = writer.put_stream(io.BytesIO(data))
        writer.flush()
    assert empty == EMPTY_FILE == StoredFile(0, EMPTY_DIGEST, ())
    assert one == StoredFile(60, Digest(blake3(data[:60]).digest()), ())
    assert len(many.chunks) > 10
    assert many.digest == blake3(b"paddock.file.v1\0" + b"".join(many.chunks)).digest()
    assert [whole(store, file) for file in (empty, one, many)] == [b"", data[:60], data]
    assert file_digest(file_chunks(many.size, many.digest, many.chunks)) == many.digest
    assert file_digest(file_chunks(one.size, one.digest, one.chunks)) == one.digest


def test_any_range_of_a_file_can_be_read(store: ChunkStore) -> None:
    data = os.urandom(8000)
    with store.writer() as writer:
        file = writer.put_stream(io.BytesIO(data))
        writer.flush()
    for offset in (0, 1, 255, 4000, 7999, 8000, 9000):
        for length in (None, 0, 1, 300, 9000):
            end = None if length is None else offset + length
            assert whole(store, file, offset, length) == data[offset:end]


def test_cuts_keep_their_bounds_and_lose_nothing() -> None:
    data = os.urandom(100_000)
    pieces = list(cut(data, SMALL))
    assert b"".join(pieces) == data
    assert all(64 <= len(piece) <= 1024 for piece in pieces[:-1])
    assert list(cut(b"", SMALL)) == []


def test_a_stream_is_cut_alike_however_it_arrives(tmp_path: Path) -> None:
    # More than one window of the long way, through a file read by a thread, memory, and a slow pipe.
    chunking = ChunkingParameters(min_bytes=16 << 10, average_bytes=64 << 10, max_bytes=256 << 10)
    data = random.Random(3).randbytes(45 << 20)
    path = tmp_path / "big"
    path.write_bytes(data)
    expected = [(blake3(piece).digest(), len(piece)) for piece in cut(data, chunking)]
    with path.open("rb", buffering=0) as file:
        assert [(digest, len(piece)) for digest, piece in named_pieces(file, chunking)] == expected
    for reader in (io.BytesIO(data), Trickle(data)):
        assert [(digest, len(piece)) for digest, piece in named_pieces(reader, chunking)] == expected


def test_a_long_file_may_be_left_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(60 << 20))
    with path.open("rb", buffering=0) as file:
        pieces = named_pieces(file, ChunkingParameters(1 << 20, 2 << 20, 4 << 20))
        assert len(next(pieces)[1]) == 4 << 20
        pieces.close()  # type: ignore[attr-defined]


def test_a_long_file_is_stored_whole(tmp_path: Path) -> None:
    store = ChunkStore(LocalObjects(tmp_path / "objects"), MemoryIndex())
    data = random.Random(5).randbytes(1 << 20) * 40
    path = tmp_path / "big"
    path.write_bytes(data)
    with store.writer() as writer, path.open("rb", buffering=0) as file:
        stored = writer.put_stream(file)
        packs = writer.flush()
    assert sum(pack.bytes for pack in packs) < len(data) // 2, "equal chunks are stored once"
    assert b"".join(store.read_file(stored.size, stored.digest, stored.chunks)) == data


@pytest.mark.parametrize("first", [0, 30, 64, 500, 5000])
@pytest.mark.parametrize("second", [0, 1, 100, 4000])
def test_appending_gives_the_chunks_of_a_fresh_put(store: ChunkStore, first: int, second: int) -> None:
    data = random.Random(first + second).randbytes(first + second)
    with store.writer() as writer:
        start = writer.put_stream(io.BytesIO(data[:first]))
        fresh = writer.put_stream(io.BytesIO(data))
        writer.flush()
    with store.writer() as writer:
        assert writer.append_stream(start, io.BytesIO(data[first:])) == fresh


def test_damage_is_told_for_the_chunk_it_hits_in_a_run(store: ChunkStore) -> None:
    datas = [os.urandom(100) for _ in range(10)]
    with store.writer() as writer:
        digests = [writer.put(data) for data in datas]
        (pack,) = writer.flush()
    key = pack_key(pack.pack)
    damaged = bytearray(contents(store)[key])
    damaged[dict(pack.chunks)[digests[4]].offset + 7] ^= 1
    contents(store)[key] = bytes(damaged)
    reading = store.read_many(digests)
    assert [next(reading) for _ in range(4)] == datas[:4]
    with pytest.raises(Corrupt, match=f"chunk {digests[4].hex()} in pack {pack.pack}"):
        next(reading)


def test_a_torn_pack_still_gives_the_chunks_before_the_tear(store: ChunkStore) -> None:
    datas = [os.urandom(100) for _ in range(10)]
    with store.writer() as writer:
        digests = [writer.put(data) for data in datas]
        (pack,) = writer.flush()
    key = pack_key(pack.pack)
    contents(store)[key] = contents(store)[key][: dict(pack.chunks)[digests[6]].offset + 3]
    reading = store.read_many(digests)
    assert [next(reading) for _ in range(6)] == datas[:6]
    with pytest.raises(Corrupt, match="too short"):
        next(reading)
