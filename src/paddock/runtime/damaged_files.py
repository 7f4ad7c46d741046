"""Which files, commits and other things are hit by chunks that can't be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog.garbage import RootRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.storage.columnar import decode_segment, key_bytes, number_array, single_array
from paddock.storage.digest_set import Heads, heads, member_of
from paddock.storage.table_roots import SegmentRef
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

FILES_NAMED_MAX = 1000


@dataclass(slots=True)
class Hit:
    """What is hit, as it is found."""

    files: list[str] = field(default_factory=list)
    count: int = 0
    others: dict[str, None] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """How many files more are to be named."""
        return FILES_NAMED_MAX - len(self.files)

    def add(self, commit: str, part: _Part) -> None:
        self.count += part.count
        self.files += [f"{commit}:{path}" for path in part.paths[: self.room]]


@dataclass(frozen=True, slots=True)
class _Part:
    """What is hit of the files in one segment. paths: the first of them, as many as there was room for; others are only counted."""

    count: int
    paths: Sequence[str]


def find_hit(home: Home, roots: Iterable[RootRow], lost: Heads) -> Hit:
    """Name the files of all commits that need a chunk among `lost` (sorted). Reads the trees of all commits once."""
    hit = Hit()
    known: dict[Digest, _Part] = {}
    for row in roots:
        if row.kind != "tree" or not row.holder.startswith(("commit ", "code ")):
            continue
        commit = row.holder.removeprefix("commit ") if row.holder.startswith("commit ") else None
        try:
            segments = home.tables.root(TREE, Digest(bytes.fromhex(row.root))).segments
        except (Corrupt, NotFound):
            hit.others[f"{row.holder}: all files"] = None
            continue
        for segment in segments:
            if segment.digest not in known:
                known[segment.digest] = _part_of(home, segment, lost, room=hit.room)
            part = known[segment.digest]
            if commit is not None:
                hit.add(commit, part)
            elif part.count:
                hit.others[row.holder] = None
    return hit


def _part_of(home: Home, segment: SegmentRef, lost: Heads, *, room: int) -> _Part:
    """The files in a segment whose bytes are lost; all of them, by the first and the last, where the segment itself can't be read."""
    try:
        table = decode_segment(TREE, home.chunks.read(segment.digest))
    except (Corrupt, NotFound):
        return _Part(segment.rows, (f"{segment.first} … {segment.last}",))
    hit = _hit_rows(table, lost)
    return _Part(len(hit), table.column("path").take(number_array(hit[:room])).to_pylist())


def _hit_rows(table: pa.Table, lost: Heads) -> npt.NDArray[np.int64]:
    lists = single_array(table.column("chunks"))
    counts = pc.list_value_length(lists).to_numpy()
    sizes = single_array(table.column("size")).to_numpy()
    _, digests = key_bytes(single_array(table.column("digest")))
    hit = member_of(heads(digests.data), lost) & (counts == 0) & (sizes > 0)
    _, listed = key_bytes(lists.flatten())
    rows = np.repeat(np.arange(len(counts)), counts)
    hit[rows[member_of(heads(listed.data), lost)]] = True
    return np.flatnonzero(hit)
