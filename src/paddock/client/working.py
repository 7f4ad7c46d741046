"""Working off what one command has caused, also where another process (a server) does the work, or did it already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from paddock.model.errors import NotFound
from paddock.model.ids import CommitId
from paddock.model.records import Job, JobState
from paddock.model.services import Paddock

OnProgress = Callable[[Sequence[Job]], None]

PAGE_JOBS = 50
"""Newest jobs of a pipeline that are looked at; one command makes a few."""


def newest_jobs(paddock: Paddock, pipelines: Sequence[str]) -> dict[str, CommitId | None]:
    """{pipeline: id of its newest job}, taken before a command changes anything; None where there is none."""
    found: dict[str, CommitId | None] = {}
    for name in pipelines:
        try:
            newest = paddock.jobs.list(pipeline=name, limit=1)
        except NotFound:
            newest = ()
        found[name] = newest[0].id if newest else None
    return found


def work_off(
    paddock: Paddock,
    before: Mapping[str, CommitId | None],
    *,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Job, ...]:
    """Work, or wait, until all is done that these pipelines' jobs belong to: unfinished ones, and those made since.

    before: what `newest_jobs` said. Returns the jobs of those commit sets, upstream first, downstream pipelines among
    them; one that was replaced by a newer job of its pipeline (an update kills the old version's) is left out.
    """
    sets = _sets(paddock, before)
    waiting = [job for job in _jobs(paddock, sets) if not job.state.final]
    if waiting:
        named = [(_address(job), job.id) for job in waiting]
        paddock.process(workers=workers, on_progress=on_progress, jobs=named)
    jobs = _jobs(paddock, sets)
    newest = {_address(job): job.id for job in jobs}
    return tuple(job for job in jobs if job.state is JobState.SUCCESS or newest[_address(job)] == job.id)


def _sets(paddock: Paddock, before: Mapping[str, CommitId | None]) -> list[CommitId]:
    """Ids of the commit sets to work off, oldest first."""
    found: dict[CommitId, Job] = {}
    for name, known in before.items():
        made_since = True
        for job in paddock.jobs.list(pipeline=name, limit=PAGE_JOBS):
            made_since = made_since and job.id != known
            if made_since or not job.state.final:
                found.setdefault(job.id, job)
    return sorted(found, key=lambda id_: found[id_].created)


def _jobs(paddock: Paddock, sets: Sequence[CommitId]) -> list[Job]:
    return [job for id_ in sets for job in paddock.commits.inspect_set(id_).jobs]


def _address(job: Job) -> str:
    return f"{job.project}/{job.pipeline}"
