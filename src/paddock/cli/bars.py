"""Live progress on a terminal, with Rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from paddock.cli import output
from paddock.cli.progress import transfer_text
from paddock.model.records import DatumCounts, Job, JobState
from paddock.model.services import Transferred

_NARROW_COLUMNS = 100
"""Below so many a line has no room for everything: names are cut, and the number of workers is left out."""
_SHORT_NAME = 20
_STYLES = {
    JobState.SUCCESS: "green",
    JobState.FAILURE: "red",
    JobState.KILLED: "red",
    JobState.UNRUNNABLE: "yellow",
}


class _Rate(ProgressColumn):
    """Datums a second and the time left, from the job's own clock."""

    def render(self, task: Task) -> Text:
        done, seconds = task.completed, task.fields["seconds"]
        if task.fields["final"]:
            return Text(output.duration(seconds), style="dim")
        fresh = task.fields["fresh"]
        if not fresh or seconds <= 0:
            return Text("")
        rate = fresh / seconds
        left = ((task.total or 0) - done) / rate
        return Text(f"{rate:.1f}/s, {output.duration(left)} left", style="dim")


class JobBars:
    """One bar for each job: state, done of total, reused, failed, rate, time left; and the number of workers."""

    def __init__(self, stream: TextIO, *, workers: int | None) -> None:
        console = Console(file=stream)
        narrow = console.width < _NARROW_COLUMNS
        self._name_max = _SHORT_NAME if narrow else console.width
        count = f"[dim]{output.count(workers, 'worker')}[/dim]" if workers and not narrow else ""
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.description}[/bold]"),
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[counts]}"),
            _Rate(table_column=Column(no_wrap=True)),
            TextColumn(count),
            console=console,
            expand=True,
        )
        self._tasks: dict[tuple[str, str, str], TaskID] = {}

    def __enter__(self) -> JobBars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            key = job.project, job.pipeline, job.id
            counts = job.datums
            done = counts.run + counts.reused + counts.recovered + counts.failed
            style = _STYLES.get(job.state, "cyan")
            values: dict[str, Any] = {
                "state": f"[{style}]{job.state.value}[/{style}]",
                "counts": _counts(counts),
                "seconds": job.seconds,
                "fresh": counts.run + counts.failed,
                "final": job.state.final,
            }
            if key not in self._tasks:
                name = output.short_name(job.project, job.pipeline)
                if len(name) > self._name_max:
                    name = f"{name[: self._name_max - 1]}…"
                self._tasks[key] = self._progress.add_task(name, total=counts.total, **values)
            total = max(counts.total, 1) if job.state.final else counts.total or None
            shown = total if job.state.final and not counts.total else done
            self._progress.update(self._tasks[key], completed=shown or 0, total=total or 0, **values)


def _counts(counts: DatumCounts) -> str:
    """What is not as one hopes or expects; nothing where all is, so that a line of 80 columns has room for it."""
    shown = ((counts.reused, "reused"), (counts.recovered, "recovered"), (counts.failed, "failed"))
    return ", ".join(f"{count} {name}" for count, name in shown if count)


class TransferBar:
    """One bar for a put or get: files, bytes, bytes a second."""

    def __init__(self, stream: TextIO, verb: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task(verb, total=None, text="")

    def __enter__(self) -> TransferBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, transferred: Transferred) -> None:
        rate = transferred.bytes / max(self._clock() - self._started, 1e-3)
        text = f"{transfer_text(transferred)}, {output.size(int(rate))}/s"
        self._progress.update(self._task, completed=transferred.bytes, total=transferred.bytes_total, text=text)
