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
    """Fail an open output commit; the branch keeps its head. The job's own row is the caller's to set, before this call.

    Jobs of the same set that need the commit, directly or not, become unrunnable and their commits fail; those are
    returned, as they were before. A waiting job of another set that would have read it reads the branch's head instead;
    where there is none, it is unrunnable too: an empty tree would pass for a result.
    """
    failed = _open_output(tx, commit_id)
    _fail(tx, failed, error, now)
    ended = []
    pending = [failed]
    while pending:
        upstream = pending.pop(0)
        for reader in _readers_left(tx, upstream):
            job = jobs.find_by_commit(tx, reader.id)
            if job is not None and not JobState(job.state).final:
                make_unrunnable(tx, job, also=(failed.repo,), now=now)
                ended.append(job)
                pending.append(reader)
    return tuple(sorted(ended, key=lambda job: job.id))


def make_unrunnable(tx: Transaction, job: JobRow, *, also: Sequence[str] = (), now: float) -> None:
    """End a job that has not started, and its output commit, with the names of the pipelines that failed above it.

    also: pipelines that failed, whether or not their jobs say so yet.
    """
    names = sorted({*also, *_failed_above(tx, job.commit_id)})
    reason = "unrunnable because the following upstream pipelines failed: " + ", ".join(names)
    jobs.update(tx, job.id, state=JobState.UNRUNNABLE, reason=reason, finished=now)
    _fail(tx, commits.get(tx, job.commit_id), reason, now)


def _open_output(tx: Transaction, commit_id: int) -> CommitRow:
    commit = commits.get(tx, commit_id)
    if commit.state != CommitState.OPEN:
        raise Bug(f"output commit {commit} is {commit.state} already; please report this")
    return commit


def _fail(tx: Transaction, commit: CommitRow, error: str, now: float) -> None:
    commits.fail(tx, commit.id, error=error, finished=now)
    head_id = _head_of(tx, commit)
    commits.set_parent(tx, commit.id, None if head_id is None else _newest_before(tx, head_id, commit.id))


def _readers_left(tx: Transaction, failed: CommitRow) -> list[CommitRow]:
    """Open commits that can't be computed without the failed one; the others are led to the branch's head."""
    head_id = _head_of(tx, failed)
    left = []
    for reader in commits.computed_from(tx, failed.id):
        if reader.state != CommitState.OPEN:
            continue
        if reader.set_id == failed.set_id or head_id is None:
            left.append(reader)
        else:
            commits.set_upstream(tx, reader.id, failed.id, head_id)
    return left


def _failed_above(tx: Transaction, commit_id: int) -> set[str]:
    """Names of the pipelines upstream of the commit whose own jobs failed or were stopped, seen through those that
    could not run because of them."""
    names: set[str] = set()
    pending, seen = [commit_id], {commit_id}
    while pending:
        for edge in commits.provenance(tx, [pending.pop()]):
            if edge.upstream_id is None or edge.upstream_id in seen:
                continue
            seen.add(edge.upstream_id)
            job = jobs.find_by_commit(tx, edge.upstream_id)
            if job is None or job.state == JobState.SUCCESS:
                continue
            pending.append(edge.upstream_id)
            if job.state in (JobState.FAILURE, JobState.KILLED):
                names.add(job.pipeline)
    return names


def _head_of(tx: Transaction, commit: CommitRow) -> int | None:
    branch = branches.find(tx, commit.repo_id, commit.branch)
    return None if branch is None else branch.head_id


def _newest_before(tx: Transaction, head_id: int, commit_id: int) -> int | None:
    """The newest commit in the head's line that is older than `commit_id`."""
    if head_id < commit_id:
        return head_id
    return next((row.id for row in commits.ancestors(tx, head_id) if row.id < commit_id), None)
