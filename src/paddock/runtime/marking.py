"""Which chunks are in use: everything that can be reached from the roots that the catalog names.

    tree root → segments → chunks of files         datums, cache root → segments → batch results
    batch result → results and files segments, log chunks; files segments → chunks of files
    cut-files root → segments → cuts root → segments

What a *table* (a root, a segment or a batch result) names is fixed by its digest. So it is counted how many tables in use name
each table and each chunk: a table is read when it comes into use, and once more when it goes out of it, whatever number of roots
share it. Columnar; memory grows by 12 bytes a chunk and some 100 bytes a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog.garbage import RootRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound, PaddockError
from paddock.model.ids import Digest
from paddock.runtime.batch_results import parse_batch_header
from paddock.runtime.job_tables import CACHE, DATUMS, NO_BATCH
from paddock.storage.columnar import decode_segment, key_bytes, single_array
from paddock.storage.digest_counts import DigestCounts
from paddock.storage.digest_set import Heads, heads, unique
from paddock.storage.segments import TableKind
from paddock.storage.splitting.kinds import CUT_FILES, CUTS
from paddock.storage.table_roots import empty_root, root_kind
from paddock.storage.tree_kinds import FILES, TREE
from paddock.versions.home import Home

KINDS = {"tree": TREE, "datums": DATUMS, "cache": CACHE, "cut-files": CUT_FILES}


class OnFault(Protocol):
    """Told of a table or batch result that can't be read. `holder`: who refers to it, for people."""

    def __call__(self, digest: Digest, holder: str, error: PaddockError) -> None: ...


class OnChange(Protocol):
    """Told of a table that comes into use (step 1) or goes out of it (-1): its own digest, joined with those of the chunks it names."""

    def __call__(self, digests: bytes, step: int) -> None: ...


Root = tuple[str, Digest]
"""A root that is in use: kind as of `RootRow`, and digest."""


@dataclass(frozen=True, slots=True)
class _Table:
    kind: TableKind | None
    """None: a batch result."""
    digest: Digest
    holder: str
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class _Content:
    """What a table names. chunks: joined digests of chunks that name nothing themselves."""

    chunks: bytes = b""
    tables: Sequence[_Table] = ()


class Marking:
    """The chunks in use, as roots are added and taken away.

    Without `on_fault` the first error is raised: the marking is of no use then. Errors: Corrupt, NotFound of a table.
    """

    def __init__(
        self,
        home: Home,
        *,
        on_fault: OnFault | None = None,
        on_change: OnChange | None = None,
        live: DigestCounts | None = None,
        tables: Mapping[bytes, int] | None = None,
        roots: Iterable[Root] = (),
    ) -> None:
        """live, tables, roots: of an earlier marking, to go on from."""
        self.live = DigestCounts() if live is None else live
        self.roots = set(roots)
        self.tables = dict(tables or {})
        """{table in use: how many roots and tables in use name it}."""
        self._home = home
        self._on_fault = on_fault
        self._on_change = on_change

    def add(self, roots: Iterable[RootRow]) -> None:
        """Mark all that can be reached from these roots. Costs a read of each table not met before."""
        fresh: list[_Table] = []
        for row in roots:
            root = (row.kind, Digest(bytes.fromhex(row.root)))
            if root not in self.roots and not _is_empty(root):
                self.roots.add(root)
                fresh.append(_root_table(root, row.holder))
        self._walk(fresh, 1)

    def keep_only(self, roots: Iterable[RootRow]) -> None:
        """Take away the roots that are not among these. Costs a read of each table that goes out of use."""
        gone = self.roots - {(row.kind, Digest(bytes.fromhex(row.root))) for row in roots}
        self.roots -= gone
        self._walk([_root_table(root, "") for root in gone], -1)

    def _walk(self, named: Iterable[_Table], step: int) -> None:
        """Count the tables that are named once more, or once less; go on into those that come into use, or go out of it."""
        while wave := [table for table in named if self._count(table, step)]:
            following: list[_Table] = []
            for table, content in zip(wave, self._read(wave), strict=True):
                self._note(table.digest + content.chunks, step)
                following += content.tables
            named = following

    def _count(self, table: _Table, step: int) -> bool:
        """Whether the table comes into use, or goes out of it."""
        before = self.tables.get(table.digest, 0)
        after = before + step
        if after > 0:
            self.tables[table.digest] = after
        elif before:
            del self.tables[table.digest]
        else:
            raise Corrupt(
                f"table {table.digest.hex()} was never marked, but is to go; delete the home's folder `cache`"
            )
        return before == 0 or after == 0

    def _note(self, chunks: bytes, step: int) -> None:
        self.live.add(unique(heads(chunks)), step)
        if self._on_change is not None:
            self._on_change(chunks, step)

    def _read(self, wave: Sequence[_Table]) -> Iterator[_Content]:
        if self._on_fault is None:
            data = self._home.chunks.read_many(each.digest for each in wave)
            for each, piece in zip(wave, data, strict=True):
                yield _content(each, piece)
            return
        for each in wave:
            try:
                content = _content(each, self._home.chunks.read(each.digest))
            except (Corrupt, NotFound) as error:
                self._on_fault(each.digest, each.holder, error)
                content = _Content()
            yield content


def _is_empty(root: Root) -> bool:
    kind, digest = root
    return kind != "batch" and digest == empty_root(KINDS[kind])


def _root_table(root: Root, holder: str) -> _Table:
    kind, digest = root
    if kind == "batch":
        return _Table(None, digest, holder)
    return _Table(KINDS[kind], digest, holder, is_root=True)


def _content(table: _Table, data: bytes) -> _Content:
    """What a table names, from its bytes alone."""
    if table.kind is None:
        header = parse_batch_header(table.digest, data)
        plain = b"".join([*header.results, *(log for log, _ in header.log)])
        return _Content(plain, [_Table(FILES, each, table.holder) for each in header.files])
    if table.is_root:
        segments = decode_segment(root_kind(table.kind), data).column("digest")
        if table.kind is CUTS:  # whose segments name no chunks
            return _Content(b"".join(segments.to_pylist()))
        return _Content(b"", [_Table(table.kind, each, table.holder) for each in segments.to_pylist()])
    rows = decode_segment(table.kind, data)
    if table.kind is TREE or table.kind is FILES:
        return _Content(file_chunks_in(rows))
    if table.kind is CUT_FILES:
        cuts = pc.unique(rows.column("cuts")).to_pylist()
        return _Content(
            b"", [_Table(CUTS, each, table.holder, is_root=True) for each in cuts if each != empty_root(CUTS)]
        )
    batches = pc.unique(rows.column("batch")).to_pylist()
    return _Content(b"", [_Table(None, each, table.holder) for each in batches if each != NO_BATCH])


def file_chunks_in(table: pa.Table) -> bytes:
    """Joined digests of all chunks of the files in rows of kind `tree` or `files`."""
    lists = single_array(table.column("chunks"))
    sizes = single_array(table.column("size")).to_numpy()
    whole = (pc.list_value_length(lists).to_numpy() == 0) & (sizes > 0)
    _, digests = key_bytes(single_array(table.column("digest")))
    _, listed = key_bytes(lists.flatten())
    named = digests if whole.all() else digests.reshape(-1, 32)[whole].reshape(-1)
    return np.concatenate([named, listed]).tobytes()


def file_chunk_heads(table: pa.Table) -> Heads:
    """Of all chunks of the files in rows of kind `tree` or `files`."""
    return heads(file_chunks_in(table))
