"""Archives as streams of files: tar (plain, gzip, bzip2, xz, zstd) and zip, of which nothing is believed.

Members come one by one, in constant memory. What can't be a file of a tree (a name with `..` or from the root, a link, a device)
is told as such, by name, and never acted on. A zip that can't be sought is first copied to a temporary file.
"""

from __future__ import annotations

import importlib
import io
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import zstandard

from paddock.model.addresses import check_path
from paddock.model.archives import BLOCK_BYTES
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, LimitExceeded
from paddock.storage.chunking import Reader
from paddock.storage.os_errors import translate

HEAD_BYTES = 512
EXTRA_BYTES_MAX = 1 << 20
"""Of a tar header's long names and attributes, which are held in memory."""
RATIO_MAX = 250
RATIO_FROM_BYTES = 1 << 30
"""From here on, contents of more than RATIO_MAX times the archive's own bytes are taken for an attack."""
WINDOW_BYTES_MAX = 128 << 20
_SKIP_BYTES = 1 << 20
_KINDS = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
    tarfile.GNUTYPE_SPARSE: "is a sparse file; make the archive without --sparse",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry: a file with its `content`, which is read before the next member is asked for; or a `link` to the file of an
    earlier entry; or a `fault`: why it can't be put."""

    path: str
    """Canonical (`/a/b`); with a fault, the name as it stands in the archive."""
    size: int = 0
    executable: bool = False
    content: Reader | None = None
    link: str = ""
    fault: str = ""


def read_archive(source: BinaryIO) -> Iterator[Member]:
    """The files of an archive; its kind is told by its first bytes. Directories are left out.

    InvalidInput: it is none. LimitExceeded: it is far larger inside than out (RATIO_MAX). What decoders raise about a damaged
    one, here or when a content is read, `told` translates: use both together.
    """
    counted = _Counted(source)
    peeked = _Peeked(counted)
    kind = _kind(peeked)
    if kind == "zip":
        yield from _zip_members(source, peeked)
        return
    with _decoding(kind, peeked) as plain:
        bounded = _Bounded(plain, counted if kind != "tar" else None)
        yield from _tar_members(bounded)
        while bounded.read(_SKIP_BYTES):
            pass  # who writes into a pipe is not cut off before its padding


def _kind(peeked: _Peeked) -> str:
    head = peeked.head
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    for magic, kind in ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst")):
        if head.startswith(magic):
            return kind
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        if not head.strip(b"\0") and len(head) == HEAD_BYTES:
            return "tar"  # one without a member
        raise InvalidInput(
            "the source is no archive that is known here; it may be tar (plain, gzip, bzip2, xz or zstd) or zip"
        ) from None
    return "tar"


@contextmanager
def _decoding(kind: str, source: _Peeked) -> Iterator[Reader]:
    if kind == "tar":
        yield source
    elif kind == "zst":
        decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        with decoder.stream_reader(source, read_across_frames=True) as plain:  # type: ignore[arg-type]
            yield plain
    else:
        # Not every Python is built with all of them.
        module, name = {"gz": ("gzip", "GzipFile"), "bz2": ("bz2", "BZ2File"), "xz": ("lzma", "LZMAFile")}[kind]
        make: Callable[..., IO[bytes]] = getattr(importlib.import_module(module), name)
        argument: dict[str, Any] = {"fileobj": source} if kind == "gz" else {"filename": source}
        with make(mode="rb", **argument) as plain:
            yield plain


@contextmanager
def told() -> Iterator[None]:
    """What decoders and tar raise about a damaged archive, as one error: InvalidInput."""
    try:
        yield
    except (EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"the archive is torn or damaged: {str(error) or 'it ends early'}; make it again") from None
    except OSError as error:
        # The decoders of gzip, bzip2 and xz raise it without a number.
        if error.errno is None:
            raise InvalidInput(f"the archive is torn or damaged: {error}; make it again") from None
        raise translate(error, "read", "the archive") from error
    except ValueError as error:
        if type(error).__name__ == "LZMAError":
            raise InvalidInput(f"the archive is torn or damaged: {error}; make it again") from None
        raise


# ---- tar ---------------------------------------------------------------------------------------------------------


def _tar_members(source: Reader) -> Iterator[Member]:
    extra: dict[str, str] = {}
    while True:
        block = _exactly(source, BLOCK_BYTES)
        if not block.strip(b"\0"):
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extra |= _pax_records(_extra(source, info))
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            name = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            extra[name] = _extra(source, info).rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif info.type == tarfile.XGLTYPE:
            _extra(source, info)
        else:
            size = _size(info, extra)
            content = _Content(source, size)
            member = _tar_member(info, extra, size, content)
            if member is not None:
                yield member
            content.skip()
            _exactly(source, -size % BLOCK_BYTES)
            extra = {}


def _tar_member(info: tarfile.TarInfo, extra: dict[str, str], size: int, content: _Content) -> Member | None:
    name = extra.get("path", info.name)
    if info.type == tarfile.DIRTYPE or name.endswith("/"):
        return None if _fault_of(name) in ("", _ROOT) else Member(name, fault=_fault_of(name))
    fault = _KINDS.get(info.type, "")
    if any(key.startswith("GNU.sparse") for key in extra):
        fault = _KINDS[tarfile.GNUTYPE_SPARSE]
    fault = fault or _fault_of(name)
    if fault:
        return Member(name, fault=fault)
    if info.type == tarfile.LNKTYPE:
        target = extra.get("linkpath", info.linkname)
        fault = _fault_of(target)
        return Member(name, fault=f"links to {target!r}: {fault}") if fault else Member(_path(name), link=_path(target))
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return Member(name, fault=f"has the unknown kind {info.type!r}")
    return Member(_path(name), size, bool(info.mode & stat.S_IXUSR), content)


def _size(info: tarfile.TarInfo, extra: dict[str, str]) -> int:
    """Bytes that follow the header; links and devices have none, whatever they say."""
    if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        return 0
    text = extra.get("size", "")
    size = int(text) if text.isascii() and text.isdigit() else info.size
    if size < 0:
        raise tarfile.ReadError(f"{info.name!r} has a negative size")
    return size


def _extra(source: Reader, info: tarfile.TarInfo) -> bytes:
    if not 0 <= info.size <= EXTRA_BYTES_MAX:
        raise LimitExceeded(f"the archive has a header of {info.size} bytes; at most {EXTRA_BYTES_MAX} are read")
    data = _exactly(source, info.size)
    _exactly(source, -info.size % BLOCK_BYTES)
    return data


def _pax_records(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while data and data.strip(b"\0"):
        length_text, space, _ = data.partition(b" ")
        if not space or not length_text.isdigit() or not len(length_text) + 2 < int(length_text) <= len(data):
            raise tarfile.ReadError("an extended header is damaged")
        record, data = data[len(length_text) + 1 : int(length_text)], data[int(length_text) :]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
    return found


# ---- zip ---------------------------------------------------------------------------------------------------------


def _zip_members(source: BinaryIO, peeked: _Peeked) -> Iterator[Member]:
    with _seekable(source, peeked) as file:
        archive_bytes = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            plain_bytes = sum(info.file_size for info in archive.infolist())
            _refuse_bomb(plain_bytes, archive_bytes)
            for info in archive.infolist():
                fault = _zip_fault(info)
                if fault:
                    yield Member(info.filename, fault=fault)
                elif not info.is_dir():
                    executable = bool(info.external_attr >> 16 & stat.S_IXUSR)
                    with archive.open(info) as content:
                        yield Member(_path(info.filename), info.file_size, executable, content)


def _zip_fault(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a named pipe"
    if info.flag_bits & 0x1:
        return "is encrypted; unpack it first"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {info.compress_type}, which is not known here"
    fault = _fault_of(info.filename)
    return "" if info.is_dir() and fault == _ROOT else fault


@contextmanager
def _seekable(source: BinaryIO, peeked: _Peeked) -> Iterator[IO[bytes]]:
    if source.seekable():
        yield source
        return
    with tempfile.TemporaryFile(prefix="paddock-zip-") as file:
        shutil.copyfileobj(peeked, file, _SKIP_BYTES)
        yield file


# ---- names -------------------------------------------------------------------------------------------------------

_ROOT = "names the top itself"


def _stripped(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name.removesuffix("/")


def _path(name: str) -> str:
    return check_path(_stripped(name))


def _fault_of(name: str) -> str:
    """Why a name can't be a path of a tree; empty text where it can."""
    if name.startswith("/"):
        return "is a path from the root; make the archive with relative names"
    if _stripped(name) in ("", "."):
        return _ROOT
    try:
        check_path(_stripped(name))
    except InvalidInput as error:
        return error.message
    return ""


# ---- readers -----------------------------------------------------------------------------------------------------


def _exactly(source: Reader, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        data = source.read(size)
        if not data:
            raise EOFError
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _refuse_bomb(plain_bytes: int, archive_bytes: int) -> None:
    if plain_bytes > RATIO_FROM_BYTES and plain_bytes > RATIO_MAX * archive_bytes:
        raise LimitExceeded(
            f"the archive unpacks to more than {RATIO_MAX} times its own bytes, as an attack would; if it is right, unpack "
            "it yourself and put the folder"
        )


class _Content:
    """The content of one tar member."""

    def __init__(self, source: Reader, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = self._source.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise EOFError
        self._left -= len(data)
        return data

    def skip(self) -> None:
        while self._left:
            self.read(_SKIP_BYTES)


class _Counted:
    def __init__(self, source: Reader) -> None:
        self._source = source
        self.bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.bytes += len(data)
        return data


class _Bounded:
    """What is unpacked, compared with what it is unpacked from."""

    def __init__(self, source: Reader, packed: _Counted | None) -> None:
        self._source = source
        self._packed = packed
        self._bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._bytes += len(data)
        if self._packed is not None:
            _refuse_bomb(self._bytes, self._packed.bytes)
        return data


class _Peeked(io.RawIOBase):
    """A stream whose first bytes have been looked at."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        parts: list[bytes] = []
        missing = HEAD_BYTES
        while missing and (data := source.read(missing)):
            parts.append(data)
            missing -= len(data)
        self.head = b"".join(parts)
        self._rest = self.head

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:] if size >= 0 else b""
            return data
        return self._source.read(size if size >= 0 else _SKIP_BYTES)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
