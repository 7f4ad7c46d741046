"""SQL of repos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class RepoRow:
    id: int
    project_id: int
    project: str
    name: str
    kind: str
    description: str
    created: float

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class BranchSize:
    """A branch of a repo and what its head holds; what a list of repos needs."""

    name: str
    size_bytes: int
    files: int


_COLUMNS = "repos.id, repos.project_id, projects.name, repos.name, repos.kind, repos.description, repos.created"
_SELECT = f"SELECT {_COLUMNS} FROM repos JOIN projects ON projects.id = repos.project_id"


def insert(tx: Transaction, project_id: int, name: str, kind: str, description: str, created: float) -> int:
    """The new repo's id. The caller has checked that the name is free."""
    return tx.insert(
        "INSERT INTO repos (project_id, name, kind, description, created) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (project_id, name, kind, description, created),
    )


def find(tx: Transaction, project: str, name: str) -> RepoRow | None:
    return _row(tx.one(f"{_SELECT} WHERE projects.name = ? AND repos.name = ?", (project, name)))


def get(tx: Transaction, repo_id: int) -> RepoRow:
    row = _row(tx.one(f"{_SELECT} WHERE repos.id = ?", (repo_id,)))
    assert row is not None, f"repo row {repo_id} exists"
    return row


def names(tx: Transaction, project: str) -> list[str]:
    """Names of a project's repos, sorted."""
    rows = tx.all(
        "SELECT repos.name FROM repos JOIN projects ON projects.id = repos.project_id"
        " WHERE projects.name = ? ORDER BY repos.name",
        (project,),
    )
    return [str(row[0]) for row in rows]


def list_with_sizes(
    tx: Transaction, *, project: str | None = None, repo_id: int | None = None
) -> list[tuple[RepoRow, tuple[BranchSize, ...]]]:
    """Repos by project and name, each with its branches by name; one query, over one project or one repo
    where given.
    """
    where, parameters = "", []
    if project is not None:
        where, parameters = " WHERE projects.name = ?", [project]
    elif repo_id is not None:
        where, parameters = " WHERE repos.id = ?", [repo_id]  # type: ignore[list-item]
    rows = tx.all(
        f"SELECT {_COLUMNS}, branches.name, commits.size_bytes, commits.files"
        " FROM repos JOIN projects ON projects.id = repos.project_id"
        " LEFT JOIN branches ON branches.repo_id = repos.id LEFT JOIN commits ON commits.id = "
        "branches.head_id"
        f"{where} ORDER BY projects.name, repos.name, branches.name",
        parameters,
    )
    return list(_grouped(rows))


def set_kind(tx: Transaction, repo_id: int, kind: str) -> None:
    tx.execute("UPDATE repos SET kind = ? WHERE id = ?", (kind, repo_id))


def delete(tx: Transaction, repo_id: int) -> None:
    """Remove a repo with its branches and commits; lineage that leads into it from elsewhere ends there.

    The caller has checked that no pipeline uses it and no branch elsewhere reads it.
    """
    mine = "SELECT id FROM commits WHERE repo_id = ?"
    branches = "SELECT id FROM branches WHERE repo_id = ?"
    tx.execute(f"DELETE FROM branch_provenance WHERE branch_id IN ({branches})", (repo_id,))
    tx.execute("DELETE FROM branches WHERE repo_id = ?", (repo_id,))
    tx.execute("DELETE FROM tags WHERE repo_id = ?", (repo_id,))
    tx.execute(f"DELETE FROM commit_provenance WHERE commit_id IN ({mine}) OR repo_id = ?", (repo_id, repo_id))
    tx.execute(f"DELETE FROM commit_writes WHERE commit_id IN ({mine})", (repo_id,))
    tx.execute("UPDATE commits SET parent_id = NULL WHERE repo_id = ?", (repo_id,))
    tx.execute("DELETE FROM commits WHERE repo_id = ?", (repo_id,))
    tx.execute("DELETE FROM repos WHERE id = ?", (repo_id,))


def _grouped(rows: list[Any]) -> Iterator[tuple[RepoRow, tuple[BranchSize, ...]]]:
    repo: RepoRow | None = None
    branches: list[BranchSize] = []
    for *columns, branch, size_bytes, files in rows:
        if repo is None or repo.id != columns[0]:
            if repo is not None:
                yield repo, tuple(branches)
            repo, branches = RepoRow(*columns), []
        if branch is not None:
            branches.append(BranchSize(branch, size_bytes or 0, files or 0))
    if repo is not None:
        yield repo, tuple(branches)


def _row(row: Any) -> RepoRow | None:
    return None if row is None else RepoRow(*row)
