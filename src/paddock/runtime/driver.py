"""Who works: one scheduler per home at a time, in whichever process holds the home's scheduler lock; the others wait for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from paddock.catalog import pools
from paddock.model.ids import CommitId
from paddock.model.records import EngineName, Job
from paddock.runtime.acceptance import Acceptance
from paddock.runtime.engines.local import WorkerOptions
from paddock.runtime.engines.machine import machine_capacity
from paddock.runtime.job_records import JobWatch
from paddock.runtime.permits import Permits
from paddock.runtime.scheduler import Scheduler
from paddock.runtime.workshop import Workshop
from paddock.versions.home import Home

OnProgress = Callable[[Sequence[Job]], None]

POLL_SECONDS = 0.02
"""How often a waiting process looks at the catalog's change counter (a read of a few microseconds)."""
PROGRESS_SECONDS = 0.1


def process(
    home: Home,
    *,
    workers: int | None = None,
    options: WorkerOptions = WorkerOptions(),
    on_progress: OnProgress | None = None,
    jobs: Sequence[tuple[str, CommitId]] = (),
    timeout_seconds: float | None = None,
    workshop: Workshop | None = None,
) -> Sequence[Job]:
    """Work until no job is unfinished, or until those in `jobs` (as (`project/pipeline`, id)) are final; see `Paddock.process`.

    If another process is the scheduler of this home, wait for it, and take over should it die. Interrupting leaves every
    reported result in place; the next call goes on from there. After `timeout_seconds` returns what there is. workshop: one that
    is open already; its closing begins at the end, and the caller waits for that when it has nothing else to do.
    """
    given = workshop
    watch = JobWatch(home, jobs)
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    shown = 0.0

    def over() -> bool:
        nonlocal shown
        now = time.monotonic()
        if on_progress is not None and now - shown >= PROGRESS_SECONDS:
            shown = now
            on_progress(watch.jobs())
        return watch.done() or (deadline is not None and now >= deadline)

    try:
        while not over():
            workshop = workshop or Workshop.open(home, options=options)
            if workshop is None:
                time.sleep(POLL_SECONDS)
                continue
            scheduler = scheduler_of(home, workshop, workers=workers, options=options)
            while not over():
                scheduler.run_once(POLL_SECONDS)
    finally:
        if given is not None:
            given.begin_closing()
        elif workshop is not None:
            workshop.close()
    ended = watch.jobs()
    if on_progress is not None:
        on_progress(ended)
    return ended


def scheduler_of(
    home: Home,
    workshop: Workshop,
    *,
    workers: int | None,
    options: WorkerOptions,
    url: str | None = None,
    engine: EngineName | None = None,
    acceptance: Acceptance | None = None,
    permits: Permits | None = None,
) -> Scheduler:
    """The scheduler of a home. url: where this process's server is reached, if it is one. engine: of pipelines that name none; None: there is no other."""
    if url is not None or home.shared is not None:
        # Before the scheduler looks at anything: as a write it waits for what the last one had begun to write.
        with home.catalog.write() as tx:
            pools.begin_scheduling(tx, url or "", since=home.now())
    count = workers_of(workers)
    capacity = machine_capacity(home.path, workers=count, memory_bytes=options.memory_bytes, gpus=options.gpus)
    return Scheduler(
        home,
        workshop.engine,
        workers=count,
        capacity=capacity,
        default_engine=engine,
        acceptance=acceptance,
        permits=permits,
    )


def workers_of(workers: int | None) -> int:
    """As many as asked for; else one for each CPU."""
    return (os.cpu_count() or 1) if workers is None else workers
