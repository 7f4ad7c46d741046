"""SQL of projects."""

from __future__ import annotations

from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ProjectRow:
    id: int
    name: str
    description: str
    created: float


_SELECT = "SELECT id, name, description, created FROM projects"


def insert(tx: Transaction, name: str, description: str, created: float) -> int:
    """The new project's id. The caller has checked that the name is free."""
    return tx.insert(
        "INSERT INTO projects (name, description, created) VALUES (?, ?, ?) RETURNING id",
        (name, description, created),
    )


def find(tx: Transaction, name: str) -> ProjectRow | None:
    return _row(tx.one(f"{_SELECT} WHERE name = ?", (name,)))


def get_all(tx: Transaction) -> list[ProjectRow]:
    """By name."""
    rows: list[Any] = tx.all(f"{_SELECT} ORDER BY name")
    return [ProjectRow(*row) for row in rows]


def delete(tx: Transaction, project_id: int) -> None:
    tx.execute("DELETE FROM projects WHERE id = ?", (project_id,))


def _row(row: Any) -> ProjectRow | None:
    return None if row is None else ProjectRow(*row)
