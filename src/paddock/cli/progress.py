"""Progress of jobs and transfers: live bars on a terminal, plain lines elsewhere. All of it on standard error."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from paddock.cli import output
from paddock.model.records import Job, JobState
from paddock.model.services import OnTransfer, Transferred

LINE_SECONDS = 1.0
"""Plain lines: at most one for each pipeline in so many seconds, and only if something changed."""

OnJobs = Callable[[Sequence[Job]], None]


@contextmanager
def job_progress(*, workers: int | None = None, stream: TextIO | None = None) -> Iterator[OnJobs]:
    """A callback for `Paddock.process` and `Jobs.wait`. workers: how many are at work, where that is known."""
    target = sys.stderr if stream is None else stream
    if not target.isatty():
        yield JobLines(target)
        return
    # Rich costs a tenth of a second to import, which only a person at a terminal gets something for.
    bars = importlib.import_module("paddock.cli.bars")
    with bars.JobBars(target, workers=workers) as live:
        yield live.update


@contextmanager
def transfer_progress(verb: str, *, stream: TextIO | None = None) -> Iterator[OnTransfer]:
    """A callback for put and get. Elsewhere than on a terminal it says nothing: the command's last line does."""
    target = sys.stderr if stream is None else stream
    if not target.isatty():
        yield TransferLines(verb, target)
        return
    bars = importlib.import_module("paddock.cli.bars")
    with bars.TransferBar(target, verb) as live:
        yield live.update


class JobLines:
    """One line when a job's state or counts changed: `edges: running 3/10 (2 run, 1 reused, 0 failed)`."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._said: dict[tuple[str, str, str], tuple[str, float]] = {}

    def __call__(self, jobs: Sequence[Job]) -> None:
        now = self._clock()
        for job in jobs:
            if job.state is JobState.CREATED:
                continue
            key = job.project, job.pipeline, job.id
            text, moment = self._said.get(key, ("", float("-inf")))
            new = job_line(job)
            if new != text and (job.state.final or now - moment >= LINE_SECONDS):
                self._said[key] = new, now
                self._stream.write(new + "\n")
                self._stream.flush()


def job_line(job: Job) -> str:
    counts = job.datums
    done = counts.run + counts.reused + counts.recovered + counts.failed
    parts = [f"{counts.run} run", f"{counts.reused} reused"]
    if counts.recovered:
        parts.append(f"{counts.recovered} recovered")
    parts.append(f"{counts.failed} failed")
    name = output.short_name(job.project, job.pipeline)
    return f"{name}: {job.state.value} {done}/{counts.total} ({', '.join(parts)})"


class TransferLines:
    """A line of files and bytes every few seconds, for transfers that take long."""

    seconds = 5.0

    def __init__(self, verb: str, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._verb = verb
        self._stream = stream
        self._clock = clock
        self._last: float | None = None

    def __call__(self, transferred: Transferred) -> None:
        now = self._clock()
        if self._last is None:
            # The transfer begins now: a command may have worked for long before it.
            self._last = now
        if now - self._last >= self.seconds:
            self._last = now
            self._stream.write(f"{self._verb}: {transfer_text(transferred)}\n")
            self._stream.flush()


def transfer_text(transferred: Transferred) -> str:
    files = str(transferred.files)
    if transferred.files_total is not None:
        files += f" of {transferred.files_total}"
    size = output.size(transferred.bytes)
    if transferred.bytes_total is not None:
        size += f" of {output.size(transferred.bytes_total)}"
    return f"{files} files, {size}"
