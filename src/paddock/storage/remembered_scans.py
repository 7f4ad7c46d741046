"""Files in a home's cache directory that say what an earlier scan of a source found. No pyarrow here.

Each can be lost at any time. It is believed under the epoch of the chunk index that it was written with only, and where its own digest is right.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from blake3 import blake3

from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed, list_of

RACY_NS = 2_000_000_000
"""A file younger than this when its scan began may change again without its times telling."""

SCAN = TableKind(
    "scan",
    (
        Column("path", STRING),
        Column("size", INT64),
        Column("mtime_ns", INT64),
        Column("ctime_ns", INT64),
        Column("inode", INT64),
        Column("digest", fixed(32)),
        Column("chunks", list_of(fixed(32))),
    ),
)
_MAGIC = b"PDKSCAN1"


class RememberedScan:
    """One such file: of a source, of one kind."""

    def __init__(self, directory: Path, kind: str, source: Path | str, epoch: str) -> None:
        """epoch: of the chunk index, before the scan: rows of another one may name chunks that are gone. source: a path, or the
        text of a URL."""
        self._head = _MAGIC + blake3(epoch.encode()).digest()
        name = source if isinstance(source, str) else os.path.abspath(source)
        self._path = directory / f"{kind}-{blake3(os.fsencode(name)).hexdigest()[:32]}"

    def load(self) -> bytes | None:
        """What was saved; None where nothing was, under this epoch, or it is damaged."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return None
        head, digest, body = data[:40], data[40:72], data[72:]
        return body if head == self._head and blake3(body).digest() == digest else None

    def save(self, body: bytes) -> None:
        """Replace it, as a whole or not at all. A disk that is full, or read-only, only costs time next time."""
        temporary = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(self._head + blake3(body).digest())
                file.write(body)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
