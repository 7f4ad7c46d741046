"""Trees: the file table of a commit. Paths are canonical (`/a/b`); a path is a file or a directory, never both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge as merge_sorted
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from paddock.model.ids import Digest
from paddock.model.records import Change, FileDiff, FileInfo, FileKind
from paddock.storage.chunks import ChunkWriter
from paddock.storage.clashes import Paths, below, clash_error, clash_within, directories_above
from paddock.storage.columnar import arrow_schema, bisect_key, conform, single_array, sort_by_key
from paddock.storage.path_columns import DIRECTORY_PREFIX, Directories, PathColumn, directories
from paddock.storage.table_roots import last_key
from paddock.storage.tables import Tables
from paddock.storage.tree_kinds import FILES, TREE, TreeRow

__all__ = ["FILES", "TREE", "TreeRow", "Trees", "directory_infos", "file_infos", "tree_table"]

EMPTY_DIRECTORY = Digest(blake3(DIRECTORY_PREFIX).digest())


def tree_table(rows: Iterable[TreeRow]) -> pa.Table:
    """Tree rows as a table, for a few rows; for many, build the columns."""
    listed = list(rows)
    columns = {
        "path": [row.path for row in listed],
        "datum": [row.datum for row in listed],
        "size": [row.size for row in listed],
        "digest": [row.digest for row in listed],
        "executable": [int(row.executable) for row in listed],
        "chunks": [list(row.chunks) for row in listed],
    }
    return pa.table(columns, schema=arrow_schema(TREE))


class Trees:
    """Reads and edits trees. Thread-safe. `root` is always the digest of a tree's root; `path` a canonical path."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def empty(self) -> Digest:
        """The tree without files. It is stored nowhere."""
        return self.tables.empty(TREE)

    def totals(self, root: Digest) -> tuple[int, int]:
        """(files, bytes), from the root alone."""
        table = self.tables.root(TREE, root)
        return table.rows, table.weight

    def row(self, root: Digest, path: str) -> TreeRow | None:
        """The file at exactly that path."""
        values = self.tables.get(TREE, root, path)
        return None if values is None else _tree_row(values)

    def rows(self, root: Digest, path: str = "/") -> Iterator[pa.Table]:
        """Tree rows of the file at `path`, or of all files below it, sorted, a piece for each segment."""
        if path != "/":
            exact = list(self.tables.scan(TREE, root, path, path + "\0"))
            if exact:
                yield from exact
                return
        yield from self.tables.scan(TREE, root, *below(path))

    def info(self, root: Digest, path: str) -> FileInfo | None:
        """The file or directory at `path`; None where nothing is. The root always is. A directory costs a scan of what is below."""
        row = self.row(root, path)
        if row is not None:
            return _file_info(row)
        found = list(directory_infos(directories(self.tables.scan(TREE, root, *below(path)), depth_of(path))))
        if found:
            return found[0]
        return _empty_root_info() if path == "/" else None

    def directory_digest(self, root: Digest, path: str) -> Digest:
        """The digest of what is below a directory (`path_columns` says how)."""
        for done in directories(self.tables.scan(TREE, root, *below(path)), depth_of(path)):
            if done.digests:
                return done.digests[0]
        return EMPTY_DIRECTORY

    def children(self, root: Digest, path: str) -> Iterator[FileInfo]:
        """The immediate children of a directory, sorted by path; nothing for a file or a path that is not there."""
        depth = depth_of(path) + 1
        scan = self.tables.scan(TREE, root, *below(path))
        infos: list[FileInfo] = []
        files: list[FileInfo] = []

        def tapped() -> Iterator[pa.Table]:
            for table in scan:
                files.extend(file_infos(PathColumn(table).at_depth(depth)))
                yield table

        infos.extend(directory_infos(directories(tapped(), depth)))
        infos.sort(key=_path)
        return merge_sorted(files, infos, key=_path)

    def walk(self, root: Digest, path: str = "/") -> Iterator[FileInfo]:
        """All files at or below a path, sorted."""
        for table in self.rows(root, path):
            yield from file_infos(table)

    def merge(
        self,
        root: Digest,
        upserts: pa.Table,
        deletions: Sequence[str],
        deleted_prefixes: Sequence[str],
        writer: ChunkWriter,
    ) -> Digest:
        """The tree without `deletions` (files) and all that is at or below `deleted_prefixes`, then with `upserts` (rows as of TREE).

        What is missing is deleted without complaint. Conflict names both paths where a file would also be a directory, or the path that occurs twice.
        """
        upserts = sort_by_key(TREE, conform(TREE, upserts))
        deleted = self._deleted(root, deletions, deleted_prefixes)
        clash = self.find_clash(root, upserts.column("path"), deleted)
        if clash is not None:
            raise clash_error(*clash)
        return self.tables.merge(TREE, root, upserts, sorted(deleted), writer)

    def find_clash(self, root: Digest, paths: Paths, deleted: Collection[str] = ()) -> tuple[str, str] | None:
        """(file, path below it) that the tree would hold at once, had it the sorted `paths` as files too and not the `deleted` ones."""
        clash = clash_within(paths)
        if clash is not None or root == self.empty():
            return clash
        above = directories_above(paths)
        if above:
            files = self.tables.lookup(TREE, root, pa.array(sorted(above))).column("path").to_pylist()
            for file in files:
                if file not in deleted:
                    return file, paths[bisect_key(paths, below(file)[0])].as_py()
        return self._file_over_directory(root, paths, deleted)

    def diff(self, old: Digest, new: Digest, path: str = "/") -> Iterator[FileDiff]:
        """Files at or below `path` that differ, sorted. Reads only the segments that differ."""
        ranges = [below(path)] if path == "/" else [(path, path + "\0"), below(path)]
        for first, last in ranges:
            for before, after in self.tables.diff(TREE, old, new, first, last):
                yield from _file_diffs(before, after)

    def _deleted(self, root: Digest, deletions: Sequence[str], prefixes: Sequence[str]) -> set[str]:
        deleted = set(deletions)
        for prefix in prefixes:
            for table in self.rows(root, prefix):
                deleted.update(table.column("path").to_pylist())
        return deleted

    def _file_over_directory(self, root: Digest, paths: Paths, deleted: Collection[str]) -> tuple[str, str] | None:
        """A new path below which the tree has files that stay."""
        present = self.tables.lookup(TREE, root, paths).column("path")
        fresh = paths.filter(pc.invert(pc.is_in(paths, value_set=single_array(present)))).to_pylist()
        segments = self.tables.root(TREE, root).segments
        number = -1
        keys: list[str] = []
        for path in fresh:
            first, last = below(path)
            at = bisect_left(segments, first, key=last_key)
            if at == len(segments) or segments[at].first >= last:
                continue
            if at != number:
                number = at
                keys = _scan_keys(self.tables, root, segments[at].first, segments[at].last)
            row = bisect_left(keys, first)
            if row < len(keys) and keys[row] < last:
                for inside in self._inside(root, first, last):
                    if inside not in deleted:
                        return path, inside
        return None

    def _inside(self, root: Digest, first: str, last: str) -> Iterator[str]:
        for table in self.tables.scan(TREE, root, first, last):
            yield from table.column("path").to_pylist()


def depth_of(path: str) -> int:
    """Parts of a canonical path: 0 for the root."""
    return 0 if path == "/" else path.count("/")


def _scan_keys(tables: Tables, root: Digest, first: str, last: str) -> list[str]:
    keys: list[str] = []
    for table in tables.scan(TREE, root, first, last + "\0"):
        keys += table.column("path").to_pylist()
    return keys


def _tree_row(values: dict[str, Any]) -> TreeRow:
    return TreeRow(
        values["path"],
        values["datum"],
        values["size"],
        Digest(values["digest"]),
        bool(values["executable"]),
        tuple(Digest(chunk) for chunk in values["chunks"]),
    )


def _file_info(row: TreeRow) -> FileInfo:
    return FileInfo(
        path=row.path,
        kind=FileKind.FILE,
        size_bytes=row.size,
        digest=row.digest.hex(),
        files=1,
        executable=row.executable,
        datum=row.datum.hex(),
    )


def file_infos(table: pa.Table) -> Iterator[FileInfo]:
    """Rows of a tree one by one."""
    columns = (table.column(name).to_pylist() for name in ("path", "size", "digest", "executable", "datum"))
    for path, size, digest, executable, datum in zip(*columns, strict=True):
        yield FileInfo(
            path=path,
            kind=FileKind.FILE,
            size_bytes=size,
            digest=digest.hex(),
            files=1,
            executable=bool(executable),
            datum=datum.hex(),
        )


def directory_infos(found: Iterable[Directories]) -> Iterator[FileInfo]:
    """Directories one by one."""
    for done in found:
        for path, files, size, digest in zip(done.paths, done.files, done.sizes, done.digests, strict=True):
            yield _directory_info(path, files, size, digest)


def _directory_info(path: str, files: int, size: int, digest: Digest) -> FileInfo:
    return FileInfo(
        path=path,
        kind=FileKind.DIRECTORY,
        size_bytes=size,
        digest=digest.hex(),
        files=files,
        executable=False,
        datum="",
    )


def _empty_root_info() -> FileInfo:
    return _directory_info("/", 0, 0, EMPTY_DIRECTORY)


def _file_diffs(before: pa.Table, after: pa.Table) -> Iterator[FileDiff]:
    olds = {info.path: info for info in file_infos(before)}
    news = {info.path: info for info in file_infos(after)}
    for path in sorted(olds.keys() | news.keys()):
        old, new = olds.get(path), news.get(path)
        if old is None:
            yield FileDiff(path, Change.ADDED, None, new)
        else:
            yield FileDiff(path, Change.REMOVED if new is None else Change.CHANGED, old, new)


def _path(info: FileInfo) -> str:
    return info.path
