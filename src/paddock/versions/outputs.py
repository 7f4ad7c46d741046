"""Ends of output commits: good, with a tree, or failed, with what can't run because of it. Only jobs come
here.

An output commit becomes its branch's head only if it is newer than the head, so jobs may end in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import branches, commits, jobs
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.model.errors import Bug
from paddock.model.records import CommitState, JobState


def finish_output(tx: Transaction, commit_id: int, *, tree: str, files: int, size_bytes: int, now: float) -> None:
    """Finish an open output commit with its tree (hex root). The parent becomes the branch's head of now,
    and the commit the head; where a newer one is the head already, the commit takes its place in the line
    before that.
    """
    commit = _open_output(tx, commit_id)
    commits.finish(tx, commit_id, tree=tree, size_bytes=size_bytes, files=files, finished=now)
    branch = branches.find(tx, commit.repo_id, commit.branch)
    if branch is None:
        return
    if branch.head_id is None or branch.head_id < commit_id:
        commits.set_parent(tx, commit_id, branch.head_id)
        branches.set_head(tx, branch.id, commit_id)
    else:
        commits.set_parent(tx, commit_id, _newest_before(tx, branch.head_id, commit_id))


def fail_output(tx: Transaction, commit_id: int, *, error: str, now: float) -> tuple[JobRow, ...]:
    """Fail an open output commit; the branch keeps its head. The job's own row is the caller's to set, before
    this call.

    Jobs of the same set that need the commit, directly or not, become unrunnable and their commits fail;
    those are returned, as they were before. A waiting job of another set that would have read it reads the
    branch's head instead.
    """
    commit = _open_output(tx, commit_id)
    _fail(tx, commit, error, now)
    ended = []
    for reader in _waiting_readers(tx, commit):
        job = jobs.find_by_commit(tx, reader.id)
        if job is None or JobState(job.state).final:
            continue
        reason = "unrunnable because the following upstream pipelines failed: " + ", ".join(
            _failed_above(tx, reader, commit)
        )
        jobs.update(tx, job.id, state=JobState.UNRUNNABLE, reason=reason, finished=now)
        _fail(tx, reader, reason, now)
        ended.append(job)
    return tuple(ended)


def _open_output(tx: Transaction, commit_id: int) -> CommitRow:
    commit = commits.get(tx, commit_id)
    if commit.state != CommitState.OPEN:
        raise Bug(f"output commit {commit} is {commit.state} already; please report this")
    return commit


def _fail(tx: Transaction, commit: CommitRow, error: str, now: float) -> None:
    commits.fail(tx, commit.id, error=error, finished=now)
    branch = branches.find(tx, commit.repo_id, commit.branch)
    head_id = None if branch is None else branch.head_id
    commits.set_parent(tx, commit.id, None if head_id is None else _newest_before(tx, head_id, commit.id))
    for reader in commits.computed_from(tx, commit.id):
        if reader.set_id != commit.set_id and reader.state == CommitState.OPEN:
            commits.set_upstream(tx, reader.id, commit.id, head_id)


def _waiting_readers(tx: Transaction, failed: CommitRow) -> list[CommitRow]:
    """Open commits of the same set computed from the failed one, directly or not; upstream first."""
    found: dict[int, CommitRow] = {}
    pending = [failed.id]
    while pending:
        for reader in commits.computed_from(tx, pending.pop(0)):
            if reader.set_id == failed.set_id and reader.state == CommitState.OPEN and reader.id not in found:
                found[reader.id] = reader
                pending.append(reader.id)
    return sorted(found.values(), key=lambda row: row.id)


def _failed_above(tx: Transaction, reader: CommitRow, failed: CommitRow) -> Sequence[str]:
    """Names of the pipelines upstream of the reader, in the set, whose own jobs ended badly."""
    names = {failed.repo}
    pending, seen = [reader.id], {reader.id}
    while pending:
        for edge in commits.provenance(tx, [pending.pop()]):
            if edge.upstream_id is None or edge.upstream_id in seen or edge.upstream_set != reader.set_id:
                continue
            seen.add(edge.upstream_id)
            pending.append(edge.upstream_id)
            job = jobs.find_by_commit(tx, edge.upstream_id)
            if job is not None and job.state in (JobState.FAILURE, JobState.KILLED):
                names.add(job.pipeline)
    return sorted(names)


def _newest_before(tx: Transaction, head_id: int, commit_id: int) -> int | None:
    """The newest commit in the head's line that is older than `commit_id`."""
    if head_id < commit_id:
        return head_id
    return next((row.id for row in commits.ancestors(tx, head_id) if row.id < commit_id), None)
