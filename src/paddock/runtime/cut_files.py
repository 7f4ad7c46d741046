"""How files are cut into pieces, remembered so that each file is read once (design note 027)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from paddock.catalog import file_cuts
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.splits import SplitBy, SplitFormat, SplitRule
from paddock.pipelines.inputs import Leaf
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.columnar import single_array
from paddock.storage.splitting.cutting import Start, cut_file, named_by_content
from paddock.storage.splitting.kinds import CUT_FILES, CUTS
from paddock.storage.splitting.records import SplitError
from paddock.versions.home import Home

_STEM_CONTEXT = b"paddock.file-stem.v1\0"
_FILES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class File:
    """A file, as its tree has it."""

    path: str
    size: int
    digest: Digest
    chunks: tuple[Digest, ...]
    executable: bool


@dataclass(frozen=True, slots=True)
class Cuts:
    """How a file is cut: root of its table of pieces, and the bytes at its start that stand before each piece."""

    root: Digest
    head: int


class StoredSource:
    """A file's bytes as `cutting.Source`."""

    def __init__(self, chunks: ChunkStore, file: File) -> None:
        self.size = file.size
        self._chunks = chunks
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        file = self._file
        return b"".join(self._chunks.read_file(file.size, file.digest, file.chunks, offset=offset, length=length))

    def stream(self, offset: int) -> Iterator[bytes]:
        file = self._file
        return self._chunks.read_file(file.size, file.digest, file.chunks, offset=offset)


class CutFiles:
    """Cuts files, and remembers it in the home. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, leaf: Leaf, rule: SplitRule, files: Iterable[File]) -> Mapping[Digest, Cuts]:
        """How files are cut, by their digests. InvalidInput: a file is not of the rule's format; it names the place.

        Cost: a pass over the bytes of each file that was not cut before; of one that begins like a file that was, over what follows.
        """
        wanted = {file.digest: file for file in files}
        known = self._remembered(rule, list(wanted))
        waiting = [file for digest, file in wanted.items() if digest not in known]
        for start in range(0, len(waiting), _FILES_AT_ONCE):
            known |= self._cut(leaf, rule, waiting[start : start + _FILES_AT_ONCE])
        return known

    def _remembered(self, rule: SplitRule, keys: Sequence[Digest]) -> dict[Digest, Cuts]:
        with self._home.catalog.read() as tx:
            root = file_cuts.root(tx, rule.text)
        if not root or not keys:
            return {}
        rows = self._home.tables.lookup(CUT_FILES, Digest(bytes.fromhex(root)), pa.array(keys, pa.binary(32)))
        columns = (rows.column(name).to_pylist() for name in ("key", "cuts", "head"))
        return {Digest(key): Cuts(Digest(cuts), head) for key, cuts, head in zip(*columns, strict=True)}

    def _cut(self, leaf: Leaf, rule: SplitRule, files: Sequence[File]) -> dict[Digest, Cuts]:
        stems = {file.digest: _stem_keys(file) for file in files}
        known = self._remembered(rule, [key for keys in stems.values() for key in keys])
        fresh: dict[Digest, Cuts] = {}
        with self._home.pin(), self._home.chunks.writer() as writer:
            for file in files:
                stem = next(
                    ((parts, known[key]) for key, parts in reversed(stems[file.digest].items()) if key in known), None
                )
                try:
                    cuts = self._cut_one(rule, file, stem, writer)
                except SplitError as error:
                    raise _refusal(leaf, file, error) from None
                fresh[file.digest] = cuts
                own = list(stems[file.digest])
                if own:
                    fresh[own[-1]] = cuts
            self._remember(rule, fresh, writer)
        return fresh

    def _cut_one(self, rule: SplitRule, file: File, stem: tuple[int, Cuts] | None, writer: ChunkWriter) -> Cuts:
        """Cut a file; where one that begins with the same chunks was cut before, only what follows its last sure piece."""
        tables = self._home.tables
        source = StoredSource(self._home.chunks, file)
        if stem is not None and rule.format is not SplitFormat.PARQUET:
            parts, old = stem
            sizes = self._home.chunks.chunk_sizes(file.chunks[:parts])
            before, kept = self._sure(rule, old.root, sum(sizes))
            if kept is not None:
                after, _ = cut_file(source, rule, Start(kept.offset, old.head, kept.records))
                if rule.by is SplitBy.CONTENT:
                    rows = pa.concat_tables([before, after])
                    return Cuts(tables.write(CUTS, _renamed(rows), writer), old.head)
                return Cuts(tables.merge(CUTS, old.root, after, kept.gone, writer), old.head)
        rows, head = cut_file(source, rule)
        return Cuts(tables.write(CUTS, _renamed(rows) if rule.by is SplitBy.CONTENT else rows, writer), head)

    def _sure(self, rule: SplitRule, root: Digest, limit: int) -> tuple[pa.Table, _Kept | None]:
        """The pieces that end by byte `limit`, but the last of them, in the order of the file; and where to go on.

        The last may be bounded by what followed it. By position only the end of the table is read; `before` is empty then.
        """
        tables = self._home.tables
        if rule.by is SplitBy.CONTENT:
            rows = _whole(tables.scan(CUTS, root))
            rows = rows.take(pc.sort_indices(rows.column("offset")))
            count = _ending_by(rows, limit)
            return (rows, None) if count < 1 else (rows.slice(0, count), _Kept.after(rows, count))
        for segment in reversed(tables.root(CUTS, root).segments):
            rows = _whole(tables.scan(CUTS, root, segment.first))
            count = _ending_by(rows, limit)
            if count >= 1:
                return rows.slice(0, 0), _Kept.after(rows, count)
        return pa.table({}), None

    def _remember(self, rule: SplitRule, fresh: Mapping[Digest, Cuts], writer: ChunkWriter) -> None:
        rows = pa.table(
            {
                "key": pa.array(list(fresh), pa.binary(32)),
                "cuts": pa.array([each.root for each in fresh.values()], pa.binary(32)),
                "head": pa.array([each.head for each in fresh.values()], pa.int64()),
            }
        )
        tables = self._home.tables
        while True:
            with self._home.catalog.read() as tx:
                old = file_cuts.root(tx, rule.text)
            base = Digest(bytes.fromhex(old)) if old else tables.empty(CUT_FILES)
            new = tables.merge(CUT_FILES, base, rows, None, writer)
            writer.flush()
            with self._home.catalog.write() as tx:
                if file_cuts.replace(tx, rule.text, old=old, new=new.hex(), now=self._home.now()):
                    return


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where a file is cut on: at this byte, after so many records. gone: names of the pieces from there on."""

    offset: int
    records: int
    gone: pa.Array

    @classmethod
    def after(cls, rows: pa.Table, count: int) -> _Kept:
        """After the first `count` of these pieces."""
        offset, length, first, records = (
            rows.column(name)[count - 1].as_py() for name in ("offset", "length", "first", "records")
        )
        return cls(offset + length, first + records - 1, single_array(rows.column("name"))[count:])


def _ending_by(rows: pa.Table, limit: int) -> int:
    """How many of the pieces end by byte `limit`, without the last of them."""
    ends = rows.column("offset").to_numpy() + rows.column("length").to_numpy()
    return int(np.searchsorted(ends, limit, side="right")) - 1


def _whole(parts: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts).combine_chunks()


def _renamed(rows: pa.Table) -> pa.Table:
    """The pieces of a whole file, in its order, named by their content."""
    names = named_by_content(rows.column("digest").to_pylist())
    return rows.set_column(0, rows.schema.field(0), pa.array(names, pa.string()))


def _stem_keys(file: File) -> dict[Digest, int]:
    """Keys of the beginnings of a file that end in each chunk but the last, the shortest first: {key: chunks}."""
    hash = blake3(_STEM_CONTEXT)
    keys: dict[Digest, int] = {}
    for count, chunk in enumerate(file.chunks[:-1], 1):
        keys[Digest(hash.update(chunk).digest())] = count
    return keys


def _refusal(leaf: Leaf, file: File, error: SplitError) -> InvalidInput:
    where = f"record {error.records + 1:,}, byte {error.byte:,}"
    return InvalidInput(f"input {leaf.name!r}: {leaf.address}:{file.path} {error.fault} ({where})")
