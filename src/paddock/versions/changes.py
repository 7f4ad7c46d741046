"""Writes by users: one change becomes a commit of its own on a branch, or one more file set of an open
commit.

On a branch the tree is merged outside the transaction, which then only checks that the head is still the one
that was merged with; who loses the race merges again. A crash at any point leaves the old head or the new
one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import nullcontext

import pyarrow as pa

from paddock.catalog import commits
from paddock.catalog.commits import CommitRow
from paddock.model.addresses import Address
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict
from paddock.model.ids import CommitId, Digest
from paddock.storage.chunks import ChunkWriter
from paddock.storage.clashes import clash_error, clash_within
from paddock.storage.columnar import conform, sort_by_key
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home
from paddock.versions.open_commits import View, tree_of, view
from paddock.versions.targets import Target, commit_tree, locate


@dataclass(frozen=True, slots=True)
class Change:
    """Deletions, then files (rows as of TREE, unique paths)."""

    files: pa.Table
    deleted_paths: tuple[str, ...] = ()
    deleted_prefixes: tuple[str, ...] = ()
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """commit: None where nothing differed and so no commit was made."""

    commit: CommitId | None
    changed: int
    removed: int
    tree: Digest | None = None
    """What the branch holds now; not known of an open commit."""


Edit = Callable[[Digest | None], Change]
"""From the tree that a change applies to (None: it does not matter, and isn't known) to the change."""


class TreeNeed(enum.Enum):
    """Whether an edit has to see the tree that it applies to. On a branch it always does; the question is about
    open commits, whose tree has to be merged first."""

    NONE = "none"
    WHERE_POSSIBLE = "where possible"
    """Not where the open commit has no tree, because a file in it is also a directory: this edit may mend that."""
    ALWAYS = "always"


def write(
    home: Home,
    address: Address,
    edit: Edit,
    writer: ChunkWriter,
    *,
    needs_tree: TreeNeed = TreeNeed.NONE,
    only_if_changed: bool = False,
    create_branch: bool = True,
    edit_waits: bool = False,
) -> Written:
    """Apply an edit at `repo@branch` or `repo@<open commit>`, durably, with all chunks put through `writer`.

    The edit is called again, with the newer tree, where another writer was faster. edit_waits: its first call reads
    from outside, perhaps for long, and so must not hold up other writers. Errors leave everything as it was.
    """
    in_line = not edit_waits
    while True:
        with home.catalog.read() as tx:
            target = locate(tx, address, create_branch=create_branch)
        # Writers to one repo stand in line, or all but one of them would merge in vain. The line is a courtesy: it is
        # the check in the transaction that keeps the head right.
        with home.wait_lock(f"repo-{target.repo.id}") if in_line else nullcontext():
            with home.catalog.read() as tx:
                target = locate(tx, address, create_branch=create_branch)
            if target.open is not None:
                written = _write_open(home, address, target.open, edit, writer, needs_tree=needs_tree)
            else:
                written = _write_branch(home, address, target, edit, writer, only_if_changed=only_if_changed)
        if written is not None:
            return written
        in_line = True


def check_target(home: Home, address: Address) -> None:
    """Refuse early what `write` would refuse, before bytes are read."""
    with home.catalog.read() as tx:
        locate(tx, address, create_branch=True)


def _write_branch(
    home: Home, address: Address, target: Target, edit: Edit, writer: ChunkWriter, *, only_if_changed: bool
) -> Written | None:
    """None: the branch has moved meanwhile."""
    base = tree_of(home, target.head)
    change = edit(base)
    tree = home.trees.merge(base, change.files, change.deleted_paths, change.deleted_prefixes, writer)
    if only_if_changed and tree == base:
        return Written(None, 0, 0, tree)
    writer.flush()
    files, size_bytes = home.trees.totals(tree)
    commit = commit_tree(home, address, target, tree, files=files, size_bytes=size_bytes)
    return None if commit is None else Written(commit, change.changed, change.removed, tree)


def _write_open(
    home: Home, address: Address, commit: CommitRow, edit: Edit, writer: ChunkWriter, *, needs_tree: TreeNeed
) -> Written | None:
    """None: the commit was finished meanwhile, or, with `needs_tree`, written to."""
    base = _view(home, commit, needs_tree)
    change = edit(None if base is None else base.tree)
    files = sort_by_key(TREE, conform(TREE, change.files))
    clash = clash_within(files.column("path"))
    if clash is not None:
        raise clash_error(*clash)
    root = home.tables.write(TREE, files, writer)
    writer.flush()
    with home.catalog.write() as tx:
        now = locate(tx, address, create_branch=True)
        if now.open is None or now.open.id != commit.id:
            return None
        if base is not None and commits.count_writes(tx, commit.id) != base.merged:
            return None
        commits.add_write(
            tx,
            commit.id,
            files=root.hex(),
            deleted_paths=change.deleted_paths,
            deleted_prefixes=change.deleted_prefixes,
            created=home.now(),
        )
    return Written(CommitId(commit.set_id), change.changed, change.removed)


def _view(home: Home, commit: CommitRow, needs_tree: TreeNeed) -> View | None:
    if needs_tree is TreeNeed.NONE:
        return None
    try:
        return view(home, commit.id)
    except Conflict:
        if needs_tree is TreeNeed.ALWAYS:
            raise
        return None
