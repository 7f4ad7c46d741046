"""Commits and commit sets. Implements `model.services.Commits`."""

from __future__ import annotations

import builtins
import time

from paddock.catalog import branches, commits, jobs
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.model.addresses import Address, check_name, parse_address
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.ids import new_id
from paddock.model.records import Commit, CommitOrigin, CommitSet, CommitState
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

    def start(self, branch: str, *, description: str = "") -> Commit:
        """Conflict: the branch has an open commit already, or is a pipeline's output."""
        address = _address(branch)
        if address.ref.steps:
            raise InvalidInput(f"{branch!r} is not a branch; write [project/]repo@branch")
        with self._home.catalog.write() as tx:
            now = self._home.now()
            repo = require_repo(tx, address.repo)
            refuse_user_write(tx, repo, address.ref.name)
            row = find_or_make_branch(tx, repo.id, address.ref.name, now)
            if row.open_set is not None:
                raise Conflict(f"branch {row} has the open commit {row.open_set} already; finish or abandon it first")
            commit_id = open_commit(tx, row, set_id=new_id(), description=description, now=now)
            branches.set_open(tx, row.id, commit_id)
            return commit_record(tx, commits.get(tx, commit_id))

    def finish(self, commit: str, *, description: str | None = None) -> Commit:
        """Conflict: it is finished already, or what was written makes a file also a directory; it stays
        open then.
        """
        # Only finishing merges trees, and so needs pyarrow; listing commits must not pay for it.
        from paddock.versions.open_commits import view

        address = _address(commit)
        with self._home.catalog.read() as tx:
            commit_id = _require_open(tx, address).id
        while True:
            merged = view(self._home, commit_id, keep=False)
            files, size_bytes = self._home.trees.totals(merged.tree)
            with self._home.catalog.write() as tx:
                row = _require_open(tx, address)
                if row.id == commit_id and commits.count_writes(tx, commit_id) == merged.merged:
                    if description is not None:
                        commits.set_description(tx, commit_id, description)
                    commits.delete_writes(tx, commit_id)
                    finish_commit(
                        tx,
                        row,
                        tree=merged.tree.hex(),
                        files=files,
                        size_bytes=size_bytes,
                        now=self._home.now(),
                    )
                    return commit_record(tx, commits.get(tx, commit_id))
                commit_id = row.id

    def abandon(self, commit: str) -> None:
        """Conflict where it is finished already."""
        address = _address(commit)
        with self._home.catalog.write() as tx:
            row = _require_open(tx, address)
            branch = branches.find(tx, row.repo_id, row.branch)
            if branch is not None and branch.open_id == row.id:
                branches.set_open(tx, branch.id, None)
            commits.delete(tx, row.id)

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
    """Give a user's commit its tree (hex root), make it the head and the tip of its branch, and the
    downstream set with it.

    A user's commit becomes the tip only now: what else is computed meanwhile must not wait for a person.
    """
    commits.finish(tx, commit.id, tree=tree, files=files, size_bytes=size_bytes, finished=now)
    branch = branches.find(tx, commit.repo_id, commit.branch)
    if branch is None:
        return
    branches.set_head(tx, branch.id, commit.id)
    branches.set_tip(tx, branch.id, commit.id)
    if branch.open_id == commit.id:
        branches.set_open(tx, branch.id, None)
    propagate(tx, [branch.id], set_id=commit.set_id, now=now)


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
