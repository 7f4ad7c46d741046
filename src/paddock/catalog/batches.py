"""SQL of batches: which results of a job at work were accepted. Leases are the scheduler's, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass

PARTS = ("input", "start", "code", "output", "report", "other")
"""What workers' time went into."""
NOTHING_SPENT = (0.0,) * len(PARTS)


@dataclass(frozen=True, slots=True)
class BatchRow:
    job_id: int
    number: int
    """Counts from 0 in the order of acceptance."""
    result: str
    """Hex digest of the batch result."""
    run: int
    recovered: int
    failed: int
    stored_bytes: int
    """What the report added to the object store."""


def of_job(tx: Transaction, job_id: int) -> list[BatchRow]:
    """By number."""
    rows: list[Any] = tx.all(
        "SELECT job_id, number, result, run, recovered, failed, stored_bytes FROM batches WHERE job_id = ? ORDER BY number",
        (job_id,),
    )
    return [BatchRow(*row) for row in rows]


def delete_of_job(tx: Transaction, job_id: int) -> None:
    tx.execute("DELETE FROM batches WHERE job_id = ?", (job_id,))


def stored_bytes(tx: Transaction, job_id: int) -> int:
    """What the job's accepted reports added to the object store."""
    row: Any = tx.one("SELECT coalesce(sum(stored_bytes), 0) FROM batches WHERE job_id = ?", (job_id,))
    return int(row[0])


def spent(tx: Transaction, job_id: int) -> dict[str, float]:
    """Seconds of workers' time in the job's accepted reports, by part."""
    sums = ", ".join(f"coalesce(sum({part}_seconds), 0)" for part in PARTS)
    row: Any = tx.one(f"SELECT {sums} FROM batches WHERE job_id = ?", (job_id,))
    return dict(zip(PARTS, map(float, row), strict=True))


@dataclass(frozen=True, slots=True)
class Accepted:
    """The accepted result of some of a job's datums. spent: seconds, in the order of PARTS."""

    result: str
    run: int
    recovered: int
    failed: int
    stored_bytes: int
    spent: Sequence[float] = NOTHING_SPENT


def record(tx: Transaction, job_id: int, accepted: Sequence[Accepted]) -> None:
    """Keep results until the job has ended. Costs two statements, however many there are."""
    row: Any = tx.one("SELECT coalesce(max(number), -1) + 1 FROM batches WHERE job_id = ?", (job_id,))
    first = int(row[0])
    columns = "job_id, number, first, last, state, worker, attempt, result, run, recovered, failed, stored_bytes"
    parts = "".join(f", {part}_seconds" for part in PARTS)
    marks = ", ".join("?" * (12 + len(PARTS)))
    tx.executemany(
        f"INSERT INTO batches ({columns}{parts}) VALUES ({marks})",
        [
            (
                job_id,
                first + index,
                0,
                0,
                "done",
                "",
                1,
                each.result,
                each.run,
                each.recovered,
                each.failed,
                each.stored_bytes,
                *each.spent,
            )
            for index, each in enumerate(accepted)
        ],
    )


def jobs_ended(tx: Transaction) -> list[int]:
    """Ids of jobs in a final state that still have batches: they ended while no scheduler was at work."""
    rows: list[Any] = tx.all(
        "SELECT DISTINCT job_id FROM batches JOIN jobs ON jobs.id = batches.job_id"
        " WHERE jobs.state IN ('success', 'failure', 'killed', 'unrunnable')"
    )
    return [row[0] for row in rows]
