"""Finding the jobs that users name, and watching a set of jobs until they end."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog.database import Transaction
from paddock.catalog.jobs import JobRow
from paddock.model.addresses import parse_repo
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.ids import CommitId
from paddock.model.records import Job
from paddock.versions.home import Home
from paddock.versions.records import job_record


def find_pipeline(tx: Transaction, name: str) -> pipelines_sql.PipelineRow:
    """The pipeline named `[project/]pipeline`; NotFound names the project's pipelines."""
    address = parse_repo(name)
    row = pipelines_sql.find(tx, address.project, address.repo)
    if row is None:
        names = ", ".join(str(each.name) for each in pipelines_sql.get_all(tx, project=address.project))
        known = (
            f"the pipelines of project {address.project} are: {names}"
            if names
            else f"project {address.project} has no pipelines yet"
        )
        raise NotFound(f"pipeline {address} does not exist; {known}")
    return row


def find_job(tx: Transaction, text: str) -> JobRow:
    """The job `[project/]pipeline@id`: a whole id, a unique start of one (8 digits or more), or `head` for the newest."""
    name, at, ref = text.partition("@")
    if not at or not ref:
        raise InvalidInput(f"job {text!r} does not parse; write pipeline@job-id, or pipeline@head for the newest job")
    pipeline = find_pipeline(tx, name)
    if ref in ("head", "HEAD"):
        newest = jobs_sql.newest_first(tx, pipeline_id=pipeline.id, limit=1)
        if not newest:
            raise NotFound(f"pipeline {pipeline} has no jobs yet; commit to one of its inputs")
        return newest[0]
    found = (
        jobs_sql.find_by_prefix(tx, pipeline.id, ref) if len(ref) >= 8 and set(ref) <= set("0123456789abcdef") else []
    )
    if len(found) > 1:
        raise InvalidInput(f"job id {ref} of pipeline {pipeline} is not unique; write more of its digits")
    if not found:
        raise NotFound(f"pipeline {pipeline} has no job {ref}; `paddock job list --pipeline {pipeline}` shows its jobs")
    return found[0]


class JobWatch:
    """Jobs to wait for: those named, or all that are unfinished now or made from now on."""

    def __init__(self, home: Home, named: Sequence[tuple[str, CommitId]] = ()) -> None:
        self._home = home
        with home.catalog.read() as tx:
            if named:
                self._ids = {find_job(tx, f"{pipeline}@{id}").id for pipeline, id in named}
                self._newest: int | None = None
            else:
                self._ids = {row.id for row in jobs_sql.unfinished(tx)}
                newest = jobs_sql.newest_first(tx, limit=1)
                self._newest = newest[0].id if newest else 0

    def done(self) -> bool:
        """Whether none of them is unfinished."""
        with self._home.catalog.read() as tx:
            open_jobs = jobs_sql.unfinished(tx)
        return not any(self._watched(row.id) for row in open_jobs)

    def jobs(self) -> Sequence[Job]:
        """All of them as they are now, oldest first."""
        now = self._home.now()
        with self._home.catalog.read() as tx:
            if self._newest is not None:
                self._ids |= {row.id for row in jobs_sql.newer_than(tx, self._newest)}
            return [job_record(jobs_sql.get(tx, id), now=now) for id in sorted(self._ids) if jobs_sql.exists(tx, id)]

    def _watched(self, id: int) -> bool:
        return id in self._ids or (self._newest is not None and id > self._newest)
