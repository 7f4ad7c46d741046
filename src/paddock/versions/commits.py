"""Commits and commit sets. Implements `model.services.Commits`."""

from __future__ import annotations

import builtins
import time
from collections.abc import Sequence

from paddock.catalog import branches, commits, jobs
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, check_name, parse_address
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.ids import new_id
from paddock.model.records import Commit, CommitOrigin, CommitSet, CommitState
from paddock.versions import history
from paddock.versions.guards import refuse_user_write
from paddock.versions.home import Home
from paddock.versions.propagate import propagate
from paddock.versions.records import commit_record, commit_records, job_record, time_of
from paddock.versions.resolve import require_repo, require_set, resolve, resolve_commit

POLL_SECONDS = 0.02
"""How often a waiting `inspect` asks whether anything was committed: one PRAGMA, some 10 µs."""


class CommitService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def start(
        self, branch: str, *, description: str = "", commit_set: str | None = None, detached: bool = False
    ) -> Commit:
        """Conflict: the branch has an open commit already (unless `detached`) or is a pipeline's output, or the set is
        finished or has a commit in the repo.
        """
        address = _address(branch)
        if address.ref.steps:
            raise InvalidInput(f"{branch!r} is not a branch; write [project/]repo@branch")
        with self._home.catalog.write() as tx:
            now = self._home.now()
            repo = require_repo(tx, address.repo)
            refuse_user_write(tx, repo, address.ref.name)
            row = find_or_make_branch(tx, repo.id, address.ref.name, now)
            if row.open_set is not None and not detached:
                raise Conflict(f"branch {row} has the open commit {row.open_set} already; finish or abandon it first")
            set_id = new_id() if commit_set is None else _joinable(tx, commit_set, repo)
            commit_id = open_commit(tx, row, set_id=set_id, description=description, now=now)
            if not detached:
                branches.set_open(tx, row.id, commit_id)
            return commit_record(tx, commits.get(tx, commit_id))

    def finish(self, commit: str, *, description: str | None = None) -> Commit:
        """Conflict: it is finished already, its set has other open commits, or what was written makes a file also a
        directory; it stays open then.
        """
        address = _address(commit)
        while True:
            with self._home.catalog.read() as tx:
                row = _require_open(tx, address)
                together = _open_of_set(tx, row.set_id)
            if len(together) > 1:
                raise Conflict(
                    f"commit {row} is one of {len(together)} open commits of its set, which are finished together: "
                    f"`paddock commit finish {row.set_id}`"
                )
            if self._finish(together, description=description, keep_unchanged=True) is not None:
                with self._home.catalog.read() as tx:
                    return commit_record(tx, commits.get(tx, row.id))

    def finish_set(self, commit_set: str) -> tuple[Commit, ...]:
        """Conflict: the set has no open commit, or one holds a file that is also a directory; all stay open then."""
        while True:
            with self._home.catalog.read() as tx:
                together = _open_of_set(tx, require_set(tx, commit_set))
            if not together:
                raise Conflict(f"commit set {commit_set} has no open commit of a user; there is nothing to finish")
            finished = self._finish(together, keep_unchanged=False)
            if finished is not None:
                with self._home.catalog.read() as tx:
                    return commit_records(tx, [commits.get(tx, id) for id in finished])

    def _finish(
        self, rows: Sequence[CommitRow], *, keep_unchanged: bool, description: str | None = None
    ) -> builtins.list[int] | None:
        """Finish open commits in one transaction; ids of those finished. None: something was written meanwhile."""
        with self._home.pin():
            return self._finish_pinned(rows, keep_unchanged=keep_unchanged, description=description)

    def _finish_pinned(
        self, rows: Sequence[CommitRow], *, keep_unchanged: bool, description: str | None
    ) -> builtins.list[int] | None:
        # Only finishing merges trees, and so needs pyarrow; listing commits must not pay for it.
        from paddock.versions.open_commits import view

        for row in rows:
            _follow_head(self._home, row)
        views = [view(self._home, row.id, keep=False) for row in rows]
        totals = [self._home.trees.totals(merged.tree) for merged in views]
        with self._home.catalog.write() as tx:
            for row, merged in zip(rows, views, strict=True):
                if not _unmoved(tx, row.id, merged.merged):
                    return None
            now = self._home.now()
            changed = {}
            for row, merged, (files, size_bytes) in zip(rows, views, totals, strict=True):
                commits.delete_writes(tx, row.id)
                if (
                    not keep_unchanged
                    and _tree_before(tx, row, empty=self._home.trees.empty().hex()) == merged.tree.hex()
                ):
                    _forget_open(tx, row)
                    continue
                if description is not None:
                    commits.set_description(tx, row.id, description)
                branch_id = close_commit(tx, row, tree=merged.tree.hex(), files=files, size_bytes=size_bytes, now=now)
                changed[row.id] = branch_id
            propagate(tx, list(changed.values()), set_id=rows[0].set_id, now=now)
            return list(changed)

    def abandon(self, commit: str) -> None:
        """Conflict where it is finished already."""
        address = _address(commit)
        with self._home.catalog.write() as tx:
            _forget_open(tx, _require_open(tx, address))

    def squash(self, commit: str, *, recursive: bool = False) -> tuple[Commit, ...]:
        return history.squash(self._home, commit, recursive=recursive)

    def drop(self, commit: str, *, recursive: bool = False) -> tuple[Commit, ...]:
        return history.drop(self._home, commit, recursive=recursive)

    def forget(self, commit: str) -> tuple[Commit, ...]:
        return history.forget(self._home, commit)

    def list(self, repo: str, *, limit: int | None = None) -> builtins.list[Commit]:
        address = parse_address(repo)
        with self._home.catalog.read() as tx:
            if "@" not in repo:
                rows = commits.of_repo(tx, require_repo(tx, address.repo).id, limit=limit)
            else:
                newest = resolve(tx, address).commit
                rows = [] if newest is None else commits.ancestors(tx, newest.id, limit=limit)
            return builtins.list(commit_records(tx, rows))

    def inspect(self, commit: str, *, wait_seconds: float = 0) -> Commit:
        """A branch means its head. With `wait_seconds`, it means its newest commit, which may be waited
        for.
        """
        address = _address(commit)
        deadline = time.monotonic() + wait_seconds
        while True:
            seen = self._home.catalog.data_version()
            with self._home.catalog.read() as tx:
                row = _newest(tx, address) if wait_seconds > 0 else resolve_commit(tx, address)
                if row.state != CommitState.OPEN or time.monotonic() >= deadline:
                    return commit_record(tx, row)
            while self._home.catalog.data_version() == seen and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def inspect_set(self, commit_set: str) -> CommitSet:
        with self._home.catalog.read() as tx:
            if "@" in commit_set:
                return self._set(tx, resolve_commit(tx, _address(commit_set)).set_id)
            return self._set(tx, require_set(tx, commit_set))

    def list_sets(self, *, limit: int | None = None) -> builtins.list[CommitSet]:
        with self._home.catalog.read() as tx:
            return [self._set(tx, set_id) for set_id in commits.sets(tx, limit=limit)]

    def _set(self, tx: Transaction, set_id: str) -> CommitSet:
        rows = commits.of_set(tx, set_id)
        now = self._home.now()
        made = tuple(job_record(job, now=now) for job in jobs.of_set(tx, set_id))
        records = commit_records(tx, rows)
        return CommitSet(records[0].id, records, made, time_of(rows[0].created))


def find_or_make_branch(tx: Transaction, repo_id: int, name: str, now: float) -> BranchRow:
    row = branches.find(tx, repo_id, name)
    if row is not None:
        return row
    return branches.get(tx, branches.insert(tx, repo_id, check_name("branch", name), now))


def open_commit(tx: Transaction, branch: BranchRow, *, set_id: str, description: str, now: float) -> int:
    """A user's new commit on the branch's head; its id."""
    return commits.insert(
        tx,
        repo_id=branch.repo_id,
        set_id=set_id,
        branch=branch.name,
        origin=CommitOrigin.USER,
        parent_id=branch.head_id,
        created=now,
        description=description,
    )


def finish_commit(tx: Transaction, commit: CommitRow, *, tree: str, files: int, size_bytes: int, now: float) -> None:
    """`close_commit`, and the downstream set with it."""
    branch_id = close_commit(tx, commit, tree=tree, files=files, size_bytes=size_bytes, now=now)
    propagate(tx, [branch_id], set_id=commit.set_id, now=now)


def close_commit(tx: Transaction, commit: CommitRow, *, tree: str, files: int, size_bytes: int, now: float) -> int:
    """Give a user's commit its tree (hex root) and make it the head and the tip of its branch; the branch's id.

    A user's commit becomes the tip only now: what else is computed meanwhile must not wait for a person.
    """
    commits.finish(tx, commit.id, tree=tree, files=files, size_bytes=size_bytes, finished=now)
    branch = find_or_make_branch(tx, commit.repo_id, commit.branch, now)
    branches.set_head(tx, branch.id, commit.id)
    branches.set_tip(tx, branch.id, commit.id)
    if branch.open_id == commit.id:
        branches.set_open(tx, branch.id, None)
    return branch.id


def _joinable(tx: Transaction, commit_set: str, repo: RepoRow) -> str:
    """The id of a set that a new commit of the repo may join: all its commits are users' and open."""
    set_id = require_set(tx, commit_set)
    rows = commits.of_set(tx, set_id)
    if len(_open_of_set(tx, set_id)) != len(rows):
        raise Conflict(f"commit set {set_id} is finished, wholly or in part; start a commit without it")
    if any(row.repo_id == repo.id for row in rows):
        raise Conflict(f"commit set {set_id} has a commit in repo {repo} already; put into that one")
    return set_id


def _open_of_set(tx: Transaction, set_id: str) -> builtins.list[CommitRow]:
    rows = commits.of_set(tx, set_id)
    return [row for row in rows if row.state == CommitState.OPEN and row.origin == CommitOrigin.USER]


def _follow_head(home: Home, row: CommitRow) -> None:
    """Let a detached commit apply to what its branch holds now."""
    with home.catalog.read() as tx:
        branch = branches.find(tx, row.repo_id, row.branch)
        stays = branch is None or commits.get(tx, row.id).parent_id == branch.head_id
    if not stays:
        with home.catalog.write() as tx:
            branch = branches.find(tx, row.repo_id, row.branch)
            commits.move_onto(tx, row.id, None if branch is None else branch.head_id)


def _unmoved(tx: Transaction, commit_id: int, merged: int) -> bool:
    """Whether the open commit is as it was viewed: still open, on its branch's head, with no new writes."""
    present = next((row for row in commits.of_ids(tx, [commit_id])), None)
    if present is None or present.state != CommitState.OPEN:
        return False
    branch = branches.find(tx, present.repo_id, present.branch)
    on_head = branch is None or branch.head_id == present.parent_id
    return on_head and commits.count_writes(tx, commit_id) == merged


def _tree_before(tx: Transaction, row: CommitRow, *, empty: str) -> str:
    parent_id = commits.get(tx, row.id).parent_id
    return empty if parent_id is None else commits.get(tx, parent_id).tree


def _forget_open(tx: Transaction, row: CommitRow) -> None:
    branch = branches.find(tx, row.repo_id, row.branch)
    if branch is not None and branch.open_id == row.id:
        branches.set_open(tx, branch.id, None)
    commits.delete(tx, row.id)


def _address(text: str) -> Address:
    address = parse_address(text)
    if address.path is not None:
        raise InvalidInput(f"{text!r} names a file; write [project/]repo@branch-or-commit, without a path")
    return address


def _require_open(tx: Transaction, address: Address) -> CommitRow:
    """The user's open commit that `repo@branch` or `repo@id` names."""
    resolved = resolve(tx, address)
    if resolved.branch is not None:
        refuse_user_write(tx, resolved.repo, resolved.branch.name)
        if resolved.branch.open_id is None:
            raise NotFound(f"branch {resolved.branch} has no open commit; start one with `paddock commit start`")
        return commits.get(tx, resolved.branch.open_id)
    assert resolved.commit is not None, "a ref that is no branch is a commit"
    if resolved.commit.origin == CommitOrigin.AUTO:
        raise Conflict(f"commit {resolved.commit} belongs to a job, which finishes it; stop the job to end it early")
    if resolved.commit.state != CommitState.OPEN:
        raise Conflict(f"commit {resolved.commit} is {resolved.commit.state} already; it never changes again")
    return resolved.commit


def _newest(tx: Transaction, address: Address) -> CommitRow:
    resolved = resolve(tx, address)
    if resolved.branch is not None and resolved.branch.tip_id is not None:
        return commits.get(tx, resolved.branch.tip_id)
    return resolve_commit(tx, address)
