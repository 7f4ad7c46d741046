"""Frozen value types of where a job's time went, and what more workers would bring (design note 029)."""

from __future__ import annotations

from paddock.model.dataclass import dataclass
from paddock.model.records import Datum


@dataclass(frozen=True, slots=True)
class JobTimes:
    """Where the time went, from the job's start to its end, or to now. plan + run + merge is all of it.

    The rest is workers' time, summed over all of them: `input` to `other` are what they did with datums of the job, `idle` is
    what remains of `workers` × `run_seconds`. What was begun and thrown away (its worker died, another one was faster) counts as
    idle, and what was computed before the job's start does not count.
    """

    workers: int
    """Most workers that the job could have had at once."""
    plan_seconds: float
    run_seconds: float
    merge_seconds: float
    input_seconds: float
    """Reading input files and putting them in place."""
    start_seconds: float
    """Starting commands; of a warm one until it says that it is ready."""
    code_seconds: float
    """User code, from the start of its process, or from the moment it was sent a datum, to its end or answer."""
    output_seconds: float
    """Collecting what the code left, and clearing up."""
    report_seconds: float
    """Storing outputs, logs and results so that they are durable."""
    other_seconds: float
    """All else between batches that was not waiting."""
    idle_seconds: float
    efficiency: float
    """Parallel efficiency: the share of `workers` × (plan + run + merge) in which workers were busy; 1 at most."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """With so many workers, each as fast as those of the job (so with as many cores), the job would take `seconds` from its start to its
    end: planning and merging as they were, and the datums it computed, longest first. efficiency: as of JobTimes.
    """

    workers: int
    seconds: float
    efficiency: float


@dataclass(frozen=True, slots=True)
class JobTiming:
    computed: int
    """Datums that this job computed itself and that have ended. Of a job that was stopped they are not known any more."""
    wait_seconds: float
    """From the commit to the job's start."""
    total_seconds: float
    """From there to its end, or to now."""
    datum_seconds: float
    """Of all datums computed: of each all tries, with input and output."""
    times: JobTimes | None
    """None where nothing was recorded: the job ended before Paddock did that, or has not started."""
    slowest: tuple[Datum, ...]
    """The slowest five, slowest first."""
    forecasts: tuple[Forecast, ...]
    """For 1, 2, 4, … workers, until more of them would change nothing."""
