"""SQL of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.catalog.dialect import Value
from paddock.model.dataclass import dataclass
from paddock.model.records import DatumCounts

FINAL_STATES = ("success", "failure", "killed", "unrunnable")


@dataclass(frozen=True, slots=True)
class JobRow:
    id: int
    set_id: str
    pipeline_id: int
    project: str
    pipeline: str
    version: int
    commit_id: int
    """The output commit."""
    state: str
    reason: str
    no_cache: bool
    """Compute every datum, whatever results are kept."""
    base_id: int | None
    """The earlier job whose datums the plan was compared with."""
    datums_root: str
    """Hex root of the job's datums table; empty until it is planned."""
    failed_datums: str
    """JSON list of the ids of the first datums that failed, or empty."""
    counts: DatumCounts
    created: float
    started: float | None
    finished: float | None
    found: int
    """Of `counts.reused`, those found among the kept results of other jobs; the rest stayed as the base has them."""
    carried: int
    """Of `found`, those that another transform computed."""
    early: int
    """Of `counts.run`, those begun before the inputs were finished."""
    wasted: int
    """Datums computed early that the job came not to have."""
    audit_share: float | None
    """Of the reused datums, how many to compute again; None: as the home says."""
    audit: str
    """JSON of what the audit found, or empty."""
    times: str | None
    """JSON of where the time went, as migration 7 describes it; None where nothing was recorded."""

    def __str__(self) -> str:
        return f"{self.project}/{self.pipeline}@{self.set_id}"


_SELECT = (
    "SELECT jobs.id, jobs.set_id, jobs.pipeline_id, projects.name, pipelines.name, jobs.version, "
    "jobs.commit_id, jobs.state,"
    " jobs.reason, jobs.no_cache, jobs.base_id, jobs.datums_root, jobs.failed_datums, jobs.total, jobs.run, "
    "jobs.reused,"
    " jobs.recovered, jobs.failed, jobs.created, jobs.started, jobs.finished,"
    " jobs.found, jobs.carried, jobs.early, jobs.wasted, jobs.audit_share, jobs.audit, jobs.times"
    " FROM jobs JOIN pipelines ON pipelines.id = jobs.pipeline_id JOIN projects ON projects.id = "
    "pipelines.project_id"
)


def insert(
    tx: Transaction,
    *,
    set_id: str,
    pipeline_id: int,
    version: int,
    commit_id: int,
    created: float,
    no_cache: bool = False,
    audit_share: float | None = None,
) -> int:
    """A new job's id, in state `created`. A pipeline has at most one job in a set."""
    return tx.insert(
        "INSERT INTO jobs (set_id, pipeline_id, version, commit_id, state, reason, no_cache, base_id, "
        "datums_root,"
        " failed_datums, total, run, reused, recovered, failed, created, started, finished,"
        " audit_share)"
        " VALUES (?, ?, ?, ?, 'created', '', ?, NULL, '', '', 0, 0, 0, 0, 0, ?, NULL, NULL, ?) RETURNING id",
        (set_id, pipeline_id, version, commit_id, int(no_cache), created, audit_share),
    )


def get(tx: Transaction, job_id: int) -> JobRow:
    row = _row(tx.one(f"{_SELECT} WHERE jobs.id = ?", (job_id,)))
    assert row is not None, f"job row {job_id} exists"
    return row


def find(tx: Transaction, pipeline_id: int, set_id: str) -> JobRow | None:
    return _row(tx.one(f"{_SELECT} WHERE jobs.pipeline_id = ? AND jobs.set_id = ?", (pipeline_id, set_id)))


def find_by_prefix(tx: Transaction, pipeline_id: int, prefix: str) -> list[JobRow]:
    """Jobs of a pipeline whose id begins with some hex digits; at most three."""
    return _rows(
        tx.all(
            f"{_SELECT} WHERE jobs.pipeline_id = ? AND jobs.set_id >= ? AND jobs.set_id < ? ORDER BY "
            "jobs.set_id LIMIT 3",
            (pipeline_id, prefix, prefix + "g"),
        )
    )


def find_by_commit(tx: Transaction, commit_id: int) -> JobRow | None:
    """The job whose output commit this is."""
    return _row(tx.one(f"{_SELECT} WHERE jobs.commit_id = ?", (commit_id,)))


def of_set(tx: Transaction, set_id: str) -> list[JobRow]:
    """In the order they were made: upstream first."""
    return _rows(tx.all(f"{_SELECT} WHERE jobs.set_id = ? ORDER BY jobs.id", (set_id,)))


def newest_first(tx: Transaction, *, pipeline_id: int | None = None, limit: int | None = None) -> list[JobRow]:
    where, parameters = ("", ()) if pipeline_id is None else (" WHERE jobs.pipeline_id = ?", (pipeline_id,))
    tail = "" if limit is None else f" LIMIT {int(limit)}"
    return _rows(tx.all(f"{_SELECT}{where} ORDER BY jobs.id DESC{tail}", parameters))


def unfinished(tx: Transaction, *, pipeline_id: int | None = None) -> list[JobRow]:
    """Jobs in no final state, oldest first."""
    where, parameters = ("", ()) if pipeline_id is None else (" AND jobs.pipeline_id = ?", (pipeline_id,))
    marks = ",".join("?" * len(FINAL_STATES))
    return _rows(
        tx.all(
            f"{_SELECT} WHERE jobs.state NOT IN ({marks}){where} ORDER BY jobs.id",
            (*FINAL_STATES, *parameters),
        )
    )


def count_by_state(tx: Transaction) -> dict[str, int]:
    rows: list[Any] = tx.all("SELECT state, COUNT(*) FROM jobs GROUP BY state")
    return dict(rows)


def last_with_state(
    tx: Transaction, pipeline_id: int, states: Sequence[str], *, before_id: int | None = None
) -> JobRow | None:
    """The pipeline's newest job in one of the states (and older than `before_id`)."""
    marks = ",".join("?" * len(states))
    older, parameters = ("", ()) if before_id is None else (" AND jobs.id < ?", (before_id,))
    return _row(
        tx.one(
            f"{_SELECT} WHERE jobs.pipeline_id = ? AND jobs.state IN ({marks}){older} ORDER BY jobs.id DESC LIMIT 1",
            (pipeline_id, *states, *parameters),
        )
    )


def update(
    tx: Transaction,
    job_id: int,
    *,
    state: str | None = None,
    reason: str | None = None,
    base_id: int | None = None,
    datums_root: str | None = None,
    failed_datums: str | None = None,
    counts: DatumCounts | None = None,
    started: float | None = None,
    finished: float | None = None,
    found: int | None = None,
    carried: int | None = None,
    early: int | None = None,
    wasted: int | None = None,
    audit: str | None = None,
    times: str | None = None,
) -> None:
    """Set the given columns; those left out (None) stay."""
    columns: dict[str, Value] = {
        "state": state,
        "reason": reason,
        "base_id": base_id,
        "datums_root": datums_root,
        "failed_datums": failed_datums,
        "started": started,
        "finished": finished,
        "found": found,
        "carried": carried,
        "early": early,
        "wasted": wasted,
        "audit": audit,
        "times": times,
    }
    if counts is not None:
        columns |= {
            "total": counts.total,
            "run": counts.run,
            "reused": counts.reused,
            "recovered": counts.recovered,
            "failed": counts.failed,
        }
    given = {name: value for name, value in columns.items() if value is not None}
    if given:
        assignments = ", ".join(f"{name} = ?" for name in given)
        tx.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*given.values(), job_id))


def set_waiting_reason(tx: Transaction, job_id: int, reason: str) -> None:
    """Say why an unfinished job waits; empty: it does not. One that has ended keeps its own reason."""
    marks = ", ".join("?" * len(FINAL_STATES))
    tx.execute(f"UPDATE jobs SET reason = ? WHERE id = ? AND state NOT IN ({marks})", (reason, job_id, *FINAL_STATES))


def clear_waiting_reasons(tx: Transaction) -> None:
    """Forget why unfinished jobs wait: whoever said so is gone."""
    marks = ", ".join("?" * len(FINAL_STATES))
    tx.execute(f"UPDATE jobs SET reason = '' WHERE reason <> '' AND state NOT IN ({marks})", FINAL_STATES)


def _row(row: Any) -> JobRow | None:
    if row is None:
        return None
    columns = [*row[:9], bool(row[9]), *row[10:13], DatumCounts(*row[13:18]), *row[18:]]
    return JobRow(*columns)


def _rows(rows: list[Any]) -> list[JobRow]:
    return [row for row in map(_row, rows) if row is not None]


def newer_than(tx: Transaction, job_id: int) -> list[JobRow]:
    """Jobs made after one, oldest first."""
    return _rows(tx.all(f"{_SELECT} WHERE jobs.id > ? ORDER BY jobs.id", (job_id,)))


def uses_of_results(
    tx: Transaction, *, pipeline_id: int | None = None, limit: int
) -> tuple[int, int, int, int, int, int]:
    """Of the newest good jobs: how many, and in all of them the datums, those computed, reused, found and carried."""
    where, parameters = ("", ()) if pipeline_id is None else (" AND pipeline_id = ?", (pipeline_id,))
    row: Any = tx.one(
        "SELECT count(*), coalesce(sum(total), 0), coalesce(sum(run), 0), coalesce(sum(reused), 0),"
        " coalesce(sum(found), 0), coalesce(sum(carried), 0) FROM (SELECT total, run, reused, found, carried FROM jobs"
        f" WHERE state = 'success'{where} ORDER BY id DESC LIMIT {int(limit)}) AS newest",
        parameters,
    )
    jobs, total, run, reused, found, carried = row
    return int(jobs), int(total), int(run), int(reused), int(found), int(carried)


def set_of_unfinished(tx: Transaction, job_id: int) -> str | None:
    """The commit set of a job that is in no final state; None for another, or for none."""
    marks = ", ".join("?" * len(FINAL_STATES))
    row: Any = tx.one(f"SELECT set_id FROM jobs WHERE id = ? AND state NOT IN ({marks})", (job_id, *FINAL_STATES))
    return None if row is None else str(row[0])


def exists(tx: Transaction, job_id: int) -> bool:
    return tx.one("SELECT 1 FROM jobs WHERE id = ?", (job_id,)) is not None
