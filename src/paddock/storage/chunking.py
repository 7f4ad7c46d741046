"""Where a file is cut into chunks, and what its digest is then."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.objects import Bytes

EMPTY_DIGEST = Digest(blake3(b"").digest())
_FILE_DIGEST_PREFIX = b"paddock.file.v1\0"


@dataclass(frozen=True, slots=True)
class ChunkingParameters:
    """FastCDC (2020, normalisation 1, gear table of the paper) with these bounds; fixed for the life of a home."""

    min_bytes: int
    average_bytes: int
    max_bytes: int


CHUNKING = ChunkingParameters(256 << 10, 1 << 20, 4 << 20)


class Reader(Protocol):
    """What is needed of a binary stream. A short read is not the end; an empty one is."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file whose chunks are stored. `chunks` is empty for a file of one chunk or none, as in a tree row."""

    size: int
    digest: Digest
    chunks: tuple[Digest, ...] = ()


EMPTY_FILE = StoredFile(0, EMPTY_DIGEST)


def file_digest(chunks: Sequence[Digest]) -> Digest:
    """The digest of a file from the digests of its chunks in order: costs nothing per byte."""
    if not chunks:
        return EMPTY_DIGEST
    if len(chunks) == 1:
        return chunks[0]
    return Digest(blake3(_FILE_DIGEST_PREFIX + b"".join(chunks)).digest())


def stored_file(size: int, chunks: Sequence[Digest]) -> StoredFile:
    """The record of a file from all its chunks in order."""
    return StoredFile(size, file_digest(chunks), tuple(chunks) if len(chunks) > 1 else ())


def file_chunks(size: int, digest: Digest, chunks: Sequence[Digest]) -> Sequence[Digest]:
    """All chunks of a file in order, from the three columns of its tree row."""
    if size == 0:
        return ()
    return chunks or (digest,)


def cut(data: Bytes, chunking: ChunkingParameters, *, ended: bool = True) -> Iterator[memoryview]:
    """Cut bytes into chunks. Where they are not all (`ended`), only the cuts that what follows can't change.

    A cut depends only on the bytes since the cut before and on the first one after it, so a file may be cut again from the start of
    any of its chunks.
    """
    view = memoryview(data)
    if ended and len(view) <= chunking.min_bytes:
        if view:
            yield view
        return
    lengths = _cutter(chunking).cut_buf(view)
    start = 0
    while start < len(view) and (ended or len(view) - start >= chunking.max_bytes):
        end = start + next(lengths).length
        yield view[start:end]
        start = end


def _cutter(chunking: ChunkingParameters) -> Any:
    # Imported late: it costs 30 ms, which a worker that meets only small files need not pay.
    fastcdc = importlib.import_module("pyfastcdc").FastCDC
    return fastcdc(chunking.average_bytes, min_size=chunking.min_bytes, max_size=chunking.max_bytes)
