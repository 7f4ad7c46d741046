"""The scheduler: plans jobs whose inputs are finished, hands out batches, takes reports, finishes jobs.

One per home at a time (see `driver`). Everything happens in `run_once`, in one thread; all state that must survive a
crash is in the catalog: which jobs there are, and which batch results were accepted.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import LimitExceeded, PaddockError, Unavailable
from paddock.model.ids import new_id
from paddock.model.records import EngineName
from paddock.pipelines.worker_pools import engine_of, worker_pool
from paddock.runtime import job_steps
from paddock.runtime.acceptance import Acceptance, AcceptedAtOnce, Taken
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.capacity import UNLIMITED, Capacity
from paddock.runtime.dispatch import Lease, LeaseId, Rescue, report_seconds
from paddock.runtime.early_work import EarlyWork
from paddock.runtime.engines.engine import Engine, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.load import Load, job_load
from paddock.runtime.machines import Machines
from paddock.runtime.permits import Permits
from paddock.runtime.placement import Owners, Readers, Written, first_files
from paddock.runtime.protocol import BatchReport, BatchTask, Cancel, Claim, Heartbeat, Permit, Ready, Rest, Trim
from paddock.runtime.resources import Budget, Need, shares
from paddock.runtime.store_pauses import StorePauses, trouble_of
from paddock.versions.home import Home

LEASE_SECONDS = 30.0
"""Heartbeats come every second; a worker silent for so long is taken for hung, and killed."""
EXPIRY_SECONDS = 1.0
"""How often the scheduler looks for leases that have ended."""
LOOK_SECONDS = 0.02
"""How often it looks for new jobs while reports come in: each of them changes the catalog, and a look at it costs as much as a report."""
LOOK_SHARE = 20
"""And it looks for one part in so many of the time: where the catalog is slow to answer, who asks for a batch would wait for it."""
RESCUE_SECONDS = 0.25
"""How often it looks, while workers are idle, for what they could take over from others."""
TABLE_SECONDS = 0.2
"""A job that ends sooner is not worth a datums table to look at while it runs."""
BATCHES_MAX = 2
"""A worker holds the batch at work and the next; however often one asks that does not report, it gets no more."""
TOGETHER_DATUMS = 4_000
"""Batches for so many datums are looked up together: it is the number of questions that costs, up to some megabytes of answers."""
LOST_REPORTS_MAX = 3
BENCH_SECONDS = 60.0
"""A host whose disk is full gets nothing for so long, where others can do the work: it would fail job after job faster than they compute."""
FAILED_STARTS_MAX = 3

LOG = logging.getLogger("paddock")


@dataclass(frozen=True, slots=True)
class _Grant:
    """A lease that a worker has been given and not yet been told of."""

    worker: WorkerId
    active: ActiveJob
    lease: Lease
    gpus: tuple[str, ...]
    alone: bool


class Scheduler:
    def __init__(
        self,
        home: Home,
        engine: Engine,
        *,
        workers: int,
        capacity: Capacity = UNLIMITED,
        default_engine: EngineName | None = None,
        acceptance: Acceptance | None = None,
        permits: Permits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """default_engine: of pipelines that name none. None: this process has the local engine only, which runs all of them.

        acceptance: of reports; None: in the scheduler's own thread. permits: for workers of other machines; None: there are none.
        """
        self._home = home
        self._engine = engine
        self._workers = workers
        self._pool_size = max(1, workers)
        """Workers that there are, or will be once there is work; as of the beginning of a round."""
        self._machines = Machines(capacity, engine, own_workers=workers)
        self._default_engine = default_engine
        self._monotonic = monotonic
        self._now = now
        self._seen_version: int | None = None
        self._busy = False
        """Reports came in the last round: the catalog has changed, by what they told."""
        self._active: dict[int, ActiveJob] = {}
        self._early = EarlyWork(home, workers, monotonic, now)
        self._spare = True
        """Whether, at the last look, there were workers that could take nothing over from others."""
        self._withdrawn: set[LeaseId] = set()
        """Leases of early work that were cancelled, until they end."""
        self._claims: dict[WorkerId, None] = {}
        """Workers that wait for a batch, in the order in which they asked."""
        self._leases: dict[LeaseId, tuple[int, WorkerId]] = {}
        self._held: Counter[WorkerId] = Counter()
        self._serving: defaultdict[int, Counter[WorkerId]] = defaultdict(Counter)
        """Leases of each worker, by job; no zeros."""
        self._reports: list[Taken] = []
        """Taken in this round, and not yet on their way to the catalog."""
        self._acceptance = acceptance or AcceptedAtOnce(home)
        self._permits = permits
        self._written = Written()
        self._readers = Readers()
        self._pauses = StorePauses(home, monotonic)
        self._name = new_id()
        self._lease_count = 0
        self._knows: dict[WorkerId, set[str]] = {}
        self._tired: set[WorkerId] = set()
        """Workers whose warm process may hold what others could be given."""
        self._benched: dict[str, float] = {}
        """Machines that get nothing now, and until when."""
        self._idle_since: dict[WorkerId, float] = {}
        """Workers that hold nothing."""
        self._errands: deque[Callable[[], None]] = deque()
        self.work_came = threading.Event()
        """Set when a job with datums to run is there; whoever waits for that clears it."""
        self._failed_starts = 0
        self._told = False
        self._next_expiry = self._next_rescue = self._next_look = monotonic()
        job_steps.salvage_ended(home, now=now())

    def start_workers(self) -> None:
        """Start all workers now, and not when there is work: the first datum of a job then waits for none."""
        self._engine.scale(self._workers)

    @property
    def jobs(self) -> Sequence[ActiveJob]:
        """Jobs at work, as they are between two rounds."""
        return tuple(self._active.values())

    @property
    def early_jobs(self) -> Sequence[ActiveJob]:
        """Jobs that wait for their inputs and have an early plan, between two rounds."""
        return tuple(self._early.jobs.values())

    def soon(self, errand: Callable[[], None]) -> None:
        """Have something quick done in the scheduler's thread, before its next round. For any thread; all else here is for that one."""
        self._errands.append(errand)

    def load(self) -> Load:
        """What there is to do and who does it. Cost: a look at each lease and each worker, and for jobs that nobody serves, each machine."""
        now = self._monotonic()
        jobs = []
        for active in [*self._active.values(), *self._early.jobs.values()]:
            stuck = active.dispatch.remaining and not active.dispatch.leases and not active.early
            lacks = self._never_fits(active) if stuck else ""
            jobs.append(job_load(active, self._pool(active), now, lacks=lacks))
        return Load(tuple(jobs), frozenset(self._held), dict(self._idle_since))

    def run_once(self, timeout_seconds: float) -> None:
        """One round; waits at most `timeout_seconds` for a worker's message. Errors of one job fail that job only."""
        self._pool_size = max(1, self._workers, len(self._engine.workers()))
        self._refresh()
        while self._errands:
            self._errands.popleft()()
        self._hand_out()
        for active in list(self._active.values()):
            self._settle(active)
        try:
            for event in self._engine.poll(timeout_seconds):
                self._handle(event)
            # Before the catalog has what was reported: who asked has not to wait for that.
            self._hand_out()
        finally:
            self._pass_on()
        self._look_ahead()
        self._expire()

    # ---- which jobs are at work ----------------------------------------------------------------------------

    def _refresh(self) -> None:
        now = self._monotonic()
        if self._busy and now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        version = self._home.catalog.data_version()
        if version == self._seen_version and not self._pauses.due():
            return
        self._seen_version = version
        with self._home.catalog.read() as tx:
            rows = jobs_sql.unfinished(tx)
            ready = job_steps.ready(tx, rows)
        self._next_look = now + max(LOOK_SECONDS, LOOK_SHARE * (self._monotonic() - now))
        unfinished = {row.id for row in rows}
        for id in [id for id in self._active if id not in unfinished]:
            self._drop(self._active[id])
        for id in [id for id in self._early.jobs if id not in unfinished]:
            self._drop_early(id)
            job_steps.salvage(self._home, id, now=self._now())
        self._early.expect(job_steps.waiting_for_inputs(rows, ready))
        for row in ready:
            if row.id not in self._active and not self._pauses.holds(row.id):
                self._start(row)

    def _start(self, row: JobRow) -> None:
        self._accept()  # what was reported of it early is read from the catalog
        early = self._early.jobs.get(row.id)
        try:
            active = job_steps.start(self._home, row, workers=self._pool_size, clock=self._now, previous=early)
        except PaddockError as error:
            if isinstance(error, Unavailable):
                if not self._pauses.note(row, error.message, parted=True):
                    raise
                return
            if early is not None:
                self._drop_early(row.id)
            job_steps.fail(self._home, row, f"planning failed: {error}", now=self._now())
            return
        self._active[row.id] = active
        self._pauses.end(row.id)
        if early is not None:
            del self._early.jobs[row.id]
            self._let_go(early, active)
            for lease in active.dispatch.leases:
                self._withdrawn.discard(lease.id)
        if active.dispatch.remaining:
            self.work_came.set()
        lacks = self._never_fits(active) if active.dispatch.remaining else ""
        if lacks:
            job_steps.refuse(self._home, row, f"its datums can't run here: {lacks}", now=self._now())
            self._drop(active)

    def _let_go(self, before: ActiveJob, after: ActiveJob) -> None:
        """End the leases of an early plan that a later plan of the job has no use for."""
        for lease in before.dispatch.leases:
            if after.dispatch.lease(lease.id) is None:
                self._engine.send(self._forget(lease.id), Cancel(lease.id))

    def _drop_early(self, id: int) -> None:
        """Give up what runs of a job's early work. What was reported stays with the job."""
        self._accept()
        early = self._early.jobs.pop(id)
        for lease in early.dispatch.leases:
            self._engine.send(self._forget(lease.id), Cancel(lease.id))
        early.dispatch.clear()
        early.pin.release()
        self._serving.pop(id, None)

    def _drop(self, active: ActiveJob) -> None:
        """Stop working on a job that ended by another hand (stopped, replaced by an update, deleted)."""
        self._accept()
        for lease in active.dispatch.leases:
            self._engine.send(self._forget(lease.id), Cancel(lease.id))
        active.dispatch.clear()
        del self._active[active.row.id]
        self._pauses.forget(active.row.id)
        active.pin.release()
        self._serving.pop(active.row.id, None)
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
            self._serving.pop(active.row.id, None)
            self._accept()
            self._note_readers(active)
            self._finish(active)
        elif not active.table_written and self._now() - active.started >= TABLE_SECONDS:
            self._accept()  # the table names results
            self._write_planned(active)

    def _note_readers(self, active: ActiveJob) -> None:
        """Remember for later jobs which machines have the job's inputs."""
        if active.read_by is not None and self._written.machines > 1:
            positions = np.flatnonzero(active.read_by >= 0)
            self._readers.note(first_files(active.plan, positions), active.read_by[positions])

    def _finish(self, active: ActiveJob) -> None:
        try:
            job_steps.finish(self._home, active, now=self._now)
        except Unavailable as error:
            # It is planned again, finds all results, and is finished then.
            if not self._pauses.note(active.row, error.message, parted=True):
                raise
        else:
            self._pauses.forget(active.row.id)

    def _write_planned(self, active: ActiveJob) -> None:
        if self._pauses.holds(active.row.id):
            return
        try:
            job_steps.write_planned(self._home, active)
        except Unavailable as error:
            if not self._pauses.note(active.row, error.message):
                raise

    # ---- batches -------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        waiting = sum(active.dispatch.remaining for active in self._active.values())
        waiting += self._early.remaining
        if waiting:
            self._engine.scale(min(self._workers, waiting + len(self._leases)))
        self._serve(self._active, held_max=BATCHES_MAX - 1)
        for worker in self._tired:
            self._engine.send(worker, Rest())
        self._tired.clear()
        if self._claims and self._leases and self._monotonic() >= self._next_rescue:
            self._next_rescue = self._monotonic() + RESCUE_SECONDS
            self._rescue()
            self._spare = any(not self._held[worker] for worker in self._claims)
        self._hand_out_early()
        self._engine.flush()

    def _hand_out_early(self) -> None:
        """Give workers that have nothing else to do work of jobs whose inputs are not finished, and take it back where datums
        of other jobs wait for a worker."""
        if self._early.jobs:
            self._withdraw()
        if (self._leases and not self._spare) or (not self._claims and len(self._engine.workers()) >= self._workers):
            return
        if self._early.expects:
            self._accept()  # an early plan reads what upstream jobs have so far
        for before, after in self._early.plan(self._active):
            if before is not None:
                self._let_go(before, after)
        self._serve(self._early.jobs, held_max=0)

    def _serve(self, jobs: Mapping[int, ActiveJob], *, held_max: int) -> None:
        """Give workers that wait, and hold no more batches than that, one each. What is given to many at once is looked up together."""
        if not any(active.dispatch.remaining for active in jobs.values()):
            return
        granted: list[_Grant] = []
        datums = 0
        for worker in list(self._claims):
            active = self._choose(worker, jobs) if self._held[worker] <= held_max else None
            if active is not None:
                del self._claims[worker]
                grant = self._grant_batch(worker, active)
                granted.append(grant)
                datums += len(grant.lease.datums)
            if datums >= TOGETHER_DATUMS:
                self._send(granted)
                granted, datums = [], 0
        self._send(granted)

    def _look_ahead(self) -> None:
        """Look up what will be asked for next, now that those who asked are answered."""
        for active in [each for each in self._active.values() if each.dispatch.remaining]:
            try:
                active.tasks.look_ahead(active.dispatch.coming)
            except PaddockError as error:
                self._fail(active, f"can't read the inputs: {error}")

    def _withdraw(self) -> None:
        """Cancel as much early work as there are datums of ready jobs that wait, the youngest first: it has the least to lose."""
        waiting = sum(active.dispatch.remaining for active in self._active.values())
        if not waiting:
            return
        running = [lease for early in self._early.jobs.values() for lease in early.dispatch.leases]
        waiting -= sum(1 for lease in running if lease.id in self._withdrawn)
        for lease in sorted(running, key=lambda lease: -lease.started):
            worker = self._leases[lease.id][1]
            if waiting > 0 and lease.id not in self._withdrawn and self._choose(worker, self._active, freed=True):
                waiting -= 1
                self._withdrawn.add(lease.id)
                self._engine.send(worker, Cancel(lease.id))

    def _choose(self, worker: WorkerId, jobs: Mapping[int, ActiveJob], *, freed: bool = False) -> ActiveJob | None:
        """The job that the worker serves next: of those with work for it, the one with the fewest workers for its weight,
        then one that it serves already (a warm process can stay), then the oldest. A job none of whose datums run, for want of
        something, is not overtaken by those that take of it. The last datums are for workers that hold nothing, unless other
        jobs have work too: a short one would wait for the end of a long one. freed: as if the worker held nothing.
        """
        pool, machine = (place := self._engine.place(worker)).pool, place.machine
        if self._is_benched(machine):
            return None
        budget = self._machines.budget(worker)
        ranked: list[tuple[float, bool, int]] = []
        for id, active in jobs.items():
            if not active.dispatch.remaining or self._pauses.holds(id):
                continue
            if self._pool(active) == pool and self._has_room(active, worker):
                serving = self._serving[id]
                ranked.append((len(serving) / active.spec.parallelism_spec.weight, worker not in serving, id))
        short: frozenset[str] = frozenset()
        for load, _, id in sorted(ranked):
            need = _need(jobs[id], budget)
            lacks = budget.lacks(worker, need)
            if not lacks and not shares(short, need):
                hoards = self._held[worker] > 0 and jobs[id].dispatch.remaining < 2 * self._pool_size
                return None if hoards and not freed and len(ranked) == 1 else jobs[id]
            if not load:
                short |= lacks
        return None

    def _never_fits(self, active: ActiveJob) -> str:
        default = self._default_engine
        engine = "local" if default is None else engine_of(active.spec, default)
        return self._machines.never_fits(active.spec, self._pool(active), engine)

    def _pool(self, active: ActiveJob) -> str:
        if not active.pool:
            default = self._default_engine
            active.pool = active.spec.pool if default is None else worker_pool(active.spec, default)
        return active.pool

    def _has_room(self, active: ActiveJob, worker: WorkerId) -> bool:
        """Whether the job's limit lets this worker serve it."""
        serving = self._serving[active.row.id]
        return active.workers_max is None or worker in serving or len(serving) < active.workers_max

    def _rescue(self) -> None:
        """Let idle workers take over what others have not begun, and run a second time what runs far too long."""
        idle = [
            worker
            for worker in self._claims
            if not (self._held[worker] or self._is_benched(self._engine.place(worker).machine))
        ]
        for active in list(self._active.values()):
            pool = self._pool(active)
            able = [worker for worker in idle if self._engine.place(worker).pool == pool]
            found = active.dispatch.rescues(now=self._monotonic(), most=len(able)) if able else []
            for rescue in found:
                worker = able[-1]
                if not self._has_room(active, worker) or self._machines.budget(worker).lacks(worker, active.need):
                    break
                able.pop()
                idle.remove(worker)
                del self._claims[worker]
                self._take_over(worker, active, rescue)
                if active.row.id not in self._active:
                    break

    def _take_over(self, worker: WorkerId, active: ActiveJob, rescue: Rescue) -> None:
        lease = active.dispatch.take_over(rescue, self._new_lease(), now=self._monotonic(), lease_seconds=LEASE_SECONDS)
        if rescue.keep is not None:
            self._engine.send(self._leases[rescue.victim][1], Trim(rescue.victim, rescue.keep))
        self._send([self._grant(worker, active, lease, active.need)])

    def _grant_batch(self, worker: WorkerId, active: ActiveJob) -> _Grant:
        workers = min(self._pool_size, active.workers_max or self._pool_size)
        active.workers = max(active.workers, workers)
        need, alone = _need(active, self._machines.budget(worker)), active.dispatch.next_alone
        known = self._written.machines > 1 and (active.reads_outputs or self._readers)
        if known and (machine := self._engine.place(worker).machine):
            locate = self._home.chunks.locate if active.reads_outputs else None
            active.owners = active.owners or Owners(active.plan, self._written, self._readers, locate)
            active.dispatch.bring_forward(partial(active.owners.ranks, machine=machine))
        lease = active.dispatch.carve(
            self._new_lease(), workers=workers, now=self._monotonic(), lease_seconds=LEASE_SECONDS
        )
        assert lease is not None, "a chosen job has datums that wait"
        return self._grant(worker, active, lease, need, alone=alone)

    def _new_lease(self) -> LeaseId:
        """A name that no scheduler of this home has used. Randomness for each would let go of the interpreter each time."""
        self._lease_count += 1
        return LeaseId(f"{self._name}-{self._lease_count}")

    def _grant(self, worker: WorkerId, active: ActiveJob, lease: Lease, need: Need, *, alone: bool = False) -> _Grant:
        """Enter a lease into the books; it is to be sent."""
        gpus = self._machines.budget(worker).take(worker, lease.id, need)
        self._tired.discard(worker)
        self._idle_since.pop(worker, None)
        self._leases[lease.id] = (active.row.id, worker)
        self._held[worker] += 1
        self._serving[active.row.id][worker] += 1
        return _Grant(worker, active, lease, gpus, alone)

    def _send(self, granted: Sequence[_Grant]) -> None:
        by_job: defaultdict[int, list[_Grant]] = defaultdict(list)
        for grant in granted:
            by_job[grant.active.row.id].append(grant)
        for grants in by_job.values():
            active = grants[0].active
            try:
                batches = active.tasks.batches([(grant.lease.id, grant.lease.datums) for grant in grants])
            except PaddockError as error:
                if isinstance(error, Unavailable) and self._pauses.note(active.row, error.message):
                    for grant in grants:
                        self._forget(grant.lease.id)
                        active.dispatch.lose(grant.lease.id, died=False)
                else:
                    self._fail(active, f"can't read the inputs: {error}")
                self._claims |= {grant.worker: None for grant in grants}
                continue
            for grant, batch in zip(grants, batches, strict=True):
                self._tell_of_transform(grant.worker, active)
                task = dataclasses.replace(
                    batch,
                    gpus=grant.gpus,
                    alone=grant.alone,
                    report_seconds=report_seconds(self._pool_size),
                    permits=self._read_permits(grant, batch),
                )
                self._engine.send(grant.worker, task)

    def _read_permits(self, grant: _Grant, batch: BatchTask) -> tuple[Permit, ...]:
        """What the worker shows to servers to read the batch's inputs; those of this machine read the store."""
        if self._permits is None or not self._engine.place(grant.worker).machine:
            return ()
        active = grant.active
        return self._permits.of(batch, active.transform_task.code or (), pool=self._pool(active), job=active.row.id)

    def _tell_of_transform(self, worker: WorkerId, active: ActiveJob) -> None:
        task = active.transform_task
        knows = self._knows.setdefault(worker, set())
        if task.id not in knows:
            knows.add(task.id)
            self._engine.send(worker, task)

    def _forget(self, lease: LeaseId) -> WorkerId:
        """Take a lease that has ended out of the books; the worker that held it."""
        job, worker = self._leases.pop(lease)
        self._withdrawn.discard(lease)
        for counts in (self._held, self._serving[job]):
            counts[worker] -= 1
            if not counts[worker]:
                del counts[worker]
        holds = self._machines.budget(worker).free(worker, lease).holds
        if not self._held[worker]:
            self._idle_since[worker] = self._monotonic()
            if holds:
                self._tired.add(worker)
        return worker

    def _fail(self, active: ActiveJob, reason: str) -> None:
        """End a job that can't go on. One with an early plan is planned again when its inputs are finished."""
        self._accept()
        if active.early:
            self._early.block(active.row.id)
            self._drop_early(active.row.id)
            return
        job_steps.fail(self._home, active.row, reason, now=self._now())
        self._drop(active)

    # ---- what workers say ----------------------------------------------------------------------------------

    def _handle(self, event: WorkerEvent) -> None:
        match event:
            case WorkerGone():
                self._worker_gone(event)
            case WorkerMessage(worker, Ready() as ready):
                self._failed_starts = 0
                self._knows.setdefault(worker, set())
                self._idle_since.setdefault(worker, self._monotonic())
                self._tell_of_sandbox(ready)
            case WorkerMessage(worker, Claim()):
                self._claims[worker] = None
            case WorkerMessage(worker, Heartbeat() as beat):
                self._heartbeat(worker, beat)
            case WorkerMessage(worker, BatchReport() as report):
                self._report(worker, report)
            case _:
                raise AssertionError(f"an engine delivers messages of workers, not {event}")

    def _holder(self, lease: LeaseId, worker: WorkerId) -> ActiveJob | None:
        """The job of a lease if it is current and this worker's."""
        job, holder = self._leases.get(lease, (None, None))
        return self._job(job) if job is not None and holder == worker else None

    def _job(self, id: int) -> ActiveJob:
        """The job of a lease."""
        return self._active.get(id) or self._early.jobs[id]

    def _tell_of_sandbox(self, ready: Ready) -> None:
        """Say once that there is no private /pfs here, because commands that name it will fail."""
        if ready.sandbox == "directory" and ready.reason and not self._told:
            self._told = True
            LOG.warning(
                "this system allows no private /pfs (%s): commands find their files below $PADDOCK_PFS, {in} and {out} instead; "
                "set PADDOCK_SANDBOX=directory to say that you know",
                ready.reason,
            )

    def _heartbeat(self, worker: WorkerId, beat: Heartbeat) -> None:
        id = LeaseId(beat.lease)
        active = self._holder(id, worker)
        if active is not None:
            active.dispatch.renew(
                id,
                now=self._monotonic(),
                lease_seconds=LEASE_SECONDS,
                done=beat.done,
                running_seconds=beat.running_seconds,
            )

    def _report(self, worker: WorkerId, report: BatchReport) -> None:
        """Take a report if its lease is current; `_pass_on` makes it last. A report of a void lease changes nothing."""
        id = LeaseId(report.lease)
        active = self._holder(id, worker)
        lease = None if active is None else active.dispatch.lease(id)
        if active is None or lease is None:
            return
        now = self._monotonic()
        active.dispatch.renew(id, now=now, lease_seconds=LEASE_SECONDS)
        trouble = trouble_of(report)
        paused = bool(trouble) and self._pauses.note(active.row, trouble)
        benched = self._bench(worker, report)
        passing = [*([Unavailable.code] if paused else ()), *([LimitExceeded.code] if benched else ())]
        report = _first_reports(active, lease, report, passing=passing)
        if report.batch is not None:
            # Believed like the seconds of datums: no more than has passed since the lease began.
            spent = report.spent.believed(now - lease.started)
            active.record_report(report, lease.datums, job=bytes.fromhex(active.row.set_id))
            self._reports.append((active, dataclasses.replace(report, spent=spent)))
            if not paused:
                self._pauses.end(active.row.id)
        positions = tuple(lease.datums[each.position] for each in report.datums)
        if report.batch is not None and (machine := self._engine.place(worker).machine):
            active.note_reader(positions, self._written.note(machine, [pack.pack for pack in report.packs]))
        seconds = sum(each.seconds for each in report.datums)
        starved = {lease.datums[each] for each in report.starved if 0 <= each < len(lease.datums)}
        active.dispatch.report(id, positions, seconds=seconds, final=report.final, now=now, starved=starved)
        if report.final:
            self._forget(id)
        for needless in active.dispatch.drop_needless():
            self._engine.send(self._forget(needless), Cancel(needless))
        if report.error_code and report.error_code not in passing:
            active.lost_reports += 1
            if active.lost_reports >= LOST_REPORTS_MAX:
                self._fail(active, f"results could not be stored: {report.error}")

    def _bench(self, worker: WorkerId, report: BatchReport) -> bool:
        """Whether the worker's machine has no room for what others of its pool can do; it gets nothing for a while then."""
        codes = {report.error_code, *(each.error_code for each in report.datums)}
        place = self._engine.place(worker)
        if LimitExceeded.code not in codes or not place.machine:
            return False
        places = [self._engine.place(each) for each in self._engine.workers()]
        able = any(
            each.pool == place.pool and each.machine != place.machine and not self._is_benched(each.machine)
            for each in places
        )
        if able and not self._is_benched(place.machine):
            self._benched[place.machine] = self._monotonic() + BENCH_SECONDS
            why = report.error or next(each.reason for each in report.datums if each.error_code == LimitExceeded.code)
            LOG.warning("a host of pool %s gets nothing for %g s: %s", place.pool, BENCH_SECONDS, why)
        return able or self._is_benched(place.machine)

    def _is_benched(self, machine: str) -> bool:
        until = self._benched.get(machine) if self._benched else None
        if until is None:
            return False
        if self._monotonic() < until:
            return True
        del self._benched[machine]
        return False

    def _pass_on(self) -> None:
        """Have the reports that were taken entered into the catalog, those of a round in one transaction at least.

        Nobody is told of a report before, and nothing is read that it should be part of (`_accept`). Unavailable: the scheduler
        has to end; the next one goes by the catalog.
        """
        reports, self._reports = self._reports, []
        self._busy = bool(reports)
        if reports:
            self._acceptance.put(reports)

    def _accept(self) -> None:
        """Go on when all reports that were taken are in the catalog."""
        self._pass_on()
        self._acceptance.settle()

    def _worker_gone(self, event: WorkerGone) -> None:
        self._accept()
        worker = event.worker
        self._claims.pop(worker, None)
        started = self._knows.pop(worker, None) is not None
        for id, (job, holder) in list(self._leases.items()):
            if holder == worker:
                self._forget(id)
                active = self._job(job)
                for position in active.dispatch.lose(id, died=not event.taken, starved=event.starved):
                    job_steps.record_lost(
                        self._home, active, position, f"its worker died each time it ran: {event.reason}"
                    )
        self._machines.forget(worker)
        self._idle_since.pop(worker, None)
        if not started:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS_MAX:
                raise Unavailable(f"workers don't start: {event.reason}")

    def _expire(self) -> None:
        """Kill workers that are silent for too long. One that the engine does not know any more is given up at once."""
        now = self._monotonic()
        if now < self._next_expiry:
            return
        self._next_expiry = now + EXPIRY_SECONDS
        alive = set(self._engine.workers())
        for active in [*self._active.values(), *self._early.jobs.values()]:
            for lease in active.dispatch.expired(now):
                held = self._leases.get(lease.id)
                if held is None:
                    continue
                active.dispatch.renew(lease.id, now=now, lease_seconds=LEASE_SECONDS)
                if held[1] in alive:
                    self._engine.kill(held[1])
                else:
                    self._worker_gone(WorkerGone(held[1], "it is gone without a word"))


def _need(active: ActiveJob, budget: Budget) -> Need:
    """What the job's next batch takes of a machine while it runs."""
    return budget.whole(active.need) if active.dispatch.next_alone else active.need


def _first_reports(active: ActiveJob, lease: Lease, report: BatchReport, *, passing: Sequence[str] = ()) -> BatchReport:
    """The report without datums that are not the lease's, or that were reported before; without a batch if none is left.

    passing: nor those that errors of these codes kept from their end; they wait again.
    """
    within = [each for each in report.datums if 0 <= each.position < len(lease.datums)]
    if passing:
        within = [each for each in within if each.error_code not in passing]
    positions = tuple(lease.datums[each.position] for each in within)
    accepted = active.dispatch.acceptable(lease.id, positions)
    if len(accepted) == len(report.datums):
        return report
    first = dict(zip(reversed(positions), reversed(within), strict=True))
    kept = tuple(first[position] for position in accepted)
    return dataclasses.replace(report, datums=kept, batch=report.batch if kept else None)
