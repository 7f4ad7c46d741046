"""Open commits: an ordered list of file sets over the parent's tree, merged when someone reads and when it is
finished.

Merging takes all waiting writes at once, so a thousand small writes cost one merge; what a reader merged is
kept, so the next one starts from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog import commits
from paddock.catalog.commits import CommitRow, WriteRow
from paddock.catalog.database import Transaction
from paddock.model.addresses import Address
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, NotFound
from paddock.model.ids import Digest
from paddock.model.records import CommitState
from paddock.storage.clashes import below
from paddock.storage.columnar import bisect_key, flag_array, number_array
from paddock.storage.trees import Trees, tree_table
from paddock.versions.home import Home

Numbers: TypeAlias = npt.NDArray[np.int32]


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
    """One write with the effect of all of them in order. By columns: ten million files take little more than their rows."""
    tables = [tree_table(())]
    numbers: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    deleted_paths: dict[str, int] = {}
    deleted_prefixes: dict[str, int] = {}
    for number, write in enumerate(writes):
        deleted_paths |= dict.fromkeys(write.deleted_paths, number)
        deleted_prefixes |= dict.fromkeys(write.deleted_prefixes, number)
        for table in trees.rows(Digest(bytes.fromhex(write.files))):
            tables.append(table)
            numbers.append(np.full(table.num_rows, number, np.int32))
    files, written = _in_order(tables, numbers)
    keep = _newest(files.column("path"))
    keep &= _alive(files.column("path"), written, deleted_paths, deleted_prefixes)
    return Waiting(
        files if keep.all() else files.filter(flag_array(keep)), tuple(deleted_paths), tuple(deleted_prefixes)
    )


def _in_order(tables: Sequence[pa.Table], numbers: Sequence[Numbers]) -> tuple[pa.Table, Numbers]:
    """All rows by path, those of one path in order of their writes, and the number of the write of each."""
    files, written = pa.concat_tables(tables), np.concatenate(numbers)
    paths = files.column("path")
    if len(paths) < 2 or pc.all(pc.less(paths[:-1], paths[1:])).as_py():
        return files, written
    keys = pa.table({"path": paths, "write": number_array(written)})
    order = pc.sort_indices(keys, sort_keys=[("path", "ascending"), ("write", "ascending")])
    return files.take(order), written[order.to_numpy()]


def _newest(paths: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """For each of the sorted paths whether it is the last of its kind."""
    keep = np.ones(len(paths), dtype=bool)
    if len(paths) > 1:
        keep[:-1] = pc.not_equal(paths[1:], paths[:-1]).to_numpy()
    return keep


def _alive(
    paths: pa.ChunkedArray, written: Numbers, deleted_paths: Mapping[str, int], deleted_prefixes: Mapping[str, int]
) -> npt.NDArray[np.bool_]:
    """For each of the sorted paths whether no write after its own deletes it."""
    alive = np.ones(len(paths), dtype=bool)
    exact = (*deleted_paths.items(), *deleted_prefixes.items())
    ranges = [((path, path + "\0"), number) for path, number in exact]
    ranges += [(below(prefix), number) for prefix, number in deleted_prefixes.items()]
    for (first, last), number in ranges if len(paths) else ():
        span = slice(bisect_key(paths, first), bisect_key(paths, last))
        alive[span] &= written[span] >= number
    return alive


def _start(home: Home, tx: Transaction, commit: CommitRow) -> Digest:
    if commit.merged:
        return Digest(bytes.fromhex(commit.tree))
    if commit.parent_id is None:
        return home.trees.empty()
    return Digest(bytes.fromhex(commits.get(tx, commit.parent_id).tree))
