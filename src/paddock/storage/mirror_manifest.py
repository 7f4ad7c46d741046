"""What Paddock wrote below a target directory, so that a later mirror knows its own files from others.

Kept in the home's cache directory, one file for each target; never inside the target. Losing it is safe: files whose content
is as it should be are taken as ours again, others are refused.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt
from paddock.model.ids import Digest
from paddock.storage.columnar import arrow_schema, decode_segment, encode_table
from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed

MANIFEST = TableKind(
    "mirror",
    (
        Column("path", STRING),
        Column("digest", fixed(32)),
        Column("size", INT64),
        Column("mtime_ns", INT64),
        Column("inode", INT64),
    ),
)
_MAGIC = b"PDKMIRR1"
_INTENDED = -1


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it was left. An intended one was about to be written: the file may be it, or not be there."""

    digest: Digest
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, digest: Digest, status: os.stat_result) -> Written:
        return cls(digest, status.st_size, status.st_mtime_ns, _signed(status.st_ino))

    def is_untouched(self, status: os.stat_result) -> bool:
        """Whether the file is still as it was left."""
        return (
            status.st_mtime_ns == self.mtime_ns and status.st_size == self.size and _signed(status.st_ino) == self.inode
        )


class Manifest:
    """The files that mirrors to one target wrote: `files` by path relative to it, and `intended` digests of an interrupted one."""

    def __init__(self, directory: Path | None, target: Path) -> None:
        """Load it. `directory` None keeps nothing."""
        name = blake3(os.fsencode(os.path.abspath(target))).hexdigest()[:32]
        self._path = None if directory is None else directory / f"mirror-{name}"
        self.files: dict[str, Written] = {}
        self.intended: dict[str, Digest] = {}
        self._load()

    def save(self) -> None:
        """Replace the file, as a whole or not at all. A disk that is full only costs certainty next time."""
        if self._path is None:
            return
        body = encode_table(MANIFEST, self._table())
        temporary = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(_MAGIC + blake3(body).digest())
                file.write(body)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _load(self) -> None:
        try:
            data = b"" if self._path is None else self._path.read_bytes()
        except OSError:
            return
        head, digest, body = data[:8], data[8:40], data[40:]
        if head != _MAGIC or blake3(body).digest() != digest:
            return
        try:
            columns = decode_segment(MANIFEST, body).to_pydict()
        except Corrupt:
            return
        for path, *values in zip(*(columns[column.name] for column in MANIFEST.columns), strict=True):
            written = Written(*values)
            if written.mtime_ns == _INTENDED:
                self.intended[path] = written.digest
            else:
                self.files[path] = written

    def _table(self) -> pa.Table:
        rows: Iterable[tuple[str, Written]] = (
            *self.files.items(),
            *((path, Written(digest, 0, _INTENDED, 0)) for path, digest in self.intended.items()),
        )
        columns: dict[str, list[object]] = {column.name: [] for column in MANIFEST.columns}
        for path, written in rows:
            columns["path"].append(path)
            columns["digest"].append(written.digest)
            columns["size"].append(written.size)
            columns["mtime_ns"].append(written.mtime_ns)
            columns["inode"].append(written.inode)
        return pa.table(columns, schema=arrow_schema(MANIFEST))


def _signed(inode: int) -> int:
    return inode - (1 << 64) if inode >= 1 << 63 else inode
