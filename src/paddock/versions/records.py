"""Catalog rows as the records that services return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from paddock.catalog import branches, commits
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.catalog.projects import ProjectRow
from paddock.catalog.repos import BranchSize, RepoRow
from paddock.model.ids import CommitId, DatumId
from paddock.model.records import (
    DEFAULT_BRANCH,
    AuditFinding,
    AuditReport,
    Branch,
    Commit,
    CommitOrigin,
    CommitState,
    Job,
    JobState,
    Project,
    Repo,
    RepoKind,
)


def time_of(seconds: float) -> datetime:
    """An aware UTC time from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def project_record(row: ProjectRow) -> Project:
    return Project(row.name, row.description, time_of(row.created))


def repo_record(row: RepoRow, sizes: Sequence[BranchSize]) -> Repo:
    shown = next((size for size in sizes if size.name == DEFAULT_BRANCH), sizes[0] if sizes else None)
    return Repo(
        project=row.project,
        name=row.name,
        kind=RepoKind(row.kind),
        description=row.description,
        created=time_of(row.created),
        branches=tuple(size.name for size in sizes),
        size_bytes=0 if shown is None else shown.size_bytes,
        files=0 if shown is None else shown.files,
    )


def branch_record(tx: Transaction, row: BranchRow) -> Branch:
    return Branch(
        project=row.project,
        repo=row.repo,
        name=row.name,
        head=None if row.head_set is None else CommitId(row.head_set),
        open_commit=None if row.open_set is None else CommitId(row.open_set),
        provenance=tuple(str(upstream) for upstream in branches.provenance(tx, row.id)),
        created=time_of(row.created),
    )


def commit_records(tx: Transaction, rows: Sequence[CommitRow]) -> tuple[Commit, ...]:
    """Records in the order of the rows; their provenance takes one query for 500 of them."""
    provenance: dict[int, list[str]] = {}
    for edge in commits.provenance(tx, [row.id for row in rows]):
        if edge.upstream_set is not None:
            provenance.setdefault(edge.commit_id, []).append(f"{edge.project}/{edge.repo}@{edge.upstream_set}")
    return tuple(_commit_record(row, tuple(provenance.get(row.id, ()))) for row in rows)


def commit_record(tx: Transaction, row: CommitRow) -> Commit:
    return commit_records(tx, [row])[0]


def _commit_record(row: CommitRow, provenance: tuple[str, ...]) -> Commit:
    state = CommitState(row.state)
    return Commit(
        project=row.project,
        repo=row.repo,
        id=CommitId(row.set_id),
        branch=row.branch,
        state=state,
        origin=CommitOrigin(row.origin),
        parent=None if row.parent_set is None else CommitId(row.parent_set),
        description=row.description,
        error=row.error,
        tree=row.tree if state is CommitState.FINISHED else "",
        size_bytes=row.size_bytes,
        files=row.files,
        provenance=provenance,
        created=time_of(row.created),
        finished=None if row.finished is None else time_of(row.finished),
    )


def job_record(row: JobRow, *, now: float) -> Job:
    """now: seconds since 1970, for how long an unfinished job has been running."""
    seconds = 0.0 if row.started is None else max(0.0, (row.finished or now) - row.started)
    return Job(
        project=row.project,
        pipeline=row.pipeline,
        id=CommitId(row.set_id),
        pipeline_version=row.version,
        state=JobState(row.state),
        reason=row.reason,
        created=time_of(row.created),
        started=None if row.started is None else time_of(row.started),
        finished=None if row.finished is None else time_of(row.finished),
        datums=row.counts,
        seconds=seconds,
        found=row.found,
        carried=row.carried,
        early=row.early,
        wasted=row.wasted,
        audit=_audit(row.audit),
    )


def _audit(text: str) -> AuditReport | None:
    if not text:
        return None
    document = json.loads(text)
    findings = tuple(
        AuditFinding(DatumId(each["datum"]), tuple(each["inputs"]), tuple(each["files"]), each["reason"])
        for each in document["findings"]
    )
    return AuditReport(document["checked"], document["differing"], findings)
