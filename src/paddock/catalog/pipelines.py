"""SQL of pipelines and their versions. What a pipeline reads is the provenance of its output branch."""

from __future__ import annotations

from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class PipelineRow:
    id: int
    project_id: int
    project: str
    name: str
    version: int
    state: str
    repo_id: int
    branch_id: int
    """The output branch."""
    created: float
    updated: float

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class PipelineVersionRow:
    pipeline_id: int
    version: int
    spec: str
    """Canonical JSON."""
    transform: str
    """Hex digest of what the datum key takes from the spec and code."""
    code: str
    """Hex root of the tree of the code directory, or empty."""
    created: float
    carries: str
    """Hex digests of the transforms of earlier versions whose results count too, newest first, with spaces between."""
    first_no_cache: bool
    """Whether the first job of the version computes every datum."""
    first_audit_share: float | None
    """The `audit_share` of the first job of the version."""


_SELECT = (
    "SELECT pipelines.id, pipelines.project_id, projects.name, pipelines.name, pipelines.version, "
    "pipelines.state,"
    " pipelines.repo_id, pipelines.branch_id, pipelines.created, pipelines.updated"
    " FROM pipelines JOIN projects ON projects.id = pipelines.project_id"
)
_SELECT_VERSION = (
    "SELECT pipeline_id, version, spec, transform, code, created, carries, first_no_cache, first_audit_share"
    " FROM pipeline_versions"
)


def insert(
    tx: Transaction, *, project_id: int, name: str, repo_id: int, branch_id: int, state: str, created: float
) -> int:
    """A new pipeline's id, at version 0: `add_version` makes it version 1."""
    return tx.insert(
        "INSERT INTO pipelines (project_id, name, version, state, repo_id, branch_id, created, updated)"
        " VALUES (?, ?, 0, ?, ?, ?, ?, ?) RETURNING id",
        (project_id, name, state, repo_id, branch_id, created, created),
    )


def add_version(
    tx: Transaction,
    pipeline_id: int,
    *,
    spec: str,
    transform: str,
    code: str,
    created: float,
    carries: str = "",
    first_no_cache: bool = False,
    first_audit_share: float | None = None,
) -> int:
    """Make a new version the present one; its number."""
    tx.execute("UPDATE pipelines SET version = version + 1, updated = ? WHERE id = ?", (created, pipeline_id))
    version = get(tx, pipeline_id).version
    tx.execute(
        "INSERT INTO pipeline_versions (pipeline_id, version, spec, transform, code, created, carries, first_no_cache,"
        " first_audit_share) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (pipeline_id, version, spec, transform, code, created, carries, int(first_no_cache), first_audit_share),
    )
    return version


def get(tx: Transaction, pipeline_id: int) -> PipelineRow:
    row = find_by_id(tx, pipeline_id)
    assert row is not None, f"pipeline row {pipeline_id} exists"
    return row


def find(tx: Transaction, project: str, name: str) -> PipelineRow | None:
    return _row(tx.one(f"{_SELECT} WHERE projects.name = ? AND pipelines.name = ?", (project, name)))


def find_by_id(tx: Transaction, pipeline_id: int) -> PipelineRow | None:
    return _row(tx.one(f"{_SELECT} WHERE pipelines.id = ?", (pipeline_id,)))


def find_by_branch(tx: Transaction, branch_id: int) -> PipelineRow | None:
    """The pipeline whose output branch this is."""
    return _row(tx.one(f"{_SELECT} WHERE pipelines.branch_id = ?", (branch_id,)))


def find_by_repo(tx: Transaction, repo_id: int) -> PipelineRow | None:
    """The pipeline whose output repo this is."""
    return _row(tx.one(f"{_SELECT} WHERE pipelines.repo_id = ?", (repo_id,)))


def get_all(tx: Transaction, *, project: str | None = None) -> list[PipelineRow]:
    """By project and name."""
    where, parameters = ("", ()) if project is None else (" WHERE projects.name = ?", (project,))
    rows: list[Any] = tx.all(f"{_SELECT}{where} ORDER BY projects.name, pipelines.name", parameters)
    return [PipelineRow(*row) for row in rows]


def version(tx: Transaction, pipeline_id: int, number: int) -> PipelineVersionRow | None:
    row: Any = tx.one(f"{_SELECT_VERSION} WHERE pipeline_id = ? AND version = ?", (pipeline_id, number))
    return None if row is None else _version_row(row)


def versions(tx: Transaction, pipeline_id: int) -> list[PipelineVersionRow]:
    """Oldest first."""
    rows: list[Any] = tx.all(f"{_SELECT_VERSION} WHERE pipeline_id = ? ORDER BY version", (pipeline_id,))
    return [_version_row(row) for row in rows]


def transforms(tx: Transaction) -> list[tuple[str, str]]:
    """(transform, `project/pipeline`) of all versions of all pipelines, each once."""
    rows: list[Any] = tx.all(
        "SELECT DISTINCT pipeline_versions.transform, projects.name || '/' || pipelines.name FROM pipeline_versions"
        " JOIN pipelines ON pipelines.id = pipeline_versions.pipeline_id JOIN projects ON projects.id = pipelines.project_id"
        " ORDER BY 2, 1"
    )
    return [(row[0], row[1]) for row in rows]


def set_state(tx: Transaction, pipeline_id: int, state: str, *, updated: float) -> None:
    tx.execute("UPDATE pipelines SET state = ?, updated = ? WHERE id = ?", (state, updated, pipeline_id))


def set_branch(tx: Transaction, pipeline_id: int, branch_id: int) -> None:
    """Let the pipeline write another branch of its repo."""
    tx.execute("UPDATE pipelines SET branch_id = ? WHERE id = ?", (branch_id, pipeline_id))


def delete(tx: Transaction, pipeline_id: int) -> None:
    """Remove a pipeline with its versions, jobs and batches; its repo, branches and commits stay."""
    tx.execute("DELETE FROM batches WHERE job_id IN (SELECT id FROM jobs WHERE pipeline_id = ?)", (pipeline_id,))
    tx.execute("DELETE FROM jobs WHERE pipeline_id = ?", (pipeline_id,))
    tx.execute("DELETE FROM pipeline_versions WHERE pipeline_id = ?", (pipeline_id,))
    tx.execute("DELETE FROM pipelines WHERE id = ?", (pipeline_id,))


def _version_row(row: Any) -> PipelineVersionRow:
    columns = [*row[:7], bool(row[7]), row[8]]
    return PipelineVersionRow(*columns)


def _row(row: Any) -> PipelineRow | None:
    return None if row is None else PipelineRow(*row)
