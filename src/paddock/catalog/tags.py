"""SQL of tags: names for commits that never move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TagRow:
    id: int
    repo_id: int
    project: str
    repo: str
    name: str
    commit_id: int
    set_id: str
    description: str
    created: float

    def __str__(self) -> str:
        return f"{self.project}/{self.repo}@{self.name}"


_SELECT = (
    "SELECT tags.id, tags.repo_id, projects.name, repos.name, tags.name, tags.commit_id, commits.set_id,"
    " tags.description, tags.created FROM tags JOIN repos ON repos.id = tags.repo_id"
    " JOIN projects ON projects.id = repos.project_id JOIN commits ON commits.id = tags.commit_id"
)


def insert(tx: Transaction, repo_id: int, name: str, commit_id: int, *, description: str, created: float) -> int:
    """The new tag's id. The caller has checked that neither a tag nor a branch of the repo has the name."""
    return tx.insert(
        "INSERT INTO tags (repo_id, name, commit_id, description, created) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (repo_id, name, commit_id, description, created),
    )


def find(tx: Transaction, repo_id: int, name: str) -> TagRow | None:
    row: Any = tx.one(f"{_SELECT} WHERE tags.repo_id = ? AND tags.name = ?", (repo_id, name))
    return None if row is None else TagRow(*row)


def of_repo(tx: Transaction, repo_id: int) -> list[TagRow]:
    """By name."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE tags.repo_id = ? ORDER BY tags.name", (repo_id,))
    return [TagRow(*row) for row in rows]


def of_commits(tx: Transaction, commit_ids: Sequence[int]) -> list[TagRow]:
    rows: list[Any] = tx.all_in(f"{_SELECT} WHERE tags.commit_id IN ({{}}) ORDER BY tags.id", commit_ids)
    return [TagRow(*row) for row in rows]


def delete(tx: Transaction, tag_id: int) -> None:
    tx.execute("DELETE FROM tags WHERE id = ?", (tag_id,))
