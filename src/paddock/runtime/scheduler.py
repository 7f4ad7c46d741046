"""The scheduler: plans jobs whose inputs are finished, hands out batches, takes reports, finishes jobs.

One per home at a time (see `driver`). Everything happens in `run_once`, in one thread; all state that must survive a
crash is in the catalog: which jobs there are, and which batch results were accepted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.model.errors import PaddockError, Unavailable
from paddock.model.ids import new_id
from paddock.runtime import job_steps
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.dispatch import LeaseId
from paddock.runtime.engines.engine import Engine, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.protocol import BatchReport, Cancel, Claim, Heartbeat, Ready
from paddock.versions.home import Home

LEASE_SECONDS = 30.0
"""Heartbeats come every second; a worker silent for so long is taken for hung, and killed."""
LOST_REPORTS_MAX = 3
FAILED_STARTS_MAX = 3


class Scheduler:
    def __init__(
        self,
        home: Home,
        engine: Engine,
        *,
        workers: int,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._engine = engine
        self._workers = workers
        self._monotonic = monotonic
        self._now = now
        self._seen_version: int | None = None
        self._active: dict[int, ActiveJob] = {}
        self._claims: list[WorkerId] = []
        self._leases: dict[LeaseId, tuple[int, WorkerId]] = {}
        self._knows: dict[WorkerId, set[str]] = defaultdict(set)
        self._failed_starts = 0
        job_steps.salvage_ended(home, now=now())

    def run_once(self, timeout_seconds: float) -> None:
        """One round; waits at most `timeout_seconds` for a worker's message. Errors of one job fail that job only."""
        self._refresh()
        self._hand_out()
        for active in list(self._active.values()):
            self._settle(active)
        for event in self._engine.poll(timeout_seconds):
            self._handle(event)
        self._expire()

    # ---- which jobs are at work ----------------------------------------------------------------------------

    def _refresh(self) -> None:
        version = self._home.catalog.data_version()
        if version == self._seen_version:
            return
        self._seen_version = version
        with self._home.catalog.read() as tx:
            rows = jobs_sql.unfinished(tx)
            ready = job_steps.ready(tx, rows)
        unfinished = {row.id for row in rows}
        for id in [id for id in self._active if id not in unfinished]:
            self._drop(self._active[id])
        for row in ready:
            if row.id not in self._active:
                self._start(row)

    def _start(self, row: JobRow) -> None:
        try:
            self._active[row.id] = job_steps.start(self._home, row, workers=self._workers, now=self._now())
        except Unavailable:
            raise
        except PaddockError as error:
            job_steps.fail(self._home, row, f"planning failed: {error}", now=self._now())

    def _drop(self, active: ActiveJob) -> None:
        """Stop working on a job that ended by another hand (stopped, replaced by an update, deleted)."""
        for lease in active.dispatch.leases:
            _, worker = self._leases.pop(lease.id)
            self._engine.send(worker, Cancel(lease.id))
        active.dispatch.clear()
        del self._active[active.row.id]
        active.pin.release()
        job_steps.salvage(self._home, active.row.id, now=self._now())

    def _settle(self, active: ActiveJob) -> None:
        """Finish the job if nothing is left to do; stop it if its time is over."""
        limit = active.spec.job_timeout
        if limit is not None and self._now() - active.started > limit:
            job_steps.kill(
                self._home,
                active.row,
                f"timed out: ran longer than job_timeout ({limit:g} s)",
                now=self._now(),
            )
            self._drop(active)
        elif active.dispatch.idle:
            del self._active[active.row.id]
            job_steps.finish(self._home, active, now=self._now)
        elif not active.table_written:
            job_steps.write_planned(self._home, active)

    # ---- batches -------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        waiting = sum(active.dispatch.remaining for active in self._active.values())
        if waiting:
            self._engine.scale(min(self._workers, waiting + len(self._leases)))
        for worker in list(self._claims):
            active = self._choose(worker)
            if active is not None:
                self._claims.remove(worker)
                self._send_batch(worker, active)

    def _choose(self, worker: WorkerId) -> ActiveJob | None:
        """The job that the worker serves next: of those with work for it, the one with the fewest leases, then the oldest."""
        holds = sum(1 for _, holder in self._leases.values() if holder == worker)
        best: tuple[int, int] | None = None
        for id, active in self._active.items():
            remaining = active.dispatch.remaining
            serving = {self._leases[lease.id][1] for lease in active.dispatch.leases}
            full = active.workers_max is not None and len(serving | {worker}) > active.workers_max
            hoards = holds > 0 and remaining < 2 * self._workers
            if remaining and not full and not hoards:
                best = min(best, (len(serving), id)) if best is not None else (len(serving), id)
        return None if best is None else self._active[best[1]]

    def _send_batch(self, worker: WorkerId, active: ActiveJob) -> None:
        workers = min(self._workers, active.workers_max or self._workers)
        lease = active.dispatch.carve(
            LeaseId(new_id()), workers=workers, now=self._monotonic(), lease_seconds=LEASE_SECONDS
        )
        assert lease is not None, "a chosen job has datums that wait"
        self._leases[lease.id] = (active.row.id, worker)
        try:
            batch = active.tasks.batch(lease.id, lease.datums)
        except PaddockError as error:
            self._fail(active, f"can't read the inputs: {error}")
            self._claims.append(worker)
            return
        task = active.transform_task
        if task.id not in self._knows[worker]:
            self._knows[worker].add(task.id)
            self._engine.send(worker, task)
        self._engine.send(worker, batch)

    def _fail(self, active: ActiveJob, reason: str) -> None:
        job_steps.fail(self._home, active.row, reason, now=self._now())
        self._drop(active)

    # ---- what workers say ----------------------------------------------------------------------------------

    def _handle(self, event: WorkerEvent) -> None:
        match event:
            case WorkerGone():
                self._worker_gone(event)
            case WorkerMessage(worker, Ready()):
                self._failed_starts = 0
            case WorkerMessage(worker, Claim()):
                self._claims.append(worker)
            case WorkerMessage(worker, Heartbeat() as beat):
                self._heartbeat(beat)
            case WorkerMessage(worker, BatchReport() as report):
                self._report(report)
            case _:
                raise AssertionError(f"an engine delivers messages of workers, not {event}")

    def _heartbeat(self, beat: Heartbeat) -> None:
        held = self._leases.get(LeaseId(beat.lease))
        if held is not None:
            active = self._active[held[0]]
            active.dispatch.renew(LeaseId(beat.lease), now=self._monotonic(), lease_seconds=LEASE_SECONDS)

    def _report(self, report: BatchReport) -> None:
        """Accept a report if its lease is current; one transaction. A report of a void lease changes nothing."""
        id = LeaseId(report.lease)
        held = self._leases.get(id)
        if held is None:
            return
        active = self._active[held[0]]
        lease = next(each for each in active.dispatch.leases if each.id == id)
        active.dispatch.renew(id, now=self._monotonic(), lease_seconds=LEASE_SECONDS)
        if report.batch is not None:
            job_steps.accept(self._home, active, lease, report)
        seconds = sum(each.seconds for each in report.datums)
        positions = [lease.datums[each.position] for each in report.datums]
        active.dispatch.report(id, positions, seconds=seconds, final=report.final)
        if report.final:
            del self._leases[id]
        if report.error_code:
            active.lost_reports += 1
            if active.lost_reports >= LOST_REPORTS_MAX:
                self._fail(active, f"results could not be stored: {report.error}")

    def _worker_gone(self, event: WorkerGone) -> None:
        worker = event.worker
        self._claims = [each for each in self._claims if each != worker]
        started = self._knows.pop(worker, None) is not None
        for id, (job, holder) in list(self._leases.items()):
            if holder == worker:
                del self._leases[id]
                active = self._active[job]
                for position in active.dispatch.lose(id, died=True):
                    job_steps.record_lost(
                        self._home, active, position, f"its worker died each time it ran: {event.reason}"
                    )
        if not started:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS_MAX:
                raise Unavailable(f"workers don't start: {event.reason}")

    def _expire(self) -> None:
        now = self._monotonic()
        for active in self._active.values():
            for lease in active.dispatch.expired(now):
                _, worker = self._leases[lease.id]
                active.dispatch.renew(lease.id, now=now, lease_seconds=LEASE_SECONDS)
                self._engine.kill(worker)
