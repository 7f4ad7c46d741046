"""What an earlier scan of a directory found and stored, so that files that did not change are not read again.

One file for each source, in the home's cache directory; it can be lost at any time. A row is believed where size, mtime, ctime
and inode are as they were. Rows younger than two seconds when their scan began are not kept: such a file may change
again without its times telling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.errors import Corrupt
from paddock.storage.columnar import decode_segment, empty_table, encode_table, flag_array, number_array, single_array
from paddock.storage.remembered_scans import RACY_NS, SCAN, RememberedScan
from paddock.storage.scan import Ints, Stamps
from paddock.storage.segments import TableKind

_STAMPS = ("size", "mtime_ns", "ctime_ns", "inode")


class ScanCache:
    """The remembered files of one source."""

    def __init__(self, directory: Path, source: Path | str, epoch: str, *, kind: TableKind = SCAN) -> None:
        """As of `RememberedScan`; the rows of a URL are of another kind."""
        self._kind = kind
        self._remembered = RememberedScan(directory, kind.name, source, epoch)

    def load(self) -> pa.Table:
        """Rows of the kind; none where there is no cache, or it is damaged."""
        body = self._remembered.load()
        try:
            return empty_table(self._kind) if body is None else decode_segment(self._kind, body)
        except Corrupt:
            return empty_table(self._kind)

    def save(self, table: pa.Table) -> None:
        """Replace the cache, as a whole or not at all. A disk that is full, or read-only, only costs time next time."""
        self._remembered.save(encode_table(self._kind, table.combine_chunks()))


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
    columns = [paths, *(number_array(getattr(stamps, name)) for name in _STAMPS), digests, chunks]
    table = pa.Table.from_arrays(columns, names=[column.name for column in SCAN.columns])
    return table.filter(flag_array(keep))
