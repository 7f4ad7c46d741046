"""Where a job's time went, from its record and its datums: the same on every way in."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import UTC, datetime

from paddock.model.records import Datum, DatumState
from paddock.model.services import Paddock

SLOWEST_MAX = 5
WORKERS = (1, 2, 4, 8, 16, 32, 64)
_RAN = frozenset({DatumState.SUCCESS, DatumState.RECOVERED, DatumState.FAILED})


@dataclass(frozen=True, slots=True)
class Forecast:
    """No schedule of `workers` workers computes the datums in less than `seconds`: their share of the work, or the longest
    datum, whichever is more. `efficiency`: the share of the workers' time that would be work then.
    """

    workers: int
    seconds: float
    efficiency: float


@dataclass(frozen=True, slots=True)
class JobTiming:
    """wait_seconds: from the commit to the job's start. run_seconds: from there to its end, or to now.

    datum_seconds: of all datums that this job computed, with moving their data, each with its tries. parallel: how many
    ran at once on average. rest_seconds: how much longer the job took than `parallel` workers, rounded up, need for the datums
    alone: planning, handing out, merging, idle workers.
    """

    computed: int
    wait_seconds: float
    run_seconds: float
    datum_seconds: float
    parallel: float
    rest_seconds: float
    slowest: tuple[Datum, ...]
    forecasts: tuple[Forecast, ...]


def job_timing(paddock: Paddock, job: str) -> JobTiming:
    """Read every datum of the job that it computed itself. Cost: its datums, some 20 µs each."""
    record = paddock.jobs.inspect(job)
    ran = [datum for datum in paddock.datums.list(job, states=tuple(_RAN)) if datum.computed_by == record.id]
    total = sum(datum.seconds for datum in ran)
    longest = max((datum.seconds for datum in ran), default=0.0)
    started = record.started or record.finished or datetime.now(UTC)
    parallel = total / record.seconds if record.seconds > 0 else 0.0
    at_best = max(longest, total / max(1, -(-total // record.seconds))) if record.seconds > 0 else 0.0
    return JobTiming(
        computed=len(ran),
        wait_seconds=max(0.0, (started - record.created).total_seconds()),
        run_seconds=record.seconds,
        datum_seconds=total,
        parallel=parallel,
        rest_seconds=max(0.0, record.seconds - at_best),
        slowest=tuple(heapq.nlargest(SLOWEST_MAX, ran, key=lambda datum: datum.seconds)),
        forecasts=tuple(_forecast(workers, total, longest) for workers in WORKERS if workers <= max(1, len(ran))),
    )


def _forecast(workers: int, total: float, longest: float) -> Forecast:
    seconds = max(longest, total / workers)
    return Forecast(workers, seconds, total / (workers * seconds) if seconds > 0 else 1.0)
