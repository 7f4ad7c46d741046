"""SQL of results runs: per transform, the roots of tables that map datum keys to kept results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddock.catalog.database import Transaction


@dataclass(frozen=True, slots=True)
class ResultRunRow:
    id: int
    transform: str
    root: str
    """Hex root of a results table."""
    entries: int
    job_id: int | None
    """The job that made the run; None for one that compaction made."""
    created: float


_SELECT = "SELECT id, transform, root, entries, job_id, created FROM result_runs"


def add(tx: Transaction, *, transform: str, root: str, entries: int, job_id: int | None, created: float) -> int:
    """Keep a run of results; its id."""
    return tx.insert(
        "INSERT INTO result_runs (transform, root, entries, job_id, created) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (transform, root, entries, job_id, created),
    )


def of_transform(tx: Transaction, transform: str) -> list[ResultRunRow]:
    """Newest first."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE transform = ? ORDER BY id DESC", (transform,))
    return [ResultRunRow(*row) for row in rows]


def replace(
    tx: Transaction, old: Sequence[int], *, transform: str, root: str, entries: int, created: float
) -> int | None:
    """Put one compacted run in the place of several; its id, or None (nothing changed) where one of them
    is gone already.
    """
    marks = ",".join("?" * len(old))
    found: Any = tx.one(f"SELECT count(*) FROM result_runs WHERE id IN ({marks})", tuple(old))
    if found[0] != len(old):
        return None
    tx.execute(f"DELETE FROM result_runs WHERE id IN ({marks})", tuple(old))
    return add(tx, transform=transform, root=root, entries=entries, job_id=None, created=created)
