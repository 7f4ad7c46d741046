"""The steps of a job's life, each of them one catalog transaction: start, accept a report, finish, fail, kill.

A step that finds its job ended by another hand (stopped, updated, deleted) changes nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog import batches as batches_sql
from paddock.catalog import chunk_index
from paddock.catalog import commits as commits_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog import results as results_sql
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.model.errors import Corrupt, UserCodeFailed
from paddock.model.ids import CommitId, DatumId, DatumKey, Digest
from paddock.model.records import CommitState, DatumState, JobState
from paddock.runtime import cache_limits, job_times, result_cache
from paddock.runtime.active_job import ActiveJob, Outcomes, batch_rule, waiting_positions
from paddock.runtime.audit import NO_AUDIT, Audit, choose
from paddock.runtime.audit import report as audit_report
from paddock.runtime.batch_format import STATES, DatumOutcome
from paddock.runtime.batch_results import read_batch_result
from paddock.runtime.carrying import Carried
from paddock.runtime.cost_history import known_seconds
from paddock.runtime.dispatch import NOWHERE, BatchRule, Dispatch, Lease, LeaseId
from paddock.runtime.freed_memory import release_freed
from paddock.runtime.job_facts import JobFacts, job_facts
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.outputs import BatchResults, merge_outputs
from paddock.runtime.plan import RUN, Plan
from paddock.runtime.planner import plan_job
from paddock.runtime.protocol import BatchReport
from paddock.runtime.report_writer import ReportWriter
from paddock.runtime.resources import need_of
from paddock.runtime.result_cache import ResultFinder
from paddock.runtime.tasks import TaskBuilder, transform_task
from paddock.storage.chunks import ChunkWriter
from paddock.versions.home import Home
from paddock.versions.locks import Lock
from paddock.versions.outputs import fail_output, finish_output


def ready(tx: Transaction, unfinished: Sequence[JobRow]) -> list[JobRow]:
    """Jobs that can be at work now: all inputs finished, and no older job of the same pipeline unfinished."""
    busy: set[int] = set()
    found: list[JobRow] = []
    for row in unfinished:
        if row.pipeline_id in busy:
            continue
        busy.add(row.pipeline_id)
        if all(state == CommitState.FINISHED for state in _input_states(tx, row)):
            found.append(row)
    return found


def waiting_for_inputs(unfinished: Sequence[JobRow], ready: Sequence[JobRow]) -> list[JobRow]:
    """Jobs that only wait for their inputs: not ready, and no older job of the same pipeline is unfinished."""
    oldest: dict[int, JobRow] = {}
    for row in unfinished:
        oldest.setdefault(row.pipeline_id, row)
    ids = {row.id for row in ready}
    return [row for row in oldest.values() if row.id not in ids]


def _input_states(tx: Transaction, row: JobRow) -> list[str]:
    upstream = [each.upstream_id for each in commits_sql.provenance(tx, [row.commit_id])]
    return [commits_sql.get(tx, id).state for id in upstream if id is not None]


# ---- start -------------------------------------------------------------------------------------------------


def start(
    home: Home, row: JobRow, *, workers: int, clock: Callable[[], float], previous: ActiveJob | None = None
) -> ActiveJob:
    """Plan the job and set it running. A job that was at work when its scheduler died goes on with what was reported.

    One that has ended since `row` was read (stopped, deleted) stays as it is; the scheduler drops it at its next look.
    previous: its early plan, whose pin and whose leases on datums that the job has become its own.
    """
    now = clock()
    with home.catalog.write() as tx:
        if _unfinished(tx, row):
            jobs_sql.update(tx, row.id, state=JobState.STARTING, started=row.started or now)
    pin = home.pin() if previous is None else previous.pin
    try:
        facts = job_facts(home, row)
        reuse = _reuses(row, facts)
        finders = [ResultFinder(home, transform) for transform in (facts.transform, *facts.carries)]
        audited = reuse and facts.audit_share > 0
        plan = _plan(home, facts, finders, reuse=reuse, whole=audited)
        audit = choose(plan, facts.audit_share, row.id) if audited else NO_AUDIT
        active = _activate(home, row, facts, plan, pin, audit, started=row.started or now)
        active.renewed = plan.found_at(finders[0].scattered)
        _set_out(home, active, facts, previous, workers=workers)
        release_freed(len(plan), home.tables)
    except BaseException:
        if previous is None:
            pin.release()
        raise
    active.workers = min(workers, active.workers_max or workers)
    active.plan_seconds = clock() - now
    begun_early = row.started is None
    with home.catalog.write() as tx:
        results_sql.touch(tx, sorted({run for finder in finders for run in finder.busy}), used=now)
        if _unfinished(tx, row):
            jobs_sql.update(
                tx,
                row.id,
                state=JobState.RUNNING,
                base_id=facts.base_id,
                counts=active.counts,
                early=active.taken_up if begun_early else None,
                wasted=sum(table.num_rows for table in active.spare) if begun_early else None,
                times=job_times.of_start(active),
            )
    return active


def start_early(
    home: Home,
    row: JobRow,
    facts: JobFacts,
    *,
    pin: Lock,
    partial: Collection[int],
    previous: ActiveJob | None,
    workers: int,
    now: float,
) -> ActiveJob:
    """Plan the job over that part of its input that is final (`facts.inputs` has it). Nothing is changed in the catalog.

    partial: leaves whose input is not finished. What they match that is a directory may still grow, and waits. previous: see `start`.
    """
    finders = [ResultFinder(home, transform) for transform in (facts.transform, *facts.carries)]
    plan = _plan(home, facts, finders, reuse=_reuses(row, facts))
    active = _activate(home, row, facts, plan, pin, NO_AUDIT, started=now if previous is None else previous.started)
    active.early = True
    _set_out(home, active, facts, previous, workers=workers, later=plan.reads_directory_of(partial))
    return active


def _reuses(row: JobRow, facts: JobFacts) -> bool:
    return not row.no_cache and facts.spec.reprocess_spec != "every_job"


def _plan(home: Home, facts: JobFacts, finders: Sequence[ResultFinder], *, reuse: bool, whole: bool = False) -> Plan:
    """finders: for the job's own transform, then for those carried."""
    return plan_job(
        home,
        facts.spec,
        transform=facts.transform,
        inputs=facts.inputs,
        base=facts.base,
        found=finders[0],
        reuse=reuse,
        carries=[Carried(finder.transform, finder) for finder in finders[1:]],
        whole=whole,
    )


def _activate(
    home: Home, row: JobRow, facts: JobFacts, plan: Plan, pin: Lock, audit: Audit, *, started: float
) -> ActiveJob:
    """The job with its plan, and nothing to hand out yet."""
    transform = f"{row.pipeline_id}.{row.version}"
    return ActiveJob(
        row=row,
        spec=facts.spec,
        transform=facts.transform,
        plan=plan,
        dispatch=Dispatch([], input_bytes=[], rule=BatchRule()),
        tasks=TaskBuilder(home, plan, job=CommitId(row.set_id), transform=transform),
        transform_task=transform_task(
            home, facts.spec, id=transform, project=row.project, pipeline=row.pipeline, code=facts.code
        ),
        started=started,
        outcomes=Outcomes(len(plan)),
        pin=pin,
        audit=audit,
        need=need_of(facts.spec),
    )


def _set_out(
    home: Home,
    active: ActiveJob,
    facts: JobFacts,
    previous: ActiveJob | None,
    *,
    workers: int,
    later: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Take up what was reported and what workers hold, and have the rest wait. later: datums, by position, that are not to wait yet."""
    plan = active.plan
    positions = {} if previous is None and not facts.reported else {id: at for at, id in enumerate(plan.ids)}
    _take_up(home, active, facts.reported, positions)
    held = {} if previous is None else _held(active, previous, positions)
    waiting = np.concatenate([waiting_positions(plan, active.outcomes), active.audit.waiting()])
    if later is not None:
        waiting = waiting[~later[waiting]]
    if held:
        waiting = waiting[~np.isin(waiting, [datum for _, datums in held.values() for datum in datums])]
    # With few datums there is nothing to decide, and no time to lose.
    base = facts.base if len(waiting) > workers else None
    active.dispatch = Dispatch(
        waiting,
        input_bytes=plan.input_bytes(waiting),
        rule=batch_rule(facts.spec, datums=len(waiting), workers=workers),
        seconds=None if base is None else known_seconds(home, base.datums, plan.names(waiting)),
    )
    for lease, datums in held.values():
        active.dispatch.adopt(lease, datums)
        active.taken_up += sum(1 for datum in datums if datum != NOWHERE)


def _held(
    active: ActiveJob, previous: ActiveJob, positions: Mapping[bytes, int]
) -> dict[LeaseId, tuple[Lease, list[int]]]:
    """The leases of an earlier plan that hold datums which are to run in this one, and where these stand here."""
    plan, found = active.plan, {}
    ended = set(active.outcomes.positions().tolist())
    for lease in previous.dispatch.leases:
        datums = []
        for old in lease.datums:
            at = NOWHERE if old == NOWHERE else positions.get(previous.plan.ids[old], NOWHERE)
            wanted = at != NOWHERE and at not in ended and plan.actions[at] == RUN
            datums.append(at if wanted and plan.keys[at] == previous.plan.keys[old] else NOWHERE)
        if any(at != NOWHERE for at in datums):
            found[lease.id] = lease, datums
    return found


def _take_up(
    home: Home, active: ActiveJob, reported: Sequence[batches_sql.BatchRow], positions: Mapping[bytes, int]
) -> None:
    """Results that were accepted before this plan was made count as they are; failed datums get another chance.

    positions: of the plan's datums, by id. What the plan does not need goes into the cache with the rest.
    """
    plan, job = active.plan, bytes.fromhex(active.row.set_id)
    for batch in reported:
        digest = _digest(batch.result)
        spare = []
        for ordinal, id, key, state in _outcomes(home, digest):
            position = positions.get(id)
            same = position is not None and plan.keys[position] == key
            if position is not None and same and (plan.actions[position] == RUN or position in active.audit):
                if state is not DatumState.FAILED:
                    active.record(position, state, batch=digest, ordinal=ordinal, job=job, reason="")
            elif state is DatumState.SUCCESS:
                spare.append(ordinal)
        if spare:
            good = _successes(home, digest, job)
            active.spare.append(good.filter(pc.is_in(good.column("ordinal"), value_set=pa.array(spare, pa.int32()))))
    active.taken_up = active.outcomes.ended


def _outcomes(home: Home, batch: Digest) -> list[tuple[int, bytes, bytes, DatumState]]:
    results = read_batch_result(home.chunks, batch).results
    columns = (results.column(name).to_pylist() for name in ("ordinal", "id", "key", "state"))
    return [(ordinal, id, key, STATES[state]) for ordinal, id, key, state in zip(*columns, strict=True)]


def write_planned(home: Home, active: ActiveJob) -> None:
    """Store the plan as the job's datums table, so that it can be looked at while the job runs."""
    with home.chunks.writer() as writer:
        root = _write_datums(home, active.plan, writer)
        writer.flush()
    release_freed(len(active.plan), home.tables)
    with home.catalog.write() as tx:
        jobs_sql.update(tx, active.row.id, datums_root=root.hex())
    active.table_written = True


def _write_datums(home: Home, plan: Plan, writer: ChunkWriter) -> Digest:
    """The job's datums table: the base's with the plan's rows. Cost: as many segments as rows fall into."""
    return home.tables.merge_sorted(DATUMS, plan.base_datums, plan.tables(), plan.dropped, writer)


# ---- results -----------------------------------------------------------------------------------------------


def accept(home: Home, reports: Sequence[tuple[ActiveJob, BatchReport]]) -> None:
    """Take reports whose datums are recorded with their jobs: packs into the chunk index, batches into the catalog, in one transaction."""
    jobs = {active.row.id: active for active, _ in reports}
    by_job: defaultdict[int, list[batches_sql.Accepted]] = defaultdict(list)
    for active, report in reports:
        assert report.batch is not None, "a report of datums names its batch result"
        states = [each.state for each in report.datums]
        by_job[active.row.id].append(
            batches_sql.Accepted(
                result=report.batch.hex(),
                run=states.count(DatumState.SUCCESS),
                recovered=states.count(DatumState.RECOVERED),
                failed=states.count(DatumState.FAILED),
                stored_bytes=sum(pack.bytes for pack in report.packs),
                # What is computed early lies before the job's start, and its times are those of the job from there.
                spent=batches_sql.NOTHING_SPENT if active.early else report.spent,
            )
        )
    with home.catalog.write() as tx:
        chunk_index.register(tx, [pack for _, report in reports for pack in report.packs])
        for id, accepted in by_job.items():
            if not jobs_sql.exists(tx, id):
                continue  # deleted with its pipeline meanwhile
            batches_sql.record(tx, id, accepted)
            if not jobs[id].early:
                jobs_sql.update(tx, id, counts=jobs[id].counts)


def record_lost(home: Home, active: ActiveJob, position: int, reason: str) -> None:
    """Fail a datum that no worker could report."""
    outcome = DatumOutcome(
        id=DatumId(active.plan.ids[position].hex()),
        key=DatumKey(active.plan.keys[position]),
        state=DatumState.FAILED,
        exit_code=None,
        reason=reason,
        error_code="",
        tries=1,
        seconds=0.0,
        files=(),
        log=b"",
    )
    job = CommitId(active.row.set_id)
    report = ReportWriter(home.objects, {}, chunking=home.chunking)
    report.add(outcome)
    batch, packs = report.finish(job, active.transform_task.id)
    active.record(position, DatumState.FAILED, batch=batch, ordinal=0, job=bytes.fromhex(job), reason=reason)
    with home.catalog.write() as tx:
        if not jobs_sql.exists(tx, active.row.id):
            return  # deleted with its pipeline meanwhile
        chunk_index.register(tx, packs)
        lost = batches_sql.Accepted(batch.hex(), run=0, recovered=0, failed=1, stored_bytes=0)
        batches_sql.record(tx, active.row.id, [lost])
        if not active.early:
            jobs_sql.update(tx, active.row.id, counts=active.counts)


# ---- the end -----------------------------------------------------------------------------------------------


def finish(home: Home, active: ActiveJob, *, now: Callable[[], float]) -> None:
    """End a job all of whose datums have ended: merge its outputs, or fail it with the reason. Keeps every success."""
    with active.pin:
        _finish(home, active, now=now)


def _finish(home: Home, active: ActiveJob, *, now: Callable[[], float]) -> None:
    begin = now()
    with home.catalog.write() as tx:
        if not _unfinished(tx, active.row):
            return
        jobs_sql.update(tx, active.row.id, state=JobState.FINISHING)
    release_freed(len(active.plan), home.tables)
    with home.chunks.writer() as writer:
        datums = _write_datums(home, active.plan, writer)
        run = result_cache.write_run(home, writer, active.successes())
        active.plan.forget_contents()
        release_freed(len(active.plan), home.tables)
        tree, reason = _output_tree(home, active, writer)
        audit = audit_report(active.plan, active.audit, BatchResults(home))
        writer.flush()
    files, size = home.trees.totals(tree) if tree is not None else (0, 0)
    with home.catalog.write() as tx:
        if not _unfinished(tx, active.row):
            return
        if tree is not None:
            finish_output(tx, active.row.commit_id, tree=tree.hex(), files=files, size_bytes=size, now=now())
        else:
            fail_output(tx, active.row.commit_id, error=reason, now=now())
        jobs_sql.update(
            tx,
            active.row.id,
            state=JobState.SUCCESS if tree is not None else JobState.FAILURE,
            reason=reason,
            datums_root=datums.hex(),
            failed_datums=_failed_ids(active),
            counts=active.counts,
            found=active.plan.found,
            carried=active.plan.carried,
            audit=audit,
            finished=(finished := now()),
            times=job_times.of_end(active, batches_sql.spent(tx, active.row.id), merge_seconds=finished - begin),
        )
        stored = batches_sql.stored_bytes(tx, active.row.id)
        batches_sql.delete_of_job(tx, active.row.id)
        if run is not None:
            result_cache.record_run(tx, active.transform, run, job_id=active.row.id, stored_bytes=stored, now=now())
    if run is not None:
        result_cache.compact(home, active.transform, now=now())
        cache_limits.enforce(home, now=now())


def _output_tree(home: Home, active: ActiveJob, writer: ChunkWriter) -> tuple[Digest | None, str]:
    """The output tree, or None and why there is none."""
    if active.failures:
        return None, active.failure_reason()
    try:
        return merge_outputs(home, active.plan, BatchResults(home), writer), ""
    except (UserCodeFailed, Corrupt) as error:
        return None, str(error)


def fail(home: Home, row: JobRow, reason: str, *, now: float) -> None:
    """End a job that can't go on, as failed; jobs downstream become unrunnable."""
    _end(home, row, JobState.FAILURE, reason, now=now)


def refuse(home: Home, row: JobRow, reason: str, *, now: float) -> None:
    """End a job that can't run here at all; jobs downstream become unrunnable too."""
    _end(home, row, JobState.UNRUNNABLE, reason, now=now)


def kill(home: Home, row: JobRow, reason: str, *, now: float) -> None:
    """End a job before its time; jobs downstream become unrunnable. What was reported is kept (see `salvage`)."""
    _end(home, row, JobState.KILLED, reason, now=now)


def _end(home: Home, row: JobRow, state: JobState, reason: str, *, now: float) -> None:
    with home.catalog.write() as tx:
        if _unfinished(tx, row):
            end(tx, row, state, reason, now=now)


def end(tx: Transaction, row: JobRow, state: JobState, reason: str, *, now: float) -> None:
    """Put a job that is unfinished into a final state without a result, within the caller's transaction."""
    jobs_sql.update(tx, row.id, state=state, reason=reason, finished=now)
    fail_output(tx, row.commit_id, error=reason, now=now)


def salvage(home: Home, job_id: int, *, now: float) -> None:
    """Put the reported successes of a job that ended without finishing into the cache."""
    with home.pin():
        _salvage(home, job_id, now=now)


def _salvage(home: Home, job_id: int, *, now: float) -> None:
    with home.catalog.read() as tx:
        reported = batches_sql.of_job(tx, job_id)
        if not reported:
            return
        row = jobs_sql.get(tx, job_id)
        version = pipelines_sql.version(tx, row.pipeline_id, row.version)
    assert version is not None, f"job {row} has a pipeline version"
    transform, job = _digest(version.transform), bytes.fromhex(row.set_id)
    successes = pa.concat_tables([_successes(home, _digest(batch.result), job) for batch in reported]).combine_chunks()
    with home.chunks.writer() as writer:
        run = result_cache.write_run(home, writer, successes)
        writer.flush()
    with home.catalog.write() as tx:
        if not batches_sql.of_job(tx, job_id):
            return  # deleted with its pipeline meanwhile
        stored = batches_sql.stored_bytes(tx, job_id)
        jobs_sql.update(tx, job_id, times=job_times.of_stopped(row, batches_sql.spent(tx, job_id)))
        batches_sql.delete_of_job(tx, job_id)
        if run is not None:
            result_cache.record_run(tx, transform, run, job_id=job_id, stored_bytes=stored, now=now)


def _successes(home: Home, batch: Digest, job: bytes) -> pa.Table:
    """The successes of a batch as rows of the cache's tables."""
    results = read_batch_result(home.chunks, batch).results
    good = results.filter(pc.equal(results.column("state"), STATES.index(DatumState.SUCCESS)))
    return pa.table(
        {
            "key": good.column("key"),
            "batch": pa.array([batch] * len(good), pa.binary(32)),
            "ordinal": good.column("ordinal"),
            "job": pa.array([job] * len(good), pa.binary(16)),
        }
    )


def salvage_ended(home: Home, *, now: float) -> None:
    """Salvage all jobs that ended while no scheduler was at work."""
    with home.catalog.read() as tx:
        ended = batches_sql.jobs_ended(tx)
    for job_id in ended:
        salvage(home, job_id, now=now)


def _unfinished(tx: Transaction, row: JobRow) -> bool:
    return jobs_sql.exists(tx, row.id) and not JobState(jobs_sql.get(tx, row.id).state).final


def _failed_ids(active: ActiveJob) -> str:
    ids = [active.plan.ids[position].hex() for position, _ in active.failures.first()]
    return json.dumps(ids) if ids else ""


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text))
