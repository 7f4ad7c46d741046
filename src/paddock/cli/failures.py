"""A failed job as a failed command: the reason, the datum, and how to see its log."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.cli import output
from paddock.model.errors import PaddockError, Problem, UserCodeFailed
from paddock.model.records import Datum, DatumState, Job, JobState
from paddock.model.services import Paddock

DATUMS_SHOWN = 5


def raise_for_failures(paddock: Paddock, jobs: Sequence[Job]) -> None:
    """Raise UserCodeFailed where a job ended without success; its problems name the failed datums of each job."""
    failed = [job for job in jobs if job.state.final and job.state is not JobState.SUCCESS]
    if not failed:
        return
    problems = [problem for job in failed for problem in _problems(paddock, job)]
    names = ", ".join(output.short_name(job.project, job.pipeline) for job in failed)
    message = f"{output.count(len(failed), 'job')} did not succeed: {names}. What succeeded is kept"
    raise UserCodeFailed(message, problems=tuple(problems))


def _problems(paddock: Paddock, job: Job) -> list[Problem]:
    """The job with its reason; where datums failed, how many and which, for the job's reason only repeats the first."""
    name = output.short_name(job.project, job.pipeline)
    datums = _failed_datums(paddock, job) if job.datums.failed else []
    if not datums:
        told = job.reason.startswith(job.state.value)
        return [Problem(name, job.reason if told else f"{job.state.value}: {job.reason}")]
    address = f"{name}@{job.id}"
    count = f"{job.datums.failed} of {output.count(job.datums.total, 'datum')} failed"
    found = [Problem(name, count)]
    for before, datum in zip([None, *datums], datums, strict=False):
        again = before is not None and before.reason == datum.reason
        found.append(_datum_problem(address, datum, "the same" if again else datum.reason))
    hidden = job.datums.failed - DATUMS_SHOWN
    if hidden > 0:
        more = f"paddock datum list {address} --state failed"
        found.append(Problem(name, f"and {output.count(hidden, 'more failed datum')}: {more}"))
    return found


def _failed_datums(paddock: Paddock, job: Job) -> list[Datum]:
    address = f"{job.project}/{job.pipeline}@{job.id}"
    try:
        return list(paddock.datums.list(address, states=(DatumState.FAILED,), limit=DATUMS_SHOWN))
    except PaddockError:
        # The job's own reason is what matters; it must not be hidden by a second failure.
        return []


def _datum_problem(address: str, datum: Datum, reason: str) -> Problem:
    inputs = ", ".join(map(output.element, datum.inputs)) or "no input"
    return Problem(
        f"datum {datum.id[:12]} ({inputs})", f"{reason}; its log: paddock datum logs {address} {datum.id[:12]}"
    )
