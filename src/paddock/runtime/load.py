"""What a scheduler has to do, and which of its workers are at it: what scaling is decided from. Frozen, so that any thread may read it."""

from __future__ import annotations

from collections.abc import Mapping

from paddock.model.dataclass import dataclass
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.engines.engine import WorkerId


@dataclass(frozen=True, slots=True)
class JobLoad:
    """A job at work. id: its row's. waiting: datums that no worker holds. running: those that workers hold.

    seconds: of a worker that a datum costs, measured; before the first has ended, how long it runs by now. None: nothing has begun.
    lacks: why no worker that has joined can run it; empty where one can, or none has joined.
    """

    id: int
    pipeline_id: int
    spec: PipelineSpec
    pool: str
    waiting: int
    running: int
    seconds: float | None
    lacks: str = ""

    @property
    def datums(self) -> int:
        return self.waiting + self.running


@dataclass(frozen=True, slots=True)
class Load:
    """busy: workers that hold a batch. idle_since: all others, by the scheduler's monotonic clock."""

    jobs: tuple[JobLoad, ...]
    busy: frozenset[WorkerId]
    idle_since: Mapping[WorkerId, float]


def job_load(active: ActiveJob, pool: str, now: float, *, lacks: str) -> JobLoad:
    """Of early work only what runs counts: it is done while nothing else needs a worker, and no reason to have more."""
    dispatch = active.dispatch
    seconds = dispatch.seconds_per_datum()
    if seconds is None:
        seconds = dispatch.running_seconds(now)
    waiting = 0 if active.early else dispatch.remaining
    return JobLoad(active.row.id, active.row.pipeline_id, active.spec, pool, waiting, dispatch.leased, seconds, lacks)
