"""What a job would do if the spec were applied now, and why; what it may take. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paddock.catalog import branches as branches_sql
from paddock.catalog import commits as commits_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.catalog.pipelines import PipelineVersionRow
from paddock.model.addresses import RepoAddress
from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId, DatumId, Digest
from paddock.model.plans import Estimate, JobPlan, PlannedAction, PlannedDatum
from paddock.model.records import ApplyOutcome, CommitState, JobState
from paddock.pipelines.inputs import Leaf, leaves_of
from paddock.pipelines.keys import transform_digest
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import spec_to_json
from paddock.runtime.batch_results import read_batch_result
from paddock.runtime.carrying import Carried, carried_transforms
from paddock.runtime.datum_inputs import DatumInputs
from paddock.runtime.job_facts import base_of, digest_of, input_commit, spec_of, version_of
from paddock.runtime.job_tables import DATUMS, NO_BATCH
from paddock.runtime.plan import CARRIED, FOUND, RUN, InputCommit, Plan
from paddock.runtime.plan_reasons import CodeFiles, Reasons, Side, code_files, transform_changes
from paddock.runtime.plan_request import Base, Place, place_of
from paddock.runtime.planner import plan_job
from paddock.runtime.result_cache import ResultFinder
from paddock.storage.ingest import add_tree
from paddock.versions.home import Home
from paddock.versions.resolve import require_repo

BATCHES_LOOKED_AT = 8
"""Batch results of the base that the mean time of a datum is taken from."""
WORKERS_SHOWN_MAX = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """A spec to plan. code: its local folder or file. reprocess: no kept result counts. limit: datums to show.

    keep_results: those of the present version count, whatever its transform.
    """

    spec: PipelineSpec
    code: Path | None
    reprocess: bool
    keep_results: bool
    limit: int
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the catalog knows of the pipeline now. version: its present one; base_version: that of the last good job."""

    inputs: Mapping[Place, InputCommit]
    version: PipelineVersionRow | None
    job: JobRow | None
    base: Base | None
    base_version: PipelineVersionRow | None
    warnings: Sequence[str]


def plan_spec(home: Home, wanted: Wanted) -> JobPlan:
    """See `Pipelines.plan`. NotFound: an input repo is missing."""
    spec = wanted.spec
    with home.catalog.read() as tx:
        known = _known(tx, home, spec)
    code, code_root = _code(home, wanted.code)
    transform = transform_digest(spec, code_root)
    reuse = not wanted.reprocess and spec.reprocess_spec != "every_job"
    with home.catalog.read() as tx:
        carries = _carries(tx, spec, transform, wanted.keep_results)
    plan = plan_job(
        home,
        spec,
        transform=transform,
        inputs=known.inputs,
        base=known.base,
        found=ResultFinder(home, transform),
        reuse=reuse,
        carries=[Carried(each, ResultFinder(home, each)) for each in carries],
    )
    changes = _changes(home, known, spec, code)
    asked = "" if reuse else "every datum is to run (reprocess_spec is every_job, or --reprocess)"
    reasons = Reasons(home.trees, _side(plan.leaves, known.inputs), _old_side(known), changes, asked)
    shown = _Shown(home, plan, known.base, reasons, changes).datums(wanted.limit)
    run = int(np.count_nonzero(plan.actions == RUN))
    seconds = _seconds_per_datum(home, known.base)
    dropped = _dropped(home, plan, known.base)
    listed = run + plan.found + dropped
    return JobPlan(
        pipeline=spec.address,
        outcome=_outcome(known, spec, transform, wanted.reprocess),
        base=None if known.job is None else CommitId(known.job.set_id),
        total=plan.total,
        run=run,
        reuse=plan.total - run,
        drop=dropped,
        carried=plan.carried,
        changes=changes,
        datums=tuple(shown),
        truncated=listed - len(shown),
        seconds_per_datum=seconds,
        estimates=_estimates(run, seconds, spec.parallelism_spec.constant),
        warnings=(*wanted.warnings, *known.warnings),
    )


# ---- what there is -----------------------------------------------------------------------------------------


def _known(tx: Transaction, home: Home, spec: PipelineSpec) -> _Known:
    warnings: list[str] = []
    inputs = {place_of(leaf): _head(tx, home, leaf, warnings) for leaf in leaves_of(spec)}
    row = pipelines_sql.find(tx, spec.pipeline.project, spec.pipeline.name)
    if row is None:
        return _Known(inputs, None, None, None, None, warnings)
    job = jobs_sql.last_with_state(tx, row.id, (JobState.SUCCESS,))
    warnings += [
        f"job {each} is unfinished; what it will have computed is not counted here"
        for each in jobs_sql.unfinished(tx, pipeline_id=row.id)
    ]
    return _Known(
        inputs=inputs,
        version=version_of(tx, row.id, row.version),
        job=job,
        base=None if job is None else base_of(tx, home, job),
        base_version=None if job is None else version_of(tx, row.id, job.version),
        warnings=warnings,
    )


def _carries(tx: Transaction, spec: PipelineSpec, transform: Digest, keep_results: bool) -> list[Digest]:
    row = pipelines_sql.find(tx, spec.pipeline.project, spec.pipeline.name)
    found = "" if row is None else carried_transforms(tx, row, transform.hex(), keep_results)
    return [digest_of(each) for each in found.split()]


def _head(tx: Transaction, home: Home, leaf: Leaf, warnings: list[str]) -> InputCommit:
    repo = require_repo(tx, RepoAddress(leaf.project, leaf.repo))
    branch = branches_sql.find(tx, repo.id, leaf.branch)
    if branch is None or branch.head_id is None:
        warnings.append(f"{leaf.address} has no finished commit yet; it counts as empty")
        return input_commit(tx, home, None)
    if branch.tip_id is not None and commits_sql.get(tx, branch.tip_id).state == CommitState.OPEN:
        warnings.append(f"a job is still to write {leaf.address}; the plan is for its present head")
    return input_commit(tx, home, branch.head_id)


def _code(home: Home, code: Path | None) -> tuple[CodeFiles, Digest | None]:
    """The code's files and its tree's root. The writer is left without a flush, so nothing of it is stored."""
    if code is None:
        return {}, None
    with home.chunks.writer() as writer:
        ingested = add_tree(home.chunks, writer, code, "/" if code.is_dir() else f"/{code.name}", cache_dir=home.cache)
        root = home.trees.merge(home.trees.empty(), ingested.table, [], [], writer)
    return code_files([ingested.table]), root


def _changes(home: Home, known: _Known, spec: PipelineSpec, code: CodeFiles) -> tuple[str, ...]:
    if known.base_version is None:
        return ()
    return transform_changes(spec_of(known.base_version), spec, version_code(home, known.base_version), code)


def version_code(home: Home, version: PipelineVersionRow) -> CodeFiles:
    """The code files of a version of a pipeline."""
    return code_files(home.trees.rows(digest_of(version.code))) if version.code else {}


def _side(leaves: Sequence[Leaf], inputs: Mapping[Place, InputCommit]) -> Side:
    return Side(leaves, {place: commit.tree for place, commit in inputs.items()})


def _old_side(known: _Known) -> Side | None:
    if known.base is None or known.base_version is None:
        return None
    return Side(leaves_of(spec_of(known.base_version)), known.base.inputs)


def _outcome(known: _Known, spec: PipelineSpec, transform: Digest, reprocess: bool) -> ApplyOutcome:
    if known.version is None:
        return ApplyOutcome.CREATED
    same = known.version.spec == json.dumps(spec_to_json(spec), sort_keys=True)
    same = same and digest_of(known.version.transform) == transform
    return ApplyOutcome.UNCHANGED if same and not reprocess else ApplyOutcome.UPDATED


def _dropped(home: Home, plan: Plan, base: Base | None) -> int:
    """How many datums of the base the job does not have. A plan from nothing does not say."""
    if base is None or plan.kept or plan.base_datums == base.datums:
        return len(plan.dropped)
    names = home.tables.lookup(DATUMS, base.datums, plan.names(np.arange(len(plan))))
    stay: int = names.num_rows
    return home.tables.root(DATUMS, base.datums).rows - stay


# ---- which datums, and why ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    home: Home
    plan: Plan
    base: Base | None
    reasons: Reasons
    changes: Sequence[str]

    def datums(self, limit: int) -> list[PlannedDatum]:
        """Those to run, then those to drop, then those found in the cache; at most `limit`."""
        plan = self.plan
        run, found = np.flatnonzero(plan.actions == RUN)[:limit], np.flatnonzero(plan.actions >= FOUND)[:limit]
        before = self._before(run)
        shown = [self._run(position, before) for position in run.tolist()]
        shown += [self._drop(row) for row in self._gone(limit)]
        shown += [self._found(position) for position in found.tolist()]
        return shown[:limit]

    def _before(self, positions: np.ndarray[Any, Any]) -> dict[str, dict[str, Any]]:
        """The base's rows of these datums, by name."""
        if self.base is None:
            return {}
        names = self.plan.names(positions)
        rows = self.home.tables.lookup(DATUMS, self.base.datums, names).to_pylist()
        return {row["name"]: row for row in rows}

    def _gone(self, limit: int) -> list[dict[str, Any]]:
        base = self.base
        if base is None:
            return []
        tables = self.home.tables
        if self.plan.base_datums == base.datums:
            names = pa.array(self.plan.dropped[:limit], pa.string())
            return list(tables.lookup(DATUMS, base.datums, names).to_pylist())
        planned = set(self.plan.names(np.arange(len(self.plan))).to_pylist())
        rows = chain.from_iterable(table.to_pylist() for table in tables.scan(DATUMS, base.datums))
        return [row for row, _ in zip((row for row in rows if row["name"] not in planned), range(limit), strict=False)]

    def _run(self, position: int, before: Mapping[str, dict[str, Any]]) -> PlannedDatum:
        row = self._row(position)
        reasons = self.reasons.to_run(row, before.get(self.plan.names(np.array([position]))[0].as_py()))
        return self._planned(self.plan.ids[position], PlannedAction.RUN, self.reasons.new, row, reasons)

    def _drop(self, row: Mapping[str, Any]) -> PlannedDatum:
        assert self.reasons.old is not None, "a datum to drop is in the base"
        return self._planned(row["id"], PlannedAction.DROP, self.reasons.old, row, self.reasons.to_drop(row))

    def _found(self, position: int) -> PlannedDatum:
        result = self.plan.results.get(position)
        assert result is not None, "a datum that was found has a result"
        reason = f"job {result[2].hex()} computed it for equal files and an equal transform"
        if self.plan.actions[position] == CARRIED:
            changed = ", ".join(self.changes) or "the transform changed"
            reason = f"job {result[2].hex()} computed it for equal files; its result is kept though {changed}"
        row = self._row(position)
        return self._planned(self.plan.ids[position], PlannedAction.REUSE, self.reasons.new, row, (reason,))

    def _row(self, position: int) -> dict[str, Any]:
        matches = self.plan.matches
        files = self.plan.files_of(position)
        return {
            "leaves": [leaf for leaf, _ in files],
            "paths": [matches[leaf].paths[match] for leaf, match in files],
            "digests": [matches[leaf].digests[match] for leaf, match in files],
            "sizes": [int(matches[leaf].sizes[match]) for leaf, match in files],
        }

    def _planned(
        self, id: bytes, action: PlannedAction, side: Side, row: Mapping[str, Any], reasons: Sequence[str]
    ) -> PlannedDatum:
        (inputs,) = DatumInputs(self.home, side.leaves, side.trees).of([row])
        return PlannedDatum(DatumId(id.hex()), action, inputs, tuple(reasons))


# ---- how long ----------------------------------------------------------------------------------------------


def _seconds_per_datum(home: Home, base: Base | None) -> float | None:
    if base is None:
        return None
    batches: dict[bytes, None] = {}
    for rows in home.tables.scan(DATUMS, base.datums):
        batches |= dict.fromkeys(rows.column("batch").unique().to_pylist())
        batches.pop(NO_BATCH, None)
        if len(batches) >= BATCHES_LOOKED_AT:
            break
    measured = [
        read_batch_result(home.chunks, Digest(batch)).results.column("seconds").to_numpy()
        for batch in list(batches)[:BATCHES_LOOKED_AT]
    ]
    seconds = np.concatenate([np.zeros(0), *measured])
    return float(seconds.mean()) if len(seconds) else None


def _estimates(run: int, seconds: float | None, workers_max: int | None) -> tuple[Estimate, ...]:
    """For 1, 2, 4, … workers, as long as more of them help."""
    if seconds is None or not run:
        return ()
    limit = min(WORKERS_SHOWN_MAX, run, workers_max or run)
    counts = [1]
    while counts[-1] * 2 <= limit:
        counts.append(counts[-1] * 2)
    hours = run * seconds / 3600
    return tuple(Estimate(workers, -(-run // workers) * seconds, hours) for workers in counts)
