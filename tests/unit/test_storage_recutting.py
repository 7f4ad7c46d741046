"""A file cut by the help of an earlier version has the chunks that its bytes alone have, whatever the earlier version is."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.recutting import EarlierVersion, recut_pieces
from paddock.storage.streams import name_pieces

CHUNKING = ChunkingParameters(64, 256, 1024)


def earlier_version(content: bytes) -> EarlierVersion:
    pieces = name_pieces(content, CHUNKING)[:-1]
    return EarlierVersion([digest for digest, _ in pieces], [len(piece) for _, piece in pieces])


def recut(file: Path, new: bytes, earlier: EarlierVersion) -> list[tuple[Digest, bytes]]:
    file.write_bytes(new)
    with file.open("rb", buffering=0) as reader:
        return [(digest, bytes(piece)) for digest, piece in recut_pieces(reader, len(new), CHUNKING, earlier)]


def cut_alone(content: bytes) -> list[tuple[Digest, bytes]]:
    return [(digest, bytes(piece)) for digest, piece in name_pieces(content, CHUNKING)]


@st.composite
def edits(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A file, and what became of it: runs inserted, removed, overwritten, moved and repeated."""
    seed = random.Random(draw(st.integers(0, 1 << 32)))
    old = seed.randbytes(draw(st.integers(0, 40_000)))
    if draw(st.booleans()):  # runs that compress, and so chunks that occur again
        old = b"".join(part * seed.randint(1, 30) for part in (old[at : at + 500] for at in range(0, len(old), 3000)))
    new = old
    for _ in range(draw(st.integers(0, 6))):
        at, length = draw(st.integers(0, len(new))), draw(st.integers(0, 3000))
        match draw(st.sampled_from(["insert", "remove", "overwrite", "move", "repeat", "truncate"])):
            case "insert":
                new = new[:at] + seed.randbytes(length) + new[at:]
            case "remove":
                new = new[:at] + new[at + length :]
            case "overwrite":
                new = new[:at] + seed.randbytes(length) + new[at + length :]
            case "move":
                new = new[at:] + new[:at]
            case "repeat":
                new = new[:at] + new[at : at + length] * 2 + new[at + length :]
            case _:
                new = new[:at]
    return old, new


@given(edits())
def test_the_chunks_are_those_of_a_fresh_cut(
    tmp_path_factory: pytest.TempPathFactory, versions: tuple[bytes, bytes]
) -> None:
    old, new = versions
    assert recut(tmp_path_factory.getbasetemp() / "recut", new, earlier_version(old)) == cut_alone(new)


def test_a_cut_that_the_byte_after_it_decides(tmp_path: Path) -> None:
    old = random.Random(5).randbytes(8_000)
    earlier = earlier_version(old)
    end = 0
    for size in earlier.sizes:
        end += size
        for changed in (old[end] ^ 1, old[end] ^ 0x80):
            new = old[:end] + bytes([changed]) + old[end + 1 :]
            assert recut(tmp_path / "file", new, earlier) == cut_alone(new)


def test_versions_that_differ_all_over_are_not_compared_to_the_end(tmp_path: Path) -> None:
    old = random.Random(8).randbytes(60_000)
    earlier = earlier_version(old)
    new = bytearray(old)
    for at in range(100, len(new), 1000):
        new[at] ^= 1
    assert recut(tmp_path / "file", bytes(new), earlier) == cut_alone(bytes(new))


def test_a_file_that_became_shorter_ends_early(tmp_path: Path) -> None:
    content = random.Random(6).randbytes(50_000)
    file = tmp_path / "file"
    file.write_bytes(content[:20_000])
    with file.open("rb", buffering=0) as reader:
        pieces = [
            (digest, bytes(piece)) for digest, piece in recut_pieces(reader, 50_000, CHUNKING, earlier_version(content))
        ]
    assert pieces == cut_alone(content[:20_000])


def test_threads_end_with_a_caller_that_wants_no_more(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(50_000)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb", buffering=0) as reader:
        pieces = recut_pieces(reader, len(content), CHUNKING, earlier_version(content))
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("paddock-read")]
