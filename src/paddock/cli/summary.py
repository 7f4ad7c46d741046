"""How `run` and `map` end: what was computed and what was not."""

from __future__ import annotations

import os

from paddock.cli import output
from paddock.cli.reuse import say_findings
from paddock.cli.session import Session
from paddock.client.run_parts import RunReport
from paddock.model.records import Job


def workers_known(session: Session, workers: int | None) -> int | None:
    """How many workers will be at work; None where a server decides it."""
    return None if session.remote else workers or session.settings.workers or os.cpu_count()


def show_report(report: RunReport, *, json: bool) -> None:
    if json:
        output.document(report.summary())
        return
    for job in report.jobs:
        output.line(_said(job))
        say_findings(job)
    if not report.jobs:
        output.line("nothing to compute: no file, code or spec changed")
    output.line(f"done in {output.duration(report.seconds)}")


def _said(job: Job) -> str:
    counts = job.datums
    parts = [f"{counts.run} computed", f"{counts.reused} reused"]
    if counts.recovered:
        parts.append(f"{counts.recovered} recovered")
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    name = output.short_name(job.project, job.pipeline)
    total = output.count(counts.total, "datum")
    return f"{name}: {job.state.value}, {total} ({', '.join(parts)}) in {output.duration(job.seconds)}"
