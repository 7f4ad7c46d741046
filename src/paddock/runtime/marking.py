"""Which chunks are in use: everything that can be reached from the roots that the catalog names.

    tree root → segments → chunks of files         datums, cache root → segments → batch results
    batch result → results and files segments, log chunks; files segments → chunks of files
    cut-files root → segments → cuts root → segments

Segments that many roots share are read once. Columnar; memory grows by 8 bytes a chunk and some 100 bytes a segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog.garbage import RootRow
from paddock.model.errors import Corrupt, NotFound, PaddockError
from paddock.model.ids import Digest
from paddock.runtime.batch_results import read_batch_header
from paddock.runtime.job_tables import CACHE, DATUMS, NO_BATCH
from paddock.storage.columnar import decode_segment, key_bytes, single_array
from paddock.storage.digest_set import DigestSet, Heads, heads, heads_of
from paddock.storage.segments import TableKind
from paddock.storage.splitting.kinds import CUT_FILES, CUTS
from paddock.storage.tree_kinds import FILES, TREE
from paddock.versions.home import Home

KINDS = {"tree": TREE, "datums": DATUMS, "cache": CACHE, "cut-files": CUT_FILES}
Result = TypeVar("Result")


class OnFault(Protocol):
    """Told of a table or batch result that can't be read. `holder`: who refers to it, for people."""

    def __call__(self, digest: Digest, holder: str, error: PaddockError) -> None: ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    kind: TableKind
    digest: Digest
    holder: str


class Marking:
    """The chunks in use, as roots are added. Without `on_fault` the first error is raised: then nothing is known."""

    def __init__(self, home: Home, *, on_fault: OnFault | None = None) -> None:
        self.live = DigestSet()
        self._home = home
        self._on_fault = on_fault
        self._seen: set[bytes] = set()

    def add(self, roots: Iterable[RootRow]) -> None:
        """Mark all that can be reached from these roots. Costs a read of each segment not met before."""
        segments: list[_Wanted] = []
        batches: dict[bytes, str] = {}
        for row in roots:
            digest = Digest(bytes.fromhex(row.root))
            if digest in self._seen:
                continue
            if row.kind == "batch":
                batches[digest] = row.holder
            else:
                segments += self._segments_of(KINDS[row.kind], digest, row.holder)
        for wanted, table in self._read(segments):
            if wanted.kind is TREE:
                self.live.add(file_chunk_heads(table))
            elif wanted.kind is CUT_FILES:
                self._add_cuts(table, wanted.holder)
            else:
                batches |= dict.fromkeys(self._batches_in(table), wanted.holder)
        self._add_batches(batches)

    def _segments_of(self, kind: TableKind, root: Digest, holder: str) -> Iterator[_Wanted]:
        self._seen.add(root)
        if root == self._home.tables.empty(kind):
            return
        self._mark(root)
        found = self._attempt(root, holder, lambda: self._home.tables.root(kind, root))
        if found is None:
            return
        for segment in found.segments:
            if segment.digest not in self._seen:
                self._seen.add(segment.digest)
                self._mark(segment.digest)
                yield _Wanted(kind, segment.digest, holder)

    def _add_cuts(self, table: pa.Table, holder: str) -> None:
        """Mark the cuts that are named, which name no further chunks."""
        for root in pc.unique(table.column("cuts")).to_pylist():
            if root not in self._seen:
                list(self._segments_of(CUTS, Digest(root), holder))

    def _batches_in(self, table: pa.Table) -> list[bytes]:
        named: list[bytes] = pc.unique(table.column("batch")).to_pylist()
        return [batch for batch in named if batch != NO_BATCH and batch not in self._seen]

    def _add_batches(self, batches: dict[bytes, str]) -> None:
        files: list[_Wanted] = []
        for batch, holder in batches.items():
            digest = Digest(batch)
            if digest in self._seen:
                continue
            self._seen.add(digest)
            self._mark(digest)
            header = self._attempt(digest, holder, lambda: read_batch_header(self._home.chunks, digest))  # noqa: B023
            if header is None:
                continue
            plain = [*header.results, *(log for log, _ in header.log)]
            self.live.add(heads_of([*plain, *header.files]))
            files += [_Wanted(FILES, each, holder) for each in header.files if each not in self._seen]
            self._seen.update(header.files)
        for _, table in self._read(files):
            self.live.add(file_chunk_heads(table))

    def _read(self, wanted: Sequence[_Wanted]) -> Iterator[tuple[_Wanted, pa.Table]]:
        if self._on_fault is None:
            data = self._home.chunks.read_many(each.digest for each in wanted)
            for each, piece in zip(wanted, data, strict=True):
                yield each, decode_segment(each.kind, piece)
            return
        for each in wanted:
            table = self._attempt(
                each.digest,
                each.holder,
                lambda: decode_segment(each.kind, self._home.chunks.read(each.digest)),  # noqa: B023
            )
            if table is not None:
                yield each, table

    def _attempt(self, digest: Digest, holder: str, read: Callable[[], Result]) -> Result | None:
        if self._on_fault is None:
            return read()
        try:
            return read()
        except (Corrupt, NotFound) as error:
            self._on_fault(digest, holder, error)
            return None

    def _mark(self, digest: Digest) -> None:
        self.live.add(heads(digest))


def file_chunk_heads(table: pa.Table) -> Heads:
    """Of all chunks of the files in rows of kind `tree` or `files`."""
    lists = single_array(table.column("chunks"))
    sizes = single_array(table.column("size")).to_numpy()
    whole = (pc.list_value_length(lists).to_numpy() == 0) & (sizes > 0)
    _, digests = key_bytes(single_array(table.column("digest")))
    _, listed = key_bytes(lists.flatten())
    named = heads(digests.data)[whole]
    return np.concatenate([named, heads(listed.data)]) if len(listed) else named
