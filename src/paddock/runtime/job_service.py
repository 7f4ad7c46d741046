"""Jobs: look, wait, stop, read logs. Implements `model.services.Jobs`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence

from paddock.catalog import batches as batches_sql
from paddock.catalog import jobs as jobs_sql
from paddock.model.errors import Conflict
from paddock.model.ids import CommitId
from paddock.model.records import Job, JobState
from paddock.model.timing import JobTiming
from paddock.runtime import driver, job_steps, job_times
from paddock.runtime.datum_service import DatumService
from paddock.runtime.engines.local import WorkerOptions
from paddock.runtime.follow_logs import follow_logs
from paddock.runtime.job_records import find_job, find_pipeline
from paddock.versions.home import Home
from paddock.versions.records import job_record

SLOWEST = 5


class JobService:
    def __init__(self, home: Home, *, workers: int | None = None, options: WorkerOptions = WorkerOptions()) -> None:
        """workers: how many worker processes `wait` uses where it does the work itself; None: one for each core."""
        self._home = home
        self._options = options
        self._workers = workers

    def list(self, *, pipeline: str | None = None, limit: int | None = None) -> builtins.list[Job]:
        with self._home.catalog.read() as tx:
            pipeline_id = None if pipeline is None else find_pipeline(tx, pipeline).id
            return [
                job_record(row, now=self._home.now())
                for row in jobs_sql.newest_first(tx, pipeline_id=pipeline_id, limit=limit)
            ]

    def inspect(self, job: str) -> Job:
        with self._home.catalog.read() as tx:
            return job_record(find_job(tx, job), now=self._home.now())

    def timing(self, job: str) -> JobTiming:
        with self._home.catalog.read() as tx:
            row = find_job(tx, job)
            spent = batches_sql.spent(tx, row.id)
        record = job_record(row, now=self._home.now())
        seconds, slowest = DatumService(self._home).costs(f"{row.project}/{row.pipeline}@{row.set_id}", slowest=SLOWEST)
        times = job_times.job_times(row.times, spent, total_seconds=record.seconds)
        until = row.started or row.finished or self._home.now()
        return JobTiming(
            computed=len(seconds),
            wait_seconds=max(0.0, until - row.created),
            total_seconds=record.seconds,
            datum_seconds=float(seconds.sum()),
            times=times,
            slowest=slowest,
            forecasts=job_times.forecasts(seconds, times),
        )

    def wait(
        self,
        jobs: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Sequence[Job]], None] | None = None,
    ) -> builtins.list[Job]:
        with self._home.catalog.read() as tx:
            rows = [find_job(tx, job) for job in jobs]
        named = [(f"{row.project}/{row.pipeline}", CommitId(row.set_id)) for row in rows]
        if named:
            driver.process(
                self._home,
                workers=self._workers,
                on_progress=on_progress,
                jobs=named,
                timeout_seconds=timeout_seconds,
            )
        with self._home.catalog.read() as tx:
            return [job_record(jobs_sql.get(tx, row.id), now=self._home.now()) for row in rows]

    def stop(self, job: str, *, reason: str = "stopped by the user") -> Job:
        """Conflict where it has ended already. What was computed up to now is kept for the next job."""
        with self._home.catalog.write() as tx:
            row = find_job(tx, job)
            if JobState(row.state).final:
                raise Conflict(f"job {row} has ended already ({row.state}); there is nothing to stop")
            job_steps.end(tx, row, JobState.KILLED, reason, now=self._home.now())
            return job_record(jobs_sql.get(tx, row.id), now=self._home.now())

    def follow(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        return follow_logs(self._home, job, datum=datum or "")

    def logs(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        datums = DatumService(self._home)
        if datum is not None:
            yield datum, datums.logs(job, datum)
        else:
            yield from datums.all_logs(job)
