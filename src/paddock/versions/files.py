"""Files in commits: put, read, list, copy, remove, compare. Implements `model.services.Files`."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from paddock.catalog import commits
from paddock.catalog.commits import CommitRow
from paddock.model.addresses import Address, check_path, parse_address, target_path
from paddock.model.errors import InvalidInput
from paddock.model.globs import compile_glob
from paddock.model.ids import Digest
from paddock.model.records import Change as Kind
from paddock.model.records import Commit, CommitState, FileDiff, FileInfo, GetReport, PutReport
from paddock.model.services import OnTransfer
from paddock.storage.archive_ingest import add_archive
from paddock.storage.archive_writing import archive_of, check_format
from paddock.storage.chunks import ChunkWriter, StoredFile
from paddock.storage.export import selected_files, write_tree
from paddock.storage.ingest import Ingested, add_tree
from paddock.storage.matching import match_infos
from paddock.storage.trees import TreeRow, tree_table
from paddock.storage.urls import check_concurrency, local_path
from paddock.versions.changes import Change, Edit, TreeNeed, check_target
from paddock.versions.edits import (
    StoredReader,
    append_files,
    appended_row,
    moved_rows,
    put_files,
    remove,
    stored,
)
from paddock.versions.home import Home
from paddock.versions.locks import Lock
from paddock.versions.open_commits import no_path, require_path, tree_of
from paddock.versions.puts import put_filled, run_put
from paddock.versions.records import commit_record
from paddock.versions.resolve import check_readable, resolve
from paddock.versions.targets import locate


class FileService:
    def __init__(self, home: Home) -> None:
        self._home = home

    # ---- writing -------------------------------------------------------------------------------------------

    def put(self, target: str, source: BinaryIO | bytes, *, append: bool = False) -> PutReport:
        """The source is read once, before anything is decided. `changed` is 0 where the file was there,
        equal.
        """
        address, path = _file_address(target)
        if path == "/" or target.endswith("/"):
            raise InvalidInput(
                f"{target!r} names a directory; name the file to write, as in {address.repo}@{address.ref}:/file"
            )
        check_target(self._home, address)
        reader = io.BytesIO(source) if isinstance(source, bytes) else source

        if append:
            return self._append(address, path, reader)

        def body(writer: ChunkWriter) -> tuple[Edit, int, int]:
            file = writer.put_stream(reader)
            table = tree_table([TreeRow(path, b"", file.size, file.digest, False, file.chunks)])
            return (lambda tree: put_files(self._home.trees, tree, table)), 1, file.size

        return run_put(self._home, address, body).report

    def _append(self, address: Address, path: str, reader: BinaryIO) -> PutReport:
        """`bytes` counts those that were added."""
        appending: list[_Appending] = []

        def body(writer: ChunkWriter) -> tuple[Edit, int, int]:
            appending.append(_Appending(self._home, path, reader, writer))
            return appending[0], 1, 0

        put = run_put(self._home, address, body, needs_tree=TreeNeed.ALWAYS, edit_waits=True)
        return replace(put.report, bytes=appending[0].added_bytes)

    def put_tree(
        self,
        target: str,
        source: Path,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        """Into an open commit `changed` counts what was put, whether or not it differs."""
        home = self._home
        address, path = self._place(target, source.name if source.is_file() else None)

        def fill(writer: ChunkWriter) -> Ingested:
            return add_tree(
                home.chunks,
                writer,
                source,
                path,
                cache_dir=home.cache,
                on_transfer=on_transfer,
                earlier=partial(self._earlier, address),
            )

        return put_filled(home, address, path, fill, append=append, mirror=mirror)

    def _earlier(self, address: Address, path: str) -> StoredFile | None:
        """What the branch has as a file before a put."""
        with self._home.catalog.read() as tx:
            head = locate(tx, address, create_branch=True).head
        if head is None or head.state != CommitState.FINISHED:
            return None
        row = self._home.trees.row(tree_of(self._home, head), path)
        return None if row is None else stored(row)

    def put_archive(
        self,
        target: str,
        source: BinaryIO,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        address, path = self._place(target, None)

        def fill(writer: ChunkWriter) -> Ingested:
            return add_archive(writer, source, path, on_transfer=on_transfer)

        return put_filled(self._home, address, path, fill, append=append, mirror=mirror)

    def delete(self, target: str, *, recursive: bool = False) -> PutReport:
        """Open commits included: NotFound where neither the parent nor an earlier write has the path."""
        address, path = _file_address(target, needs_path=True)
        where = f"{address.repo}@{address.ref}"
        if path == "/" and not recursive:
            raise InvalidInput(f"{where}:/ is a directory; remove all below it with --recursive")

        def edit(tree: Digest | None) -> Change:
            if tree is None:
                return Change(tree_table(()), deleted_paths=(path,), deleted_prefixes=(path,) if recursive else ())
            return remove(self._home.trees, tree, path, recursive=recursive, where=where)

        return run_put(
            self._home,
            address,
            lambda writer: (edit, 0, 0),
            needs_tree=TreeNeed.WHERE_POSSIBLE,
            create_branch=False,
        ).report

    def copy(self, source: str, target: str, *, append: bool = False) -> PutReport:
        """A file goes to the target path, or below it where that ends in `/` or is the root; a directory's
        content goes below it.
        """
        address, path = _file_address(target)
        origin, source_path = _file_address(source)
        check_target(self._home, address)
        with self._home.pin():
            return self._copy(origin, source_path, address, path, append=append, into=target.endswith("/"))

    def _copy(
        self, origin: Address, source_path: str, address: Address, path: str, *, append: bool, into: bool
    ) -> PutReport:
        trees = self._home.trees
        tree = self._tree(origin)
        if trees.row(tree, source_path) is not None and (path == "/" or into):
            path = check_path(f"{path.removesuffix('/')}/{source_path.rpartition('/')[2]}")
        table = moved_rows(trees, tree, source_path, path)
        if table.num_rows == 0 and source_path != "/":
            raise no_path(origin, source_path)
        size_bytes = sum(table.column("size").to_pylist())

        def body(writer: ChunkWriter) -> tuple[Edit, int, int]:
            def edit(base: Digest | None) -> Change:
                if base is not None and append:
                    return append_files(self._home.chunks, trees, base, table, writer)
                return put_files(trees, base, table)

            return edit, table.num_rows, size_bytes

        return run_put(self._home, address, body, needs_tree=TreeNeed.ALWAYS if append else TreeNeed.NONE).report

    def _place(self, target: str, name: str | None) -> tuple[Address, str]:
        """Where files go; `name`: of the source, where that is a single file. Refuses a target that can't be written."""
        address, path = parse_address(target), target_path(target, name)
        check_target(self._home, address)
        return address, path

    # ---- reading -------------------------------------------------------------------------------------------

    def read(self, source: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """InvalidInput: a directory, or a negative offset or length. Past the end there is nothing,
        without an error.
        """
        if offset < 0 or (length is not None and length < 0):
            raise InvalidInput(f"offset {offset} and length {length} must not be negative")
        address, path = _file_address(source, needs_path=True)
        with self._home.pin():
            tree = self._tree(address)
            require_path(self._home, tree, address, path)
            row = self._home.trees.row(tree, path)
            if row is None:
                raise InvalidInput(f"{source} is a directory; name a file, or use get for the whole of it")
            pieces = self._home.chunks.read_file(row.size, row.digest, row.chunks, offset=offset, length=length)
            return _pinned(pieces, self._home.pin())

    def get_tree(
        self, source: str, target: Path, *, mirror: bool = False, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        address, path = _file_address(source)
        home = self._home
        with home.pin():
            tree = self._tree(address)
            require_path(self._home, tree, address, path)
            return write_tree(
                home.chunks,
                home.trees,
                tree,
                path,
                target,
                mirror=mirror,
                cache_dir=home.cache,
                on_transfer=on_transfer,
            )

    def put_url(
        self,
        target: str,
        url: str,
        *,
        append: bool = False,
        mirror: bool = False,
        concurrency: int = 8,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        check_concurrency(concurrency)
        local = local_path(url)
        if local is not None:
            return self.put_tree(target, local, append=append, mirror=mirror, on_transfer=on_transfer)
        # They bring in the clients of object stores or of HTTP, which other puts need not load.
        from paddock.storage.url_ingest import add_url
        from paddock.storage.url_sources import open_source

        home = self._home
        self._place(target, None)
        source = open_source(url)
        address, path = self._place(target, source.name)

        def fill(writer: ChunkWriter) -> Ingested:
            return add_url(
                home.chunks,
                writer,
                source,
                path,
                concurrency=concurrency,
                cache_dir=home.cache,
                on_transfer=on_transfer,
            )

        return put_filled(home, address, path, fill, append=append, mirror=mirror)

    def get_url(
        self, source: str, url: str, *, concurrency: int = 8, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        check_concurrency(concurrency)
        local = local_path(url)
        if local is not None:
            return self.get_tree(source, local, on_transfer=on_transfer)
        from paddock.storage.url_export import check_target_url, write_url

        check_target_url(url)
        address, path = _file_address(source)
        home = self._home
        with home.pin():
            tree = self._tree(address)
            require_path(home, tree, address, path)
            return write_url(
                home.chunks,
                selected_files(home.trees, tree, path),
                url,
                concurrency=concurrency,
                cache_dir=home.cache,
                on_transfer=on_transfer,
            )

    def get_archive(self, source: str, *, format: str = "tar") -> Iterator[bytes]:
        name = check_format(format)
        address, path = _file_address(source)
        home = self._home
        with home.pin():
            tree = self._tree(address)
            require_path(home, tree, address, path)
            files = selected_files(home.trees, tree, path).files
            return _pinned(archive_of(home.chunks, files, name), home.pin())

    def inspect(self, address: str) -> FileInfo:
        parsed, path = _file_address(address)
        info = self._home.trees.info(self._tree(parsed), path)
        if info is None:
            raise no_path(parsed, path)
        return info

    def list(self, address: str, *, recursive: bool = False) -> Iterator[FileInfo]:
        """NotFound where nothing is at the path, before the first item; the root always is."""
        parsed, path = _file_address(address)
        trees, tree = self._home.trees, self._tree(parsed)
        require_path(self._home, tree, parsed, path)
        if recursive or trees.row(tree, path) is not None:
            return trees.walk(tree, path)
        return trees.children(tree, path)

    def glob(self, address: str) -> Iterator[FileInfo]:
        """InvalidInput, with the place in the pattern, before the first item."""
        parsed, path = _file_address(address, needs_path=True)
        pattern = compile_glob(path)
        return match_infos(self._home.trees, self._tree(parsed), pattern)

    def diff(self, new: str, old: str | None = None) -> Iterator[FileDiff]:
        """A path in `new` limits the comparison to what is at or below it; `old` may name the same one or
        none.
        """
        parsed, path = _file_address(new)
        commit = self._commit(parsed)
        if old is None:
            with self._home.catalog.read() as tx:
                before = None if commit is None or commit.parent_id is None else commits.get(tx, commit.parent_id)
        else:
            other, other_path = _file_address(old)
            if other.path is not None and other_path != path:
                raise InvalidInput(f"{new} and {old} name different paths; name one path, or none")
            before = self._commit(other)
        return self._home.trees.diff(tree_of(self._home, before), tree_of(self._home, commit), path)

    def find(self, address: str, *, limit: int | None = None) -> builtins.list[tuple[Commit, FileDiff]]:
        """Costs one look at the path's segment for each commit whose tree differs from its parent's."""
        parsed, path = _file_address(address, needs_path=True)
        with self._home.catalog.read() as tx:
            newest = resolve(tx, parsed).commit
            line = [] if newest is None else commits.ancestors(tx, newest.id)
            chain = [commit for commit in line if commit.state != CommitState.FORGOTTEN]
            if newest is not None:
                check_readable(tx, newest)
        found: builtins.list[tuple[Commit, FileDiff]] = []
        for number, commit in enumerate(chain):
            if limit is not None and len(found) >= limit:
                break
            parent = chain[number + 1] if number + 1 < len(chain) else None
            change = self._change_of(path, commit, parent)
            if change is not None:
                with self._home.catalog.read() as tx:
                    found.append((commit_record(tx, commit), change))
        return found

    def _change_of(self, path: str, commit: CommitRow, parent: CommitRow | None) -> FileDiff | None:
        trees = self._home.trees
        new_tree, old_tree = tree_of(self._home, commit), tree_of(self._home, parent)
        if new_tree == old_tree:
            return None
        new_row, old_row = trees.row(new_tree, path), trees.row(old_tree, path)
        if new_row == old_row:
            return None
        new = None if new_row is None else trees.info(new_tree, path)
        old = None if old_row is None else trees.info(old_tree, path)
        kind = Kind.ADDED if old is None else Kind.REMOVED if new is None else Kind.CHANGED
        return FileDiff(path, kind, old, new)

    def _commit(self, address: Address) -> CommitRow | None:
        """The readable commit that the address's ref stands for; None for a branch without one."""
        with self._home.catalog.read() as tx:
            commit = resolve(tx, address).commit
            if commit is not None:
                check_readable(tx, commit)
            return commit

    def _tree(self, address: Address) -> Digest:
        return tree_of(self._home, self._commit(address))


class _Appending:
    """An edit that appends a stream, which can be read only once: where a race is lost, the bytes come
    from the store.
    """

    def __init__(self, home: Home, path: str, reader: BinaryIO, writer: ChunkWriter) -> None:
        self._home = home
        self._path = path
        self._reader = reader
        self._writer = writer
        self._base: StoredFile | None = None
        self._result: StoredFile | None = None

    @property
    def added_bytes(self) -> int:
        if self._result is None:
            return 0
        return self._result.size - (0 if self._base is None else self._base.size)

    def __call__(self, tree: Digest | None) -> Change:
        assert tree is not None, "an append is given the tree"
        row = self._home.trees.row(tree, self._path)
        base = None if row is None else stored(row)
        if self._result is None or base != self._base:
            self._result = self._append(base)
            self._base = base
        if row is None:
            row = TreeRow(self._path, b"", 0, self._result.digest, False)
        return Change(tree_table([appended_row(row, self._result)]), changed=1)

    def _append(self, base: StoredFile | None) -> StoredFile:
        writer = self._writer
        if self._result is None:
            return writer.put_stream(self._reader) if base is None else writer.append_stream(base, self._reader)
        writer.flush()
        skipped = 0 if self._base is None else self._base.size
        result = self._result
        added = StoredReader(self._home.chunks.read_file(result.size, result.digest, result.chunks, offset=skipped))
        return writer.put_stream(added) if base is None else writer.append_stream(base, added)


def _file_address(text: str, *, needs_path: bool = False) -> tuple[Address, str]:
    """The address and its path; the root where it has none."""
    address = parse_address(text)
    if needs_path and address.path is None:
        raise InvalidInput(f"{text!r} names no path; write [project/]repo@ref:/path")
    return address, address.path or "/"


def _pinned(pieces: Iterator[bytes], pin: Lock) -> Iterator[bytes]:
    """The pieces; the pin is released with the last one, or when nobody wants more."""
    with pin:
        yield from pieces
