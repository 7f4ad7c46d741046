"""SQL of results runs (per transform, the roots of tables that map datum keys to kept results), and of their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.cache_records import CachePolicy
from paddock.model.dataclass import dataclass


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
    stored_bytes: int
    """What computing its results added to the object store."""
    used: float
    """When one of its results was last made or found."""


_SELECT = "SELECT id, transform, root, entries, job_id, created, stored_bytes, used FROM result_runs"


def add(
    tx: Transaction,
    *,
    transform: str,
    root: str,
    entries: int,
    job_id: int | None,
    created: float,
    stored_bytes: int,
    used: float,
) -> int:
    """Keep a run of results; its id."""
    return tx.insert(
        "INSERT INTO result_runs (transform, root, entries, job_id, created, stored_bytes, used)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (transform, root, entries, job_id, created, stored_bytes, used),
    )


def of_transform(tx: Transaction, transform: str) -> list[ResultRunRow]:
    """Newest first."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE transform = ? ORDER BY id DESC", (transform,))
    return [ResultRunRow(*row) for row in rows]


def get_all(tx: Transaction) -> list[ResultRunRow]:
    """Longest unused first."""
    rows: list[Any] = tx.all(f"{_SELECT} ORDER BY used, id")
    return [ResultRunRow(*row) for row in rows]


def replace(
    tx: Transaction,
    old: Sequence[int],
    *,
    transform: str,
    root: str,
    entries: int,
    created: float,
    stored_bytes: int,
    used: float,
) -> int | None:
    """Put one compacted run in the place of several; its id, or None (nothing changed) where one of them
    is gone already.
    """
    marks = ",".join("?" * len(old))
    found: Any = tx.one(f"SELECT count(*) FROM result_runs WHERE id IN ({marks})", tuple(old))
    if found[0] != len(old):
        return None
    tx.execute(f"DELETE FROM result_runs WHERE id IN ({marks})", tuple(old))
    return add(
        tx,
        transform=transform,
        root=root,
        entries=entries,
        job_id=None,
        created=created,
        stored_bytes=stored_bytes,
        used=used,
    )


def touch(tx: Transaction, ids: Sequence[int], *, used: float) -> None:
    """Note that results of these runs were found."""
    tx.executemany("UPDATE result_runs SET used = ? WHERE id = ? AND used < ?", [(used, id, used) for id in ids])


def remove(tx: Transaction, ids: Sequence[int]) -> None:
    """Give results runs up; those that are gone already are ignored."""
    tx.executemany("DELETE FROM result_runs WHERE id = ?", [(id,) for id in ids])


def policy(tx: Transaction) -> CachePolicy:
    row: Any = tx.one("SELECT bytes_max, age_seconds_max, audit_share FROM cache_policy WHERE id = 1")
    return CachePolicy(*row)


def set_policy(tx: Transaction, policy: CachePolicy) -> None:
    tx.execute(
        "UPDATE cache_policy SET bytes_max = ?, age_seconds_max = ?, audit_share = ? WHERE id = 1",
        (policy.bytes_max, policy.age_seconds_max, policy.audit_share),
    )
