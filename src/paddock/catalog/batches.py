"""SQL of batches and their leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paddock.catalog.database import Transaction


@dataclass(frozen=True, slots=True)
class BatchRow:
    job_id: int
    number: int
    """Counts from 0 in the order of carving."""
    first: int
    """First position in the job's list of datums to compute."""
    last: int
    """One past the last position."""
    ordinals: bytes | None
    """Positions as the carver packed them, where they aren't one run."""
    state: str
    """`leased`, `free` (its lease ended; to be handed out again) or `done`."""
    worker: str
    lease_expires: float | None
    attempt: int
    """How often it was handed out; with the number it names the lease."""
    result: str
    """Hex digest of the batch result once done."""
    run: int
    recovered: int
    failed: int


_SELECT = "SELECT job_id, number, first, last, ordinals, state, worker, lease_expires, attempt, result, run, recovered, failed FROM batches"


def insert(
    tx: Transaction,
    job_id: int,
    *,
    first: int,
    last: int,
    worker: str,
    lease_expires: float,
    ordinals: bytes | None = None,
) -> int:
    """Carve the job's next batch, leased for its first attempt; its number."""
    row: Any = tx.one("SELECT coalesce(max(number), -1) + 1 FROM batches WHERE job_id = ?", (job_id,))
    number = int(row[0])
    tx.execute(
        "INSERT INTO batches (job_id, number, first, last, ordinals, state, worker, lease_expires, attempt, "
        "result, run,"
        " recovered, failed) VALUES (?, ?, ?, ?, ?, 'leased', ?, ?, 1, '', 0, 0, 0)",
        (job_id, number, first, last, ordinals, worker, lease_expires),
    )
    return number


def get(tx: Transaction, job_id: int, number: int) -> BatchRow | None:
    row: Any = tx.one(f"{_SELECT} WHERE job_id = ? AND number = ?", (job_id, number))
    return None if row is None else BatchRow(*row)


def of_job(tx: Transaction, job_id: int, *, state: str | None = None) -> list[BatchRow]:
    """By number."""
    where, parameters = ("", ()) if state is None else (" AND state = ?", (state,))
    rows: list[Any] = tx.all(f"{_SELECT} WHERE job_id = ?{where} ORDER BY number", (job_id, *parameters))
    return [BatchRow(*row) for row in rows]


def lease(tx: Transaction, job_id: int, number: int, *, worker: str, lease_expires: float) -> int | None:
    """Hand out a free batch again; the attempt's number, or None where it isn't free (any more)."""
    row: Any = tx.one(
        "UPDATE batches SET state = 'leased', worker = ?, lease_expires = ?, attempt = attempt + 1"
        " WHERE job_id = ? AND number = ? AND state = 'free' RETURNING attempt",
        (worker, lease_expires, job_id, number),
    )
    return None if row is None else int(row[0])


def renew(tx: Transaction, job_id: int, number: int, *, attempt: int, lease_expires: float) -> bool:
    """Whether the lease was current, and so was renewed."""
    changed = tx.execute(
        "UPDATE batches SET lease_expires = ? WHERE job_id = ? AND number = ? AND attempt = ? AND state = 'leased'",
        (lease_expires, job_id, number, attempt),
    )
    return changed == 1


def report(
    tx: Transaction,
    job_id: int,
    number: int,
    *,
    attempt: int,
    result: str,
    run: int,
    recovered: int,
    failed: int,
) -> bool:
    """Whether the lease was current, and so the report was accepted: once, whatever is sent twice."""
    changed = tx.execute(
        "UPDATE batches SET state = 'done', lease_expires = NULL, result = ?, run = ?, recovered = ?, failed "
        "= ?"
        " WHERE job_id = ? AND number = ? AND attempt = ? AND state = 'leased'",
        (result, run, recovered, failed, job_id, number, attempt),
    )
    return changed == 1


def expired(tx: Transaction, now: float) -> list[BatchRow]:
    """Leased batches whose lease ended at or before `now`."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE state = 'leased' AND lease_expires <= ? ORDER BY job_id, number", (now,))
    return [BatchRow(*row) for row in rows]


def free(tx: Transaction, job_id: int, number: int, *, attempt: int) -> bool:
    """Void one lease, if it is current."""
    changed = tx.execute(
        "UPDATE batches SET state = 'free', lease_expires = NULL WHERE job_id = ? AND number = ? AND attempt "
        "= ? AND state = 'leased'",
        (job_id, number, attempt),
    )
    return changed == 1


def free_all(tx: Transaction) -> int:
    """Void every lease, as after the death of the process that gave them; how many there were."""
    return tx.execute("UPDATE batches SET state = 'free', lease_expires = NULL WHERE state = 'leased'")


def delete_unreported(tx: Transaction, job_id: int) -> None:
    """Forget the batches of a job that have no result: a new plan carves its own."""
    tx.execute("DELETE FROM batches WHERE job_id = ? AND state <> 'done'", (job_id,))


def delete_of_job(tx: Transaction, job_id: int) -> None:
    tx.execute("DELETE FROM batches WHERE job_id = ?", (job_id,))


def record(tx: Transaction, job_id: int, *, result: str, run: int, recovered: int, failed: int) -> None:
    """Keep the accepted result of some of the job's datums, until the job has ended."""
    tx.execute(
        "INSERT INTO batches (job_id, number, first, last, ordinals, state, worker, lease_expires, attempt, "
        "result, run,"
        " recovered, failed) SELECT ?, coalesce(max(number), -1) + 1, 0, 0, NULL, 'done', '', NULL, 1, ?, ?, "
        "?, ?"
        " FROM batches WHERE job_id = ?",
        (job_id, result, run, recovered, failed, job_id),
    )


def jobs_ended(tx: Transaction) -> list[int]:
    """Ids of jobs in a final state that still have batches: they ended while no scheduler was at work."""
    rows: list[Any] = tx.all(
        "SELECT DISTINCT job_id FROM batches JOIN jobs ON jobs.id = batches.job_id"
        " WHERE jobs.state IN ('success', 'failure', 'killed', 'unrunnable')"
    )
    return [row[0] for row in rows]
