"""Pipelines without a runtime: rows as an apply would write them, for tests of what follows from a commit."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import branches, jobs, pipelines
from paddock.catalog.jobs import JobRow
from paddock.catalog.pipelines import PipelineRow
from paddock.model.records import DEFAULT_BRANCH, DEFAULT_PROJECT, JobState, PipelineState
from paddock.versions.branches import output_repo, require_or_make_branch
from paddock.versions.guards import refuse_cycle
from paddock.versions.home import Home
from paddock.versions.outputs import fail_output, finish_output


def add_pipeline(home: Home, name: str, inputs: Sequence[str], *, branch: str = DEFAULT_BRANCH) -> PipelineRow:
    """A running pipeline at version 1 that reads `repo@branch` inputs; no job is made."""
    with home.catalog.write() as tx:
        now = home.now()
        repo = output_repo(tx, DEFAULT_PROJECT, name, now)
        output = require_or_make_branch(tx, f"{repo}@{branch}", now)
        upstream = [require_or_make_branch(tx, text, now) for text in inputs]
        refuse_cycle(tx, output, upstream)
        branches.set_provenance(tx, output.id, [row.id for row in upstream])
        pipeline_id = pipelines.insert(
            tx,
            project_id=repo.project_id,
            name=name,
            repo_id=repo.id,
            branch_id=output.id,
            state=PipelineState.RUNNING,
            created=now,
        )
        pipelines.add_version(tx, pipeline_id, spec="{}", transform="00" * 32, code="", created=now)
        return pipelines.get(tx, pipeline_id)


def waiting_jobs(home: Home) -> list[JobRow]:
    """Jobs in no final state, oldest first."""
    with home.catalog.read() as tx:
        return jobs.unfinished(tx)


def succeed(home: Home, job: JobRow, *, tree: str | None = None) -> None:
    """End a job well, with an empty tree unless another is given."""
    with home.catalog.write() as tx:
        jobs.update(tx, job.id, state=JobState.SUCCESS, finished=home.now())
        root = home.trees.empty().hex() if tree is None else tree
        finish_output(tx, job.commit_id, tree=root, files=0, size_bytes=0, now=home.now())


def fail(home: Home, job: JobRow, reason: str = "datum d1 failed") -> tuple[JobRow, ...]:
    """End a job badly; the jobs that became unrunnable with it."""
    with home.catalog.write() as tx:
        jobs.update(tx, job.id, state=JobState.FAILURE, reason=reason, finished=home.now())
        return fail_output(tx, job.commit_id, error=reason, now=home.now())
