"""Where a job's time went: what is kept of it, and what that comes to. Pure (design note 029)."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from paddock.catalog.batches import PARTS
from paddock.catalog.jobs import JobRow
from paddock.model.timing import Forecast, JobTimes
from paddock.runtime.active_job import ActiveJob

WORKERS_MAX = 1024
EXACT_DATUMS = 20_000
"""So many of the longest datums are laid out one by one; what is shorter is shared out evenly."""
_WORTHWHILE = 0.99


def of_start(active: ActiveJob) -> str:
    return _text(active, {}, merge_seconds=0.0)


def of_end(active: ActiveJob, spent: Mapping[str, float], *, merge_seconds: float) -> str:
    """spent: sums over the job's batches, by part."""
    return _text(active, spent, merge_seconds=merge_seconds)


def of_stopped(row: JobRow, spent: Mapping[str, float]) -> str | None:
    """Of a job that ended without merging."""
    return None if row.times is None else json.dumps(json.loads(row.times) | dict(spent))


def _text(active: ActiveJob, spent: Mapping[str, float], *, merge_seconds: float) -> str:
    return json.dumps({"workers": active.workers, "plan": active.plan_seconds, "merge": merge_seconds, **spent})


def job_times(text: str | None, spent: Mapping[str, float], *, total_seconds: float) -> JobTimes | None:
    """text: what is kept with the job. spent: sums over batches of a job at work."""
    if text is None:
        return None
    kept = json.loads(text)
    parts = {part: spent.get(part, 0.0) + kept.get(part, 0.0) for part in PARTS}
    busy, workers = sum(parts.values()), kept["workers"]
    run = max(0.0, total_seconds - kept["plan"] - kept["merge"])
    return JobTimes(
        workers=workers,
        plan_seconds=kept["plan"],
        run_seconds=run,
        merge_seconds=kept["merge"],
        **{f"{part}_seconds": seconds for part, seconds in parts.items()},
        idle_seconds=max(0.0, workers * run - busy),
        efficiency=min(1.0, busy / (workers * total_seconds)) if total_seconds > 0 else 0.0,
    )


def forecasts(seconds: npt.NDArray[np.float64], times: JobTimes | None) -> tuple[Forecast, ...]:
    """For 1, 2, 4, … workers. seconds: of each datum. What workers did besides datums is taken to be in proportion to these.

    Cost: a few tens of milliseconds for each number of workers, however many datums there are.
    """
    work = float(seconds.sum())
    if not work:
        return ()
    alone, busy = 0.0, work
    if times is not None:
        alone = times.plan_seconds + times.merge_seconds
        busy = max(work, _busy(times))
    longest = -np.sort(-seconds)
    found: list[Forecast] = []
    workers = 1
    while workers <= min(WORKERS_MAX, 2 * len(seconds) - 1):
        total = alone + makespan(longest, workers) * busy / work
        if found and total > found[-1].seconds * _WORTHWHILE:
            break
        found.append(Forecast(workers, total, busy / (workers * total)))
        workers *= 2
    return tuple(found)


def makespan(longest_first: npt.NDArray[np.float64], workers: int) -> float:
    """How long so many workers take for tasks of these lengths, each worker taking the longest that is left when it is free.

    Exact up to `EXACT_DATUMS` tasks; beyond, less than the truth by one of the shorter tasks at most.
    """
    ends = [0.0] * workers
    for seconds in longest_first[:EXACT_DATUMS].tolist():
        heapq.heapreplace(ends, ends[0] + seconds)
    share = float(longest_first.sum()) / workers
    return max(share, *ends)


def _busy(times: JobTimes) -> float:
    return float(sum(getattr(times, f"{part}_seconds") for part in PARTS))
