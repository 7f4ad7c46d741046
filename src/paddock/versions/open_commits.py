"""Open commits: an ordered list of file sets over the parent's tree, merged when someone reads and when it is
finished.

Merging takes all waiting writes at once, so a thousand small writes cost one merge; what a reader merged is
kept, so the next one starts from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from paddock.catalog import commits
from paddock.catalog.commits import CommitRow, WriteRow
from paddock.catalog.database import Transaction
from paddock.model.addresses import Address
from paddock.model.errors import Conflict, NotFound
from paddock.model.ids import Digest
from paddock.model.records import CommitState
from paddock.storage.trees import Trees, tree_table
from paddock.versions.home import Home


@dataclass(frozen=True, slots=True)
class View:
    """The tree of an open commit with its first `merged` writes."""

    tree: Digest
    merged: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Several writes as one: the deletions come first."""

    files: pa.Table
    deleted_paths: tuple[str, ...]
    deleted_prefixes: tuple[str, ...]


def tree_of(home: Home, commit: CommitRow | None) -> Digest:
    """The tree of a commit that may be read: a finished one, a user's open one as it is now, or none
    (empty).
    """
    if commit is None:
        return home.trees.empty()
    if commit.state == CommitState.FORGOTTEN:
        raise Conflict(f"commit {commit} is forgotten: its files were given up; name another one")
    if commit.finished is not None:
        return Digest(bytes.fromhex(commit.tree))
    return view(home, commit.id).tree


def require_path(home: Home, tree: Digest, address: Address, path: str) -> None:
    """NotFound where nothing is at or below the path; the root always is. Reads one segment."""
    if path != "/" and not any(table.num_rows for table in home.trees.rows(tree, path)):
        raise no_path(address, path)


def no_path(address: Address, path: str) -> NotFound:
    where = f"{address.repo}@{address.ref}"
    return NotFound(f"{where} has no file or directory {path}; `paddock ls {where}` shows what it has")


def view(home: Home, commit_id: int, *, keep: bool = True) -> View:
    """Merge what was written so far. Conflict names both paths where a file would also be a directory.

    keep: remember the merged tree in the catalog (one short transaction), so that the same writes are merged
    once.
    """
    with home.pin():
        return _view(home, commit_id, keep=keep)


def _view(home: Home, commit_id: int, *, keep: bool) -> View:
    with home.catalog.read() as tx:
        commit = commits.get(tx, commit_id)
        start = View(_start(home, tx, commit), commit.merged)
        writes = commits.writes(tx, commit_id, skip=commit.merged)
    if not writes:
        return start
    waiting = combine(home.trees, writes)
    with home.chunks.writer() as writer:
        tree = home.trees.merge(start.tree, waiting.files, waiting.deleted_paths, waiting.deleted_prefixes, writer)
        writer.flush()
    found = View(tree, start.merged + len(writes))
    if keep:
        with home.catalog.write() as tx:
            commits.set_merged(tx, commit_id, tree=tree.hex(), merged=found.merged)
    return found


def combine(trees: Trees, writes: Sequence[WriteRow]) -> Waiting:
    """One write with the effect of all of them in order. Costs one dictionary entry a file."""
    tables: list[pa.Table] = []
    place: dict[str, tuple[int, int]] = {}
    deleted_paths: dict[str, None] = {}
    deleted_prefixes: dict[str, None] = {}
    for write in writes:
        _delete(place, write)
        deleted_paths |= dict.fromkeys(write.deleted_paths)
        deleted_prefixes |= dict.fromkeys(write.deleted_prefixes)
        for table in trees.rows(Digest(bytes.fromhex(write.files))):
            number = len(tables)
            tables.append(table)
            place |= {path: (number, row) for row, path in enumerate(table.column("path").to_pylist())}
    return Waiting(_taken(tables, place), tuple(deleted_paths), tuple(deleted_prefixes))


def _start(home: Home, tx: Transaction, commit: CommitRow) -> Digest:
    if commit.merged:
        return Digest(bytes.fromhex(commit.tree))
    if commit.parent_id is None:
        return home.trees.empty()
    return Digest(bytes.fromhex(commits.get(tx, commit.parent_id).tree))


def _delete(place: dict[str, tuple[int, int]], write: WriteRow) -> None:
    for path in write.deleted_paths:
        place.pop(path, None)
    for prefix in write.deleted_prefixes:
        inside = prefix.removesuffix("/") + "/"
        for path in [path for path in place if path == prefix or path.startswith(inside)]:
            del place[path]


def _taken(tables: Sequence[pa.Table], place: dict[str, tuple[int, int]]) -> pa.Table:
    rows: dict[int, list[int]] = {}
    for number, row in place.values():
        rows.setdefault(number, []).append(row)

    def parts() -> Iterator[pa.Table]:
        for number, taken in rows.items():
            yield (tables[number] if len(taken) == tables[number].num_rows else tables[number].take(sorted(taken)))

    return pa.concat_tables(parts()) if rows else tree_table(())
