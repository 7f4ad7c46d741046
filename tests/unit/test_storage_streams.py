"""Streams that are cut and hashed ahead: the same pieces as at once, and no thread left behind."""

from __future__ import annotations

import io
import random
import threading
from pathlib import Path

import pytest

from paddock.storage.chunking import ChunkingParameters
from paddock.storage.streams import name_pieces, named_pieces

CHUNKING = ChunkingParameters(64 << 10, 256 << 10, 1 << 20)
FILE_BYTES = 70 << 20
"""More than all buffers hold, so that each of them is used again."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "file"
    path.write_bytes(random.Random(1).randbytes(FILE_BYTES))
    return path


class Failing(io.FileIO):
    """A disk that gives up after 30 MiB."""

    def readinto(self, buffer: object, /) -> int:
        if self.tell() > 30 << 20:
            raise OSError(5, "broken")
        return super().readinto(buffer)  # type: ignore[arg-type]


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "paddock-read"]


def test_a_long_file_has_the_pieces_that_its_bytes_have(file: Path) -> None:
    with file.open("rb", buffering=0) as reader:
        pieces = [(digest, bytes(piece)) for digest, piece in named_pieces(reader, CHUNKING)]

    assert pieces == [(digest, bytes(piece)) for digest, piece in name_pieces(file.read_bytes(), CHUNKING)]


def test_what_the_reader_raises_reaches_the_caller(file: Path) -> None:
    with Failing(file) as reader, pytest.raises(OSError, match="broken"):
        list(named_pieces(reader, CHUNKING))

    assert reading_threads() == []


def test_threads_end_with_a_caller_that_wants_no_more(file: Path) -> None:
    with file.open("rb", buffering=0) as reader:
        pieces = named_pieces(reader, CHUNKING)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]

    assert reading_threads() == []
