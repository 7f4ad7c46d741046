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
from dataclasses import dataclass

import pyarrow as pa

from paddock.catalog import branches, commits
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, check_name
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.ids import CommitId, Digest, new_id
from paddock.model.records import CommitOrigin, CommitState
from paddock.storage.chunks import ChunkWriter
from paddock.storage.clashes import clash_error, clash_within
from paddock.storage.columnar import conform, sort_by_key
from paddock.storage.tree_kinds import TREE
from paddock.versions.commits import find_or_make_branch, finish_commit, open_commit
from paddock.versions.guards import refuse_user_write
from paddock.versions.home import Home
from paddock.versions.open_commits import View, tree_of, view
from paddock.versions.resolve import require_repo, resolve


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


Edit = Callable[[Digest | None], Change]
"""From the tree that a change applies to (None: it does not matter, and isn't known) to the change."""


class TreeNeed(enum.Enum):
    """Whether an edit has to see the tree that it applies to. On a branch it always does; the question is about
    open commits, whose tree has to be merged first."""

    NONE = "none"
    WHERE_POSSIBLE = "where possible"
    """Not where the open commit has no tree, because a file in it is also a directory: this edit may mend that."""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class _Target:
    repo: RepoRow
    branch: BranchRow | None
    """None: not there yet, or the ref names an open commit."""
    open: CommitRow | None
    head: CommitRow | None


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
            target = _locate(tx, address, create_branch=create_branch)
        # Writers to one repo stand in line, or all but one of them would merge in vain. The line is a courtesy: it is
        # the check in the transaction that keeps the head right.
        with home.wait_lock(f"repo-{target.repo.id}") if in_line else nullcontext():
            with home.catalog.read() as tx:
                target = _locate(tx, address, create_branch=create_branch)
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
        _locate(tx, address, create_branch=True)


def _locate(tx: Transaction, address: Address, *, create_branch: bool) -> _Target:
    if address.ref.steps:
        raise InvalidInput(f"{address.repo}@{address.ref} is an old commit, which never changes; write to a branch")
    repo = require_repo(tx, address.repo)
    refuse_user_write(tx, repo, address.ref.name)
    branch = branches.find(tx, repo.id, address.ref.name)
    if branch is not None:
        opened = None if branch.open_id is None else commits.get(tx, branch.open_id)
        return _Target(repo, branch, opened, None if branch.head_id is None else commits.get(tx, branch.head_id))
    try:
        commit = resolve(tx, address).commit
    except NotFound:
        if address.ref.commit_id is not None or not create_branch:
            raise
        check_name("branch", address.ref.name)
        return _Target(repo, None, None, None)
    assert commit is not None, "a ref that is no branch is a commit"
    if commit.state != CommitState.OPEN or commit.origin != CommitOrigin.USER:
        raise Conflict(f"commit {commit} is {commit.state} and never changes again; write to a branch")
    return _Target(repo, None, commit, None)


def _write_branch(
    home: Home, address: Address, target: _Target, edit: Edit, writer: ChunkWriter, *, only_if_changed: bool
) -> Written | None:
    """None: the branch has moved meanwhile."""
    base = tree_of(home, target.head)
    change = edit(base)
    tree = home.trees.merge(base, change.files, change.deleted_paths, change.deleted_prefixes, writer)
    if only_if_changed and tree == base:
        return Written(None, 0, 0)
    writer.flush()
    files, size_bytes = home.trees.totals(tree)
    with home.catalog.write() as tx:
        now = _locate(tx, address, create_branch=True)
        if _head_id(now) != _head_id(target) or now.open is not None:
            return None
        moment = home.now()
        branch = find_or_make_branch(tx, now.repo.id, address.ref.name, moment)
        commit = commits.get(tx, open_commit(tx, branch, set_id=new_id(), description="", now=moment))
        finish_commit(tx, commit, tree=tree.hex(), files=files, size_bytes=size_bytes, now=moment)
    return Written(CommitId(commit.set_id), change.changed, change.removed)


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
        now = _locate(tx, address, create_branch=True)
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


def _head_id(target: _Target) -> int | None:
    return None if target.branch is None else target.branch.head_id
