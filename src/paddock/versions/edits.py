"""The changes that puts, copies and removals make, as tables: columnar, and no larger than what really
differs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.ids import Digest
from paddock.model.limits import PATH_BYTES_MAX
from paddock.storage.chunks import ChunkStore, ChunkWriter, StoredFile
from paddock.storage.columnar import empty_table, sort_by_key
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.versions.changes import Change


def put_files(trees: Trees, tree: Digest | None, files: pa.Table) -> Change:
    """Add or replace files. Where the tree is known, those that are there already, equal, are left out."""
    if tree is None:
        return Change(files, changed=files.num_rows)
    present = trees.tables.lookup(TREE, tree, files.column("path").combine_chunks())
    fresh = _differing(files, present)
    return Change(fresh, changed=fresh.num_rows)


def mirror_files(trees: Trees, tree: Digest, path: str, files: pa.Table) -> Change:
    """Make what is at or below `path` exactly `files`."""
    present = pa.concat_tables([empty_table(TREE), *trees.rows(tree, path)])
    fresh = _differing(sort_by_key(TREE, files), present)
    gone = present.filter(pc.invert(pc.is_in(present.column("path"), value_set=files.column("path").combine_chunks())))
    removed = tuple(gone.column("path").to_pylist())
    return Change(fresh, deleted_paths=removed, changed=fresh.num_rows, removed=len(removed))


def remove(trees: Trees, tree: Digest, path: str, *, recursive: bool, where: str) -> Change:
    """Remove a file, or with `recursive` all below a directory. NotFound where nothing is."""
    if trees.row(tree, path) is not None:
        return Change(tree_table(()), deleted_paths=(path,), removed=1)
    removed = sum(table.num_rows for table in trees.rows(tree, path))
    if not removed and path != "/":
        raise NotFound(f"{where} has no file or directory {path}; `paddock ls {where}` shows what it has")
    if not recursive:
        raise InvalidInput(f"{where}:{path} is a directory; remove all below it with --recursive")
    return Change(tree_table(()), deleted_prefixes=(path,), removed=removed)


def moved_rows(trees: Trees, tree: Digest, source: str, target: str) -> pa.Table:
    """The files at or below `source`, named as if `source` were `target`, as user input (no datum)."""
    table = pa.concat_tables([empty_table(TREE), *trees.rows(tree, source)])
    stem = "" if target == "/" else target
    kept = pc.utf8_slice_codeunits(table.column("path"), start=0 if source == "/" else len(source))
    paths = pc.binary_join_element_wise(stem, kept, "")
    if table.num_rows and pc.max(pc.binary_length(paths)).as_py() > PATH_BYTES_MAX:
        raise InvalidInput(
            f"copying {source} to {target} makes paths longer than {PATH_BYTES_MAX} bytes; choose a shorter target"
        )
    datums = pa.nulls(table.num_rows, pa.binary()).fill_null(b"")
    return table.set_column(0, "path", paths).set_column(1, "datum", datums)


def append_files(store: ChunkStore, trees: Trees, tree: Digest, files: pa.Table, writer: ChunkWriter) -> Change:
    """Append each file's stored bytes to the file of its path; those that are missing are put as they are."""
    rows = []
    for row in tree_rows(files):
        old = trees.row(tree, row.path)
        if old is None:
            rows.append(row)
        else:
            reader = StoredReader(store.read_file(row.size, row.digest, row.chunks))
            rows.append(appended_row(old, writer.append_stream(stored(old), reader)))
    return Change(tree_table(rows), changed=len(rows))


def appended_row(old: TreeRow, file: StoredFile) -> TreeRow:
    """The row of a file that grew: a user's now, as executable as it was."""
    return TreeRow(old.path, b"", file.size, file.digest, old.executable, file.chunks)


def stored(row: TreeRow) -> StoredFile:
    return StoredFile(row.size, row.digest, row.chunks)


def tree_rows(table: pa.Table) -> Iterator[TreeRow]:
    """Rows of a table of TREE one by one; for a few."""
    for values in table.to_pylist():
        yield TreeRow(
            values["path"],
            values["datum"],
            values["size"],
            Digest(values["digest"]),
            bool(values["executable"]),
            tuple(Digest(chunk) for chunk in values["chunks"]),
        )


@dataclass(slots=True)
class StoredReader:
    """Pieces of a stored file as a stream, for `ChunkWriter`.."""

    pieces: Iterator[bytes]
    _rest: bytes = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self.pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _differing(files: pa.Table, present: pa.Table) -> pa.Table:
    """The files that are not among the present ones with equal content, mode and origin."""
    if present.num_rows == 0 or files.num_rows == 0:
        return files
    places = pc.index_in(files.column("path"), value_set=present.column("path").combine_chunks())
    found = present.select(["digest", "executable", "datum"]).take(places)
    same = pc.and_(
        pc.and_(
            pc.equal(files.column("digest"), found.column("digest")),
            pc.equal(files.column("executable"), found.column("executable")),
        ),
        pc.equal(files.column("datum"), found.column("datum")),
    )
    return files.filter(pc.invert(pc.fill_null(same, False)))
