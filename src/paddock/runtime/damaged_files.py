"""Which files, commits and other things are hit by chunks that can't be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog.garbage import RootRow
from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.storage.columnar import decode_segment, key_bytes, single_array
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

    def add(self, address: str, count: int = 1) -> None:
        self.count += count
        if len(self.files) < FILES_NAMED_MAX:
            self.files.append(address)


def find_hit(home: Home, roots: Iterable[RootRow], lost: Heads) -> Hit:
    """Name the files of all commits that need a chunk among `lost` (sorted). Reads the trees of all commits once."""
    hit = Hit()
    known: dict[Digest, list[str] | None] = {}
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
                known[segment.digest] = _lost_paths(home, segment, lost)
            paths = known[segment.digest]
            if commit is None:
                if paths is None or paths:
                    hit.others[row.holder] = None
            elif paths is None:
                hit.add(f"{commit}:{segment.first} … {segment.last}", segment.rows)
            else:
                for path in paths:
                    hit.add(f"{commit}:{path}")
    return hit


def _lost_paths(home: Home, segment: SegmentRef, lost: Heads) -> list[str] | None:
    """Paths in a segment whose bytes are lost; None where the segment itself can't be read."""
    try:
        table = decode_segment(TREE, home.chunks.read(segment.digest))
    except (Corrupt, NotFound):
        return None
    return list(_paths(table, lost))


def _paths(table: pa.Table, lost: Heads) -> Iterator[str]:
    lists = single_array(table.column("chunks"))
    counts = pc.list_value_length(lists).to_numpy()
    sizes = single_array(table.column("size")).to_numpy()
    _, digests = key_bytes(single_array(table.column("digest")))
    hit = member_of(heads(digests.data), lost) & (counts == 0) & (sizes > 0)
    _, listed = key_bytes(lists.flatten())
    rows = np.repeat(np.arange(len(counts)), counts)
    hit[rows[member_of(heads(listed.data), lost)]] = True
    paths = table.column("path").to_pylist()
    yield from (paths[row] for row in np.flatnonzero(hit).tolist())
