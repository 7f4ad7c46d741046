"""What the catalog knows that a plan is made from: a job's spec, its input commits, and the base to compare with."""

from __future__ import annotations

import json

from paddock.catalog import batches as batches_sql
from paddock.catalog import commits as commits_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog import results as results_sql
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.catalog.pipelines import PipelineVersionRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import NotFound
from paddock.model.ids import Digest
from paddock.model.records import CommitOrigin, JobState
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.plan import InputCommit
from paddock.runtime.plan_request import Base, Place
from paddock.versions.home import Home


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the catalog knows of a job when it starts. base: the last good job before it, and its id.

    carries: transforms of earlier versions whose results count too. audit_share: of the reused datums, how many to compute again.
    """

    spec: PipelineSpec
    transform: Digest
    code: Digest | None
    inputs: dict[Place, InputCommit]
    base: Base | None
    base_id: int | None
    reported: list[batches_sql.BatchRow]
    carries: tuple[Digest, ...]
    audit_share: float


def job_facts(home: Home, row: JobRow) -> JobFacts:
    """NotFound: the job was deleted with its pipeline since `row` was read."""
    with home.catalog.read() as tx:
        if not jobs_sql.exists(tx, row.id):
            raise NotFound("the job was deleted with its pipeline")
        version = version_of(tx, row.pipeline_id, row.version)
        base = jobs_sql.last_with_state(tx, row.pipeline_id, (JobState.SUCCESS,), before_id=row.id)
        return JobFacts(
            spec=spec_of(version),
            transform=digest_of(version.transform),
            code=digest_of(version.code) if version.code else None,
            inputs=input_commits(tx, home, row.commit_id),
            base=None if base is None else base_of(tx, home, base),
            base_id=None if base is None else base.id,
            reported=batches_sql.of_job(tx, row.id),
            carries=tuple(map(digest_of, version.carries.split())),
            audit_share=results_sql.policy(tx).audit_share if row.audit_share is None else row.audit_share,
        )


def base_of(tx: Transaction, home: Home, job: JobRow) -> Base:
    """A good job as the base of a plan."""
    version = version_of(tx, job.pipeline_id, job.version)
    inputs = input_commits(tx, home, job.commit_id)
    return Base(
        datums=digest_of(job.datums_root),
        tree=digest_of(commits_sql.get(tx, job.commit_id).tree),
        input=spec_of(version).input,
        transform=digest_of(version.transform),
        inputs={place: commit.tree for place, commit in inputs.items()},
        settled=job.counts.recovered == 0 and job.counts.failed == 0,
    )


def input_commits(tx: Transaction, home: Home, commit_id: int) -> dict[Place, InputCommit]:
    """The commit of each place that an output commit was computed from."""
    return {
        (each.project, each.repo, each.branch): input_commit(tx, home, each.upstream_id)
        for each in commits_sql.provenance(tx, [commit_id])
    }


def input_commit(tx: Transaction, home: Home, commit_id: int | None) -> InputCommit:
    if commit_id is None:
        return InputCommit("", home.trees.empty())
    row = commits_sql.get(tx, commit_id)
    return InputCommit(row.set_id, digest_of(row.tree), computed=row.origin == CommitOrigin.AUTO)


def version_of(tx: Transaction, pipeline_id: int, number: int) -> PipelineVersionRow:
    version = pipelines_sql.version(tx, pipeline_id, number)
    assert version is not None, f"pipeline {pipeline_id} has version {number}"
    return version


def spec_of(version: PipelineVersionRow) -> PipelineSpec:
    return PipelineSpec.model_validate(json.loads(version.spec))


def digest_of(text: str) -> Digest:
    return Digest(bytes.fromhex(text))
