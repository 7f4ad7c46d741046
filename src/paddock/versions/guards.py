"""Refusals: what may not be written, deleted or linked, with the names of what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import branches, commits, pipelines
from paddock.catalog.branches import BranchRow
from paddock.catalog.database import Transaction
from paddock.catalog.repos import RepoRow
from paddock.model.errors import Conflict


def refuse_user_write(tx: Transaction, repo: RepoRow, branch: str) -> None:
    """Conflict where the branch is the output of a pipeline, naming the repos to put into instead."""
    pipeline = pipelines.find_by_repo(tx, repo.id)
    if pipeline is None:
        return
    inputs = sorted({f"{row.project}/{row.repo}" for row in branches.provenance(tx, pipeline.branch_id)})
    advice = f"put into one of its inputs ({', '.join(inputs)})" if inputs else "change the pipeline instead"
    raise Conflict(
        f"repo {repo} is the output of pipeline {pipeline}; only its jobs write to {repo}@{branch}: {advice}"
    )


def refuse_if_output(tx: Transaction, repo: RepoRow) -> None:
    """Conflict where a pipeline owns the repo."""
    pipeline = pipelines.find_by_repo(tx, repo.id)
    if pipeline is not None:
        raise Conflict(
            f"repo {repo} is the output of pipeline {pipeline}; delete it with `paddock pipeline delete {pipeline}`"
        )


def refuse_if_read(tx: Transaction, repo: RepoRow) -> None:
    """Conflict where branches of other repos (pipelines' outputs, mostly) read the repo, or a job is still to read it."""
    readers = branches.readers_of_repo(tx, repo.id)
    if readers:
        raise Conflict(f"repo {repo} is read by {_names(tx, readers)}; delete or change what reads it first")
    waiting = commits.waiting_readers_of_repo(tx, repo.id)
    if waiting:
        raise Conflict(f"repo {repo} is still to be read by the job of {waiting[0]}; wait for it, or stop it, first")


def refuse_if_branch_needed(tx: Transaction, branch: BranchRow) -> None:
    """Conflict where a pipeline writes the branch, other branches read it, or a commit is open on it."""
    pipeline = pipelines.find_by_branch(tx, branch.id)
    if pipeline is not None:
        raise Conflict(f"branch {branch} is the output of pipeline {pipeline}; delete the pipeline instead")
    readers = branches.readers(tx, branch.id)
    if readers:
        raise Conflict(f"branch {branch} is read by {_names(tx, readers)}; delete or change what reads it first")
    if branch.open_set is not None:
        raise Conflict(f"branch {branch} has the open commit {branch.open_set}; finish or abandon it first")


def refuse_cycle(tx: Transaction, branch: BranchRow, upstream: Sequence[BranchRow]) -> None:
    """Conflict where the provenance `upstream` would let the branch (or its own repo) depend on itself;
    names the circle.
    """
    names = {row.id: row for row in upstream} | {branch.id: branch}
    above: dict[int, list[int]] = {}
    for reader, source in branches.edges(tx):
        above.setdefault(reader, []).append(source)
    above[branch.id] = [row.id for row in upstream]
    came_from: dict[int, int] = {}
    pending = [branch.id]
    while pending:
        reader = pending.pop()
        for source in above.get(reader, ()):
            row = names.get(source) or names.setdefault(source, branches.get(tx, source))
            if source == branch.id or row.repo_id == branch.repo_id:
                raise Conflict(
                    f"branch {branch} can't read {upstream_text(upstream)}: {_circle(row, reader, came_from, names)}"
                )
            if source not in came_from:
                came_from[source] = reader
                pending.append(source)


def upstream_text(upstream: Sequence[BranchRow]) -> str:
    return ", ".join(str(row) for row in upstream)


def _circle(end: BranchRow, reader: int, came_from: dict[int, int], names: dict[int, BranchRow]) -> str:
    steps = [end]
    while True:
        steps.append(names[reader])
        if reader not in came_from:
            break
        reader = came_from[reader]
    return "that would be a circle: " + " -> ".join(str(row) for row in steps)


def _names(tx: Transaction, readers: Sequence[BranchRow]) -> str:
    texts = []
    for row in readers:
        pipeline = pipelines.find_by_branch(tx, row.id)
        texts.append(f"branch {row}" if pipeline is None else f"pipeline {pipeline}")
    return ", ".join(dict.fromkeys(texts))
