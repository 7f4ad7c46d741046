"""What an earlier scan of a directory found and stored, so that files that did not change are not read again.

One file for each source, in the home's cache directory; it can be lost at any time. A row is believed where size, mtime, ctime
and inode are as they were. Rows younger than two seconds when their scan began are not kept: such a file may change
again without its times telling.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from paddock.model.errors import Corrupt
from paddock.storage.columnar import decode_segment, empty_table, encode_table, single_array
from paddock.storage.scan import Ints, Stamps
from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed, list_of

RACY_NS = 2_000_000_000
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
_STAMPS = ("size", "mtime_ns", "ctime_ns", "inode")


class ScanCache:
    """The remembered files of one source."""

    def __init__(self, directory: Path, source: Path | str, epoch: str, *, kind: TableKind = SCAN) -> None:
        """`epoch`: of the chunk index, before the scan: rows of another one may name chunks that are gone. source: a path,
        or the text of a URL, whose rows are of another kind."""
        self._epoch = blake3(epoch.encode()).digest()
        self._kind = kind
        name = source if isinstance(source, str) else os.path.abspath(source)
        self._path = directory / f"{kind.name}-{blake3(os.fsencode(name)).hexdigest()[:32]}"

    def load(self) -> pa.Table:
        """Rows of the kind; none where there is no cache, or it is damaged."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return empty_table(self._kind)
        head, digest, body = data[:40], data[40:72], data[72:]
        if head != _MAGIC + self._epoch or blake3(body).digest() != digest:
            return empty_table(self._kind)
        try:
            return decode_segment(self._kind, body)
        except Corrupt:
            return empty_table(self._kind)

    def save(self, table: pa.Table) -> None:
        """Replace the cache, as a whole or not at all. A disk that is full, or read-only, only costs time next time."""
        body = encode_table(self._kind, table.combine_chunks())
        temporary = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(_MAGIC + self._epoch + blake3(body).digest())
                file.write(body)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


def unchanged(paths: pa.Array, stamps: Stamps, cached: pa.Table) -> tuple[Ints, Ints]:
    """Positions of the scanned files that are as the cache has them, and their cache rows."""
    if cached.num_rows == 0 or len(paths) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    old_paths = single_array(cached.column("path"))
    if paths.equals(old_paths):
        positions = rows = np.arange(len(paths), dtype=np.int64)
    else:
        places = pc.index_in(paths, value_set=old_paths)
        positions = np.flatnonzero(pc.is_valid(places).to_numpy(zero_copy_only=False))
        rows = places.drop_null().to_numpy().astype(np.int64)
    same = np.ones(len(positions), dtype=bool)
    for name in _STAMPS:
        now: Ints = getattr(stamps, name)[positions]
        same &= now == single_array(cached.column(name)).to_numpy()[rows]
    return positions[same], rows[same]


def settled(stamps: Stamps, started_ns: int) -> npt.NDArray[np.bool_]:
    """Which files are old enough to be remembered."""
    limit = started_ns - RACY_NS
    mask: npt.NDArray[np.bool_] = (stamps.mtime_ns < limit) & (stamps.ctime_ns < limit)
    return mask


def cache_table(paths: pa.Array, stamps: Stamps, digests: pa.Array, chunks: pa.Array, keep: Any) -> pa.Table:
    """Rows of SCAN for the files where `keep` is true."""
    columns = [paths, *(pa.array(getattr(stamps, name)) for name in _STAMPS), digests, chunks]
    table = pa.Table.from_arrays(columns, names=[column.name for column in SCAN.columns])
    return table.filter(pa.array(keep))
