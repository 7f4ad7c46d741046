"""A pool of simulated workers that one `Dispatch` keeps busy on a virtual clock: how well, and at what cost."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paddock.runtime.dispatch import BatchRule, Dispatch, Lease, LeaseId

NEVER_SECONDS = 1e12


@dataclass(frozen=True, slots=True)
class PoolRun:
    """busy: the share of all worker time that went into datums. makespan: virtual seconds from first claim to last report.

    scheduler_seconds: of the processor, that the decisions took. largest: datums of the largest batch.
    """

    makespan: float
    busy: float
    batches: int
    datums: int
    largest: int
    scheduler_seconds: float


def run_pool(
    *,
    workers: int,
    datums: int,
    seconds: Callable[[int], float],
    round_trip_seconds: float = 0.0,
    known_seconds: np.ndarray | None = None,
) -> PoolRun:
    """Run every datum. seconds: what one takes, by position. round_trip_seconds: from a report to the next batch's begin.

    known_seconds: what the scheduler knows beforehand of each datum. No faults: `simulation` has those.
    """
    dispatch = Dispatch(
        np.arange(datums), input_bytes=np.ones(datums, np.int64), rule=BatchRule(), seconds=known_seconds
    )
    ends: list[tuple[float, int, Lease | None]] = [(0.0, worker, None) for worker in range(workers)]
    batches = done = largest = 0
    worked = now = scheduling = 0.0
    while ends:
        now, worker, lease = heapq.heappop(ends)
        begin = time.thread_time()
        if lease is not None:
            took = now - round_trip_seconds - lease.started
            accepted = dispatch.report(lease.id, lease.datums, seconds=took, final=True, now=now)
            done += len(accepted or ())
            worked += took
        batches += 1
        lease = dispatch.carve(LeaseId(str(batches)), workers=workers, now=now, lease_seconds=NEVER_SECONDS)
        scheduling += time.thread_time() - begin
        if lease is None:
            batches -= 1
            continue
        largest = max(largest, len(lease.datums))
        heapq.heappush(ends, (now + round_trip_seconds + sum(map(seconds, lease.datums)), worker, lease))
    assert dispatch.idle, "nothing waits and no worker is left"
    return PoolRun(now, worked / (workers * now), batches, done, largest, scheduling)
