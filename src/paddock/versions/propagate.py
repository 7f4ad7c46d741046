"""The downstream commit set: one change, and with it one output commit and one job for every pipeline it
reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from paddock.catalog import branches, commits, jobs, pipelines
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.pipelines import PipelineRow
from paddock.model.errors import Bug
from paddock.model.records import CommitOrigin, CommitState, PipelineState
from paddock.versions.outputs import make_unrunnable


def propagate(
    tx: Transaction,
    changed: Sequence[int],
    *,
    set_id: str,
    now: float,
    pipeline_ids: Sequence[int] = (),
    no_cache: bool = False,
    audit_share: float | None = None,
) -> list[int]:
    """Make the output commits (open) and jobs (created) that follow from changed branches; ids of the jobs,
    upstream first.

    changed: ids of branches whose head moved. pipeline_ids: pipelines to run whatever changed (a new version,
    a rerun), and with them what reads their output. A stopped pipeline gets none, nor what only it leads to.
    A pipeline that has a commit in the set already is left as it is. Runs inside the transaction of the
    change, so that no one sees one without the other. no_cache and audit_share go into the jobs of `pipeline_ids`
    only; the first job of a version also gets what the version asks of it.
    """
    running = {row.branch_id: row for row in pipelines.get_all(tx) if row.state == PipelineState.RUNNING}
    if not running:
        return []
    sources = _sources(tx, running)
    asked = set(pipeline_ids)
    reached = _reached(sources, set(changed), {row.branch_id for row in running.values() if row.id in asked})
    made = []
    for branch_id in _upstream_first(reached, sources):
        pipeline = running[branch_id]
        if commits.find(tx, pipeline.repo_id, set_id) is None:
            wishes = _Wishes(no_cache, audit_share) if pipeline.id in asked else _Wishes()
            made.append(_make(tx, pipeline, sources[branch_id], set_id=set_id, now=now, wishes=wishes))
    return made


class _Wishes(NamedTuple):
    """What is asked of one job: to compute every datum; to compute a share of the reused ones again."""

    no_cache: bool = False
    audit_share: float | None = None


def input_of(tx: Transaction, branch: BranchRow, set_id: str) -> CommitRow | None:
    """What a commit of the set reads of a branch: the set's own commit on it, else the branch's tip unless
    that failed, else its head; None where there is none.
    """
    own = commits.find(tx, branch.repo_id, set_id)
    if own is not None and own.branch == branch.name:
        return own
    tip = None if branch.tip_id is None else commits.get(tx, branch.tip_id)
    if tip is not None and tip.state != CommitState.FAILED:
        return tip
    return tip if branch.head_id is None else commits.get(tx, branch.head_id)


def _sources(tx: Transaction, running: Mapping[int, PipelineRow]) -> dict[int, list[int]]:
    """{output branch of a running pipeline: branches it reads}."""
    sources: dict[int, list[int]] = {branch_id: [] for branch_id in running}
    for reader, source in branches.edges(tx):
        if reader in sources:
            sources[reader].append(source)
    return sources


def _reached(sources: Mapping[int, Sequence[int]], changed: set[int], roots: set[int]) -> set[int]:
    readers: dict[int, list[int]] = {}
    for reader, upstream in sources.items():
        for source in upstream:
            readers.setdefault(source, []).append(reader)
    reached = set(roots)
    pending = [*sorted(changed), *sorted(roots)]
    while pending:
        for reader in readers.get(pending.pop(), ()):
            if reader not in reached:
                reached.add(reader)
                pending.append(reader)
    return reached


def _upstream_first(reached: set[int], sources: Mapping[int, Sequence[int]]) -> list[int]:
    """Kahn's algorithm, by id where the order is free."""
    waiting = {branch: {source for source in sources[branch] if source in reached} for branch in sorted(reached)}
    ordered: list[int] = []
    while waiting:
        ready = [branch for branch, upstream in waiting.items() if not upstream]
        if not ready:
            raise Bug("the provenance of branches has a circle; please report this")
        for branch in ready:
            del waiting[branch]
        ordered += ready
        for upstream in waiting.values():
            upstream.difference_update(ready)
    return ordered


def _make(
    tx: Transaction, pipeline: PipelineRow, sources: Sequence[int], *, set_id: str, now: float, wishes: _Wishes
) -> int:
    output = branches.get(tx, pipeline.branch_id)
    inputs = []
    runnable = True
    for source in sources:
        branch = branches.get(tx, source)
        commit = input_of(tx, branch, set_id)
        inputs.append((branch.repo_id, branch.name, None if commit is None else commit.id))
        runnable = runnable and (commit is None or commit.state != CommitState.FAILED)
    commit_id = commits.insert(
        tx,
        repo_id=pipeline.repo_id,
        set_id=set_id,
        branch=output.name,
        origin=CommitOrigin.AUTO,
        parent_id=output.head_id,
        created=now,
    )
    commits.add_provenance(tx, commit_id, inputs)
    first = _wishes_of_version(tx, pipeline)
    branches.set_tip(tx, output.id, commit_id)
    job_id = jobs.insert(
        tx,
        set_id=set_id,
        pipeline_id=pipeline.id,
        version=pipeline.version,
        commit_id=commit_id,
        created=now,
        no_cache=first.no_cache or wishes.no_cache,
        audit_share=first.audit_share if wishes.audit_share is None else wishes.audit_share,
    )
    if not runnable:
        make_unrunnable(tx, jobs.get(tx, job_id), now=now)
    return job_id


def _wishes_of_version(tx: Transaction, pipeline: PipelineRow) -> _Wishes:
    """What the present version asks of its first job; nothing where it has had one."""
    version = pipelines.version(tx, pipeline.id, pipeline.version)
    assert version is not None, f"pipeline {pipeline} has its version {pipeline.version}"
    newest = jobs.newest_first(tx, pipeline_id=pipeline.id, limit=1)
    if newest and newest[0].version == pipeline.version:
        return _Wishes()
    return _Wishes(version.first_no_cache, version.first_audit_share)
