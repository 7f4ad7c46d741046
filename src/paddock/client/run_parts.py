"""What `map` and `run` share, for any `Paddock`: their report, and the steps before and after the work.

Imports no specs, so that `map` can have workers started before anything heavy is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock.client.archives import translated
from paddock.model.addresses import parse_repo
from paddock.model.dataclass import dataclass
from paddock.model.errors import AlreadyExists, NotFound
from paddock.model.records import DEFAULT_PROJECT, AppliedPipeline, Job, JobState, PutReport
from paddock.model.services import OnTransfer, Paddock

_RETRIED = (JobState.FAILURE, JobState.KILLED, JobState.UNRUNNABLE)


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did. jobs: those that ended in it, upstream first; none where nothing had changed."""

    jobs: tuple[Job, ...]
    applied: tuple[AppliedPipeline, ...]
    puts: tuple[PutReport, ...]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The documented JSON: `{"jobs": [{"pipeline", "state", "datums": {…}, "seconds"}], "seconds"}`."""
        return {
            "jobs": [job_summary(job) for job in self.jobs],
            "seconds": round(self.seconds, 3),
        }


def job_summary(job: Job) -> dict[str, Any]:
    name = job.pipeline if job.project == DEFAULT_PROJECT else f"{job.project}/{job.pipeline}"
    counts = job.datums
    return {
        "pipeline": name,
        "state": job.state.value,
        "datums": {
            "total": counts.total,
            "run": counts.run,
            "reused": counts.reused,
            "recovered": counts.recovered,
            "failed": counts.failed,
        },
        "seconds": round(job.seconds, 3),
    }


def repo_exists(paddock: Paddock, repo: str) -> bool:
    try:
        paddock.repos.inspect(repo)
    except NotFound:
        return False
    return True


def ensure_repo(paddock: Paddock, repo: str) -> None:
    """Create a repo, and its project, where they are missing. Idempotent, and safe beside another that does the same."""
    project = parse_repo(repo).project
    if repo_exists(paddock, repo):
        return
    try:
        paddock.projects.inspect(project)
    except NotFound:
        try:
            paddock.projects.create(project)
        except AlreadyExists:
            pass
    try:
        paddock.repos.create(repo)
    except AlreadyExists:
        pass


def has_head(paddock: Paddock, branch: str) -> bool:
    """Whether there is a branch, with a finished commit."""
    try:
        return paddock.branches.inspect(branch).head is not None
    except NotFound:
        return False


def ensure_current(paddock: Paddock, pipeline: str) -> None:
    """Make a new job where the newest one ended without success, or is of an older version, or there is none.

    A new job takes those downstream along, so a chain is looked at from upstream on. An input must have a commit.
    """
    newest = paddock.jobs.list(pipeline=pipeline, limit=1)
    version = paddock.pipelines.inspect(pipeline).version
    if not newest or newest[0].state in _RETRIED or newest[0].pipeline_version != version:
        paddock.pipelines.rerun(pipeline)


def get_output(paddock: Paddock, pipeline: str, branch: str, folder: Path, on_transfer: OnTransfer | None) -> bool:
    """Mirror a pipeline's output into a folder where its newest job succeeded; whether that was so."""
    if paddock.pipelines.inspect(pipeline).last_job_state is not JobState.SUCCESS:
        return False
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paddock.files.get_tree(f"{pipeline}@{branch}", folder, mirror=True, on_transfer=on_transfer)
    return True
