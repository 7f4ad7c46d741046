"""Pipelines: create, update, stop, start, run again, delete. Implements `model.services.Pipelines`."""

from __future__ import annotations

import builtins
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddock.catalog import branches as branches_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog import pools as pools_sql
from paddock.catalog import repos as repos_sql
from paddock.catalog.branches import BranchRow
from paddock.catalog.database import Transaction
from paddock.catalog.pipelines import PipelineRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.ids import CommitId, Digest, new_id
from paddock.model.plans import JobPlan
from paddock.model.records import (
    DEFAULT_ENGINE,
    AppliedPipeline,
    ApplyOutcome,
    EngineName,
    Job,
    JobState,
    Pipeline,
    PipelineState,
    RepoKind,
)
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.keys import transform_digest
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import ValidSpec, spec_to_json, validate_spec
from paddock.pipelines.worker_pools import engine_of
from paddock.runtime import job_steps
from paddock.runtime.cache_service import check_share, reuse_counts
from paddock.runtime.carrying import carried_transforms
from paddock.runtime.engines.kubernetes.pods import check_pod
from paddock.runtime.job_records import find_pipeline
from paddock.runtime.plan_preview import Wanted, plan_spec
from paddock.storage.ingest import add_tree
from paddock.versions.branches import output_repo, require_or_make_branch
from paddock.versions.guards import refuse_cycle, refuse_if_read
from paddock.versions.home import Home
from paddock.versions.propagate import propagate
from paddock.versions.records import job_record, time_of
from paddock.versions.resolve import require_project


@dataclass(frozen=True, slots=True)
class _Version:
    """What a version of a pipeline consists of, as the catalog keeps it."""

    spec: str
    transform: str
    code: str


class PipelineService:
    def __init__(self, home: Home, *, engine: EngineName = DEFAULT_ENGINE) -> None:
        """engine: of pipelines that name none."""
        self._home = home
        self._engine = engine

    def apply(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        hold: bool = False,
        keep_results: bool = False,
        audit: float | None = None,
    ) -> AppliedPipeline:
        """Unchanged where spec and code are as they were (and neither `reprocess` nor `audit` is asked for): nothing happens
        then, and warnings are not said again.

        An update kills unfinished jobs of the pipeline, and makes a job of the new version on the present heads.
        """
        checked, warnings = self._validate(spec)
        _require_code(checked, code)
        _check_wishes(reprocess, keep_results, audit)
        pin = self._home.pin()
        version = self._version(checked, code)
        with pin, self._home.catalog.write() as tx:
            now = self._home.now()
            row = pipelines_sql.find(tx, checked.pipeline.project, checked.pipeline.name)
            carries = "" if row is None else carried_transforms(tx, row, version.transform, keep_results)
            inputs = _input_branches(tx, checked, now)
            if row is None:
                outcome = ApplyOutcome.CREATED
                row = _create(tx, checked, inputs, now)
            elif _current(tx, row) == version and not reprocess and audit is None:
                return AppliedPipeline(_record(tx, row), ApplyOutcome.UNCHANGED, (), None)
            else:
                outcome = ApplyOutcome.UPDATED
                _update(tx, row, checked, inputs, now)
            pipelines_sql.add_version(
                tx,
                row.id,
                spec=version.spec,
                transform=version.transform,
                code=version.code,
                created=now,
                carries=carries,
                first_no_cache=reprocess,
                first_audit_share=audit,
            )
            set_id = None if hold else self._run(tx, row.id, now=now)
            return AppliedPipeline(_record(tx, pipelines_sql.get(tx, row.id)), outcome, tuple(warnings), set_id)

    def plan(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        limit: int = 100,
        keep_results: bool = False,
    ) -> JobPlan:
        checked, warnings = self._validate(spec)
        _require_code(checked, code)
        _check_wishes(reprocess, keep_results, None)
        return plan_spec(self._home, Wanted(checked, code, reprocess, keep_results, limit, tuple(warnings)))

    def list(self, *, project: str | None = None) -> builtins.list[Pipeline]:
        with self._home.catalog.read() as tx:
            if project is not None:
                require_project(tx, project)
            reasons = pools_sql.reasons(tx)
            return [_record(tx, row, reasons=reasons) for row in pipelines_sql.get_all(tx, project=project)]

    def inspect(self, pipeline: str, *, version: int | None = None) -> Pipeline:
        with self._home.catalog.read() as tx:
            row = find_pipeline(tx, pipeline)
            if version is not None and pipelines_sql.version(tx, row.id, version) is None:
                raise NotFound(f"pipeline {row} has no version {version}; its versions are 1 to {row.version}")
            return dataclasses.replace(_record(tx, row, version=version), reuse=reuse_counts(tx, row.id))

    def delete(self, pipeline: str, *, keep_repo: bool = False) -> None:
        """Kills its unfinished jobs. Conflict while something reads its output. With `keep_repo` the output stays readable."""
        with self._home.catalog.write() as tx:
            row = find_pipeline(tx, pipeline)
            repo = repos_sql.get(tx, row.repo_id)
            refuse_if_read(tx, repo)
            _kill_unfinished(tx, row, "its pipeline was deleted", self._home.now())
            branches_sql.set_provenance(tx, row.branch_id, [])
            pipelines_sql.delete(tx, row.id)
            if keep_repo:
                repos_sql.set_kind(tx, repo.id, RepoKind.USER)
            else:
                repos_sql.delete(tx, repo.id)

    def start(self, pipeline: str) -> Pipeline:
        """One job on the present heads makes up for all commits since the stop. A running pipeline stays as it is."""
        with self._home.catalog.write() as tx:
            row = find_pipeline(tx, pipeline)
            if row.state == PipelineState.STOPPED:
                now = self._home.now()
                pipelines_sql.set_state(tx, row.id, PipelineState.RUNNING, updated=now)
                self._run(tx, row.id, now=now)
            return _record(tx, pipelines_sql.get(tx, row.id))

    def stop(self, pipeline: str) -> Pipeline:
        with self._home.catalog.write() as tx:
            row = find_pipeline(tx, pipeline)
            now = self._home.now()
            pipelines_sql.set_state(tx, row.id, PipelineState.STOPPED, updated=now)
            _kill_unfinished(tx, row, "its pipeline was stopped", now)
            return _record(tx, pipelines_sql.get(tx, row.id))

    def rerun(self, pipeline: str, *, reprocess: bool = False, audit: float | None = None) -> Job:
        _check_wishes(reprocess, False, audit)
        with self._home.catalog.write() as tx:
            row = find_pipeline(tx, pipeline)
            if row.state == PipelineState.STOPPED:
                raise Conflict(f"pipeline {row} is stopped; start it with `paddock pipeline start {row}`")
            set_id = self._run(tx, row.id, now=self._home.now(), no_cache=reprocess, audit=audit)
            if set_id is None:
                raise Conflict(f"no input of pipeline {row} has a commit yet; put files into one first")
            job = jobs_sql.find(tx, row.id, set_id)
            assert job is not None, f"set {set_id} has a job of pipeline {row}"
            return job_record(job, now=self._home.now())

    def _validate(self, spec: Mapping[str, Any]) -> ValidSpec:
        valid = validate_spec(spec, default_engine=self._engine)
        if engine_of(valid.spec, self._engine) == "kubernetes":
            check_pod(valid.spec)
        return valid

    def _version(self, spec: PipelineSpec, code: Path | None) -> _Version:
        root: Digest | None = None
        if code is not None:
            with self._home.chunks.writer() as writer:
                ingested = add_tree(
                    self._home.chunks,
                    writer,
                    code,
                    "/" if code.is_dir() else f"/{code.name}",
                    cache_dir=self._home.cache,
                )
                trees = self._home.trees
                root = trees.merge(trees.empty(), ingested.table, [], [], writer)
                writer.flush()
        text = json.dumps(spec_to_json(spec), sort_keys=True)
        return _Version(text, transform_digest(spec, root).hex(), root.hex() if root is not None else "")

    def _run(
        self, tx: Transaction, pipeline_id: int, *, now: float, no_cache: bool = False, audit: float | None = None
    ) -> CommitId | None:
        """Make a commit set with a job of the pipeline on its inputs' heads; None where no input has a commit, or it is stopped."""
        row = pipelines_sql.get(tx, pipeline_id)
        inputs = branches_sql.provenance(tx, row.branch_id)
        if row.state == PipelineState.STOPPED or all(branch.tip_id is None for branch in inputs):
            return None
        set_id = CommitId(new_id())
        propagate(tx, [], set_id=set_id, now=now, pipeline_ids=[pipeline_id], no_cache=no_cache, audit_share=audit)
        return set_id


def _require_code(spec: PipelineSpec, code: Path | None) -> None:
    if spec.transform.code is not None and code is None:
        raise InvalidInput(
            f"pipeline {spec.address} names transform.code {spec.transform.code!r}, but its files were not given"
        )


def _check_wishes(reprocess: bool, keep_results: bool, audit: float | None) -> None:
    if reprocess and keep_results:
        raise InvalidInput("to keep results and to compute all anew exclude one another; ask for one of them")
    if reprocess and audit:
        raise InvalidInput("where every datum is computed anew nothing is left to audit; ask for one of them")
    if audit is not None:
        check_share(audit)


def _input_branches(tx: Transaction, spec: PipelineSpec, now: float) -> builtins.list[BranchRow]:
    require_project(tx, spec.pipeline.project)
    wanted = {f"{leaf.project}/{leaf.repo}@{leaf.branch}": None for leaf in leaves_of(spec)}
    return [require_or_make_branch(tx, text, now) for text in wanted]


def _create(tx: Transaction, spec: PipelineSpec, inputs: Sequence[BranchRow], now: float) -> PipelineRow:
    repo = output_repo(tx, spec.pipeline.project, spec.pipeline.name, now)
    branch = _output_branch(tx, repo.id, spec.output_branch, now)
    refuse_cycle(tx, branch, inputs)
    branches_sql.set_provenance(tx, branch.id, [row.id for row in inputs])
    project = require_project(tx, spec.pipeline.project)
    id = pipelines_sql.insert(
        tx,
        project_id=project.id,
        name=spec.pipeline.name,
        repo_id=repo.id,
        branch_id=branch.id,
        state=PipelineState.RUNNING,
        created=now,
    )
    return pipelines_sql.get(tx, id)


def _update(tx: Transaction, row: PipelineRow, spec: PipelineSpec, inputs: Sequence[BranchRow], now: float) -> None:
    branch = _output_branch(tx, row.repo_id, spec.output_branch, now)
    refuse_cycle(tx, branch, inputs)
    _kill_unfinished(tx, row, "its pipeline was updated", now)
    if branch.id != row.branch_id:
        branches_sql.set_provenance(tx, row.branch_id, [])
        pipelines_sql.set_branch(tx, row.id, branch.id)
    branches_sql.set_provenance(tx, branch.id, [each.id for each in inputs])


def _output_branch(tx: Transaction, repo_id: int, name: str, now: float) -> BranchRow:
    found = branches_sql.find(tx, repo_id, name)
    return found or branches_sql.get(tx, branches_sql.insert(tx, repo_id, name, now))


def _kill_unfinished(tx: Transaction, row: PipelineRow, reason: str, now: float) -> None:
    for job in jobs_sql.unfinished(tx, pipeline_id=row.id):
        job_steps.end(tx, job, JobState.KILLED, f"killed because {reason}", now=now)


def _current(tx: Transaction, row: PipelineRow) -> _Version:
    version = pipelines_sql.version(tx, row.id, row.version)
    assert version is not None, f"pipeline {row} has its version {row.version}"
    return _Version(version.spec, version.transform, version.code)


def _record(
    tx: Transaction, row: PipelineRow, *, version: int | None = None, reasons: Mapping[str, str] | None = None
) -> Pipeline:
    """reasons: of all pipelines, where they are known."""
    number = row.version if version is None else version
    found = pipelines_sql.version(tx, row.id, number)
    assert found is not None, f"pipeline {row} has version {number}"
    spec = json.loads(found.spec)
    newest = jobs_sql.newest_first(tx, pipeline_id=row.id, limit=1)
    reasons = pools_sql.reasons(tx) if reasons is None else reasons
    return Pipeline(
        project=row.project,
        name=row.name,
        version=number,
        state=PipelineState(row.state),
        description=spec.get("description", ""),
        spec=spec,
        created=time_of(row.created),
        updated=time_of(row.updated),
        last_job=CommitId(newest[0].set_id) if newest else None,
        last_job_state=JobState(newest[0].state) if newest else None,
        reason=reasons.get(str(row), ""),
        reuse=None,
    )
