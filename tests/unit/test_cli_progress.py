"""What people see while they wait: plain lines, and live bars on a terminal."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest

from paddock.cli.progress import JobLines, TransferLines, job_progress, transfer_progress, transfer_text
from paddock.model.ids import CommitId
from paddock.model.records import DatumCounts, Job, JobState
from paddock.model.services import Transferred

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def job(state: JobState, *, name: str = "edges", project: str = "default", **counts: int) -> Job:
    return Job(project, name, CommitId("0" * 32), 1, state, "", NOW, NOW, None, DatumCounts(**counts), 2.0)


def test_lines_come_on_change_and_at_most_once_a_second() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = JobLines(stream, clock=clock)
    lines([job(JobState.CREATED)])
    lines([job(JobState.RUNNING, total=9, run=1)])
    lines([job(JobState.RUNNING, total=9, run=2)])
    clock.now = 1.0
    lines([job(JobState.RUNNING, total=9, run=3), job(JobState.RUNNING, name="other", project="lab", total=1)])
    clock.now = 2.0
    lines([job(JobState.RUNNING, total=9, run=3)])
    lines([job(JobState.SUCCESS, total=9, run=5, reused=2, recovered=1, failed=1)])
    lines([job(JobState.SUCCESS, total=9, run=5, reused=2, recovered=1, failed=1)])
    assert stream.getvalue().splitlines() == [
        "edges: running 1/9 (1 run, 0 reused, 0 failed)",
        "edges: running 3/9 (3 run, 0 reused, 0 failed)",
        "lab/other: running 0/1 (0 run, 0 reused, 0 failed)",
        "edges: success 9/9 (5 run, 2 reused, 1 recovered, 1 failed)",
    ]


def test_transfers_speak_up_only_when_they_take_long() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = TransferLines("put", stream, clock=clock)
    clock.now = 90.0  # What the command did before it began to transfer is no transfer.
    lines(Transferred(1, 10, 4, 4096))
    clock.now = 96.0
    lines(Transferred(2, 2048, 4, 4096))
    lines(Transferred(3, 3072, 4, 4096))
    assert stream.getvalue() == "put: 2 of 4 files, 2.0 KiB of 4.0 KiB\n"
    assert transfer_text(Transferred(2, 5, None, None)) == "2 files, 5 B"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with job_progress(workers=2, stream=terminal) as update:
        update([job(JobState.CREATED)])
        update([job(JobState.RUNNING, total=10, run=3, reused=1, failed=1)])
        update([job(JobState.FAILURE, total=10, run=8, reused=1, failed=1), job(JobState.SUCCESS, name="empty")])
    shown = terminal.getvalue()
    for part in ("edges", "failure", "10/10", "1 reused", "1 failed", "2 workers", "empty", "success"):
        assert part in shown


def test_bars_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    with job_progress(workers=2, stream=terminal) as update:
        small = job(JobState.RUNNING, name="small-out-3fbfd9c367848168", project="map", total=1000, run=30)
        update([small, job(JobState.RUNNING, total=1000, run=30, reused=100)])
    first, second = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue()).rstrip().splitlines()[-2:]
    for line, name, counts in ((first, "map/small-out-3fbfd…", "30/1000"), (second, "edges", "130/1000 100 reused")):
        assert len(line) <= 80
        for part in (name, " running ", counts, " 15.0/s, ", " left"):
            assert part in line


def test_a_terminal_gets_a_transfer_bar() -> None:
    terminal = Terminal()
    with transfer_progress("put", stream=terminal) as update:
        update(Transferred(1, 1 << 20, 2, 2 << 20))
    assert "1 of 2 files" in terminal.getvalue()


def test_elsewhere_nothing_draws() -> None:
    stream = io.StringIO()
    with job_progress(stream=stream) as update, transfer_progress("get", stream=stream) as transfer:
        update([job(JobState.SUCCESS, total=1, run=1)])
        transfer(Transferred(1, 1, 1, 1))
    assert stream.getvalue() == "edges: success 1/1 (1 run, 0 reused, 0 failed)\n"
