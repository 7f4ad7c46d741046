"""From a tree to an archive, as a stream in constant memory: tar (plain, gzip, zstd) or zip."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import zstandard

from paddock.model.archives import ARCHIVE_END, ARCHIVE_FORMATS, archive_header, archive_padding
from paddock.model.errors import InvalidInput
from paddock.storage.chunks import ChunkStore
from paddock.storage.output_files import OutputFile

_GROUP_FILES = 4096
_PIECE_BYTES = 256 << 10
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can tell; times do not belong to a tree."""


def check_format(name: str) -> str:
    if name not in ARCHIVE_FORMATS:
        raise InvalidInput(f"{name!r} is no archive format; use one of {', '.join(ARCHIVE_FORMATS)}")
    return name


def archive_of(store: ChunkStore, files: Iterable[OutputFile], name: str) -> Iterator[bytes]:
    """The archive of files, in a format of ARCHIVE_FORMATS, in pieces of some 256 KiB. Errors are those of reading chunks."""
    if name == "zip":
        return _joined(_zip(store, files))
    plain = _tar(store, files)
    if name == "tar.gz":
        gzip = zlib.compressobj(wbits=31)
        plain = _compressed(plain, gzip.compress, gzip.flush)
    elif name == "tar.zst":
        zstd = zstandard.ZstdCompressor().compressobj()
        plain = _compressed(plain, zstd.compress, zstd.flush)
    return _joined(plain)


def _contents(store: ChunkStore, files: Iterable[OutputFile]) -> Iterator[tuple[OutputFile, Iterator[bytes]]]:
    """Files with their bytes, read many at once; those of one are taken before the next is asked for."""
    remaining = iter(files)
    while group := list(islice(remaining, _GROUP_FILES)):
        pieces = store.read_many(chunk for file in group for chunk in file.chunks)
        for file in group:
            yield file, islice(pieces, len(file.chunks))


def _tar(store: ChunkStore, files: Iterable[OutputFile]) -> Iterator[bytes]:
    for file, pieces in _contents(store, files):
        yield archive_header(file.path, size=file.size, executable=file.executable)
        yield from pieces
        yield archive_padding(file.size)
    yield ARCHIVE_END


def _zip(store: ChunkStore, files: Iterable[OutputFile]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for file, pieces in _contents(store, files):
            info = zipfile.ZipInfo(file.path, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if file.executable else 0o100644) << 16
            info.file_size = file.size
            with archive.open(info, "w", force_zip64=file.size >= 1 << 31) as member:
                for piece in pieces:
                    member.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """What a `ZipFile` writes to when it can't seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _compressed(
    pieces: Iterator[bytes], compress: Callable[[bytes], bytes], finish: Callable[[], bytes]
) -> Iterator[bytes]:
    for piece in pieces:
        yield compress(piece)
    yield finish()


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)
