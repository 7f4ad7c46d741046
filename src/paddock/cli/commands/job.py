"""`paddock job …`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.failures import raise_for_failures
from paddock.cli.lazy import group_app
from paddock.cli.options import JobAddress, Json, Limit
from paddock.cli.progress import job_progress
from paddock.cli.reuse import job_fields, say_findings
from paddock.cli.session import session_of
from paddock.model.records import Job
from paddock.model.services import Paddock
from paddock.model.timing import JobTimes, JobTiming

LIST_LIMIT = 50

app = group_app("Runs of a pipeline.")


def job_address(text: str) -> str:
    """A job's address with the newest job where no id is given."""
    return text if "@" in text else f"{text}@head"


@app.command("list")
def list_(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="Only jobs of this pipeline.")] = None,
    limit: Limit = LIST_LIMIT,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    session = session_of(context)
    name = None if pipeline is None else session.name(pipeline)
    found = session.paddock.jobs.list(pipeline=name, limit=limit)
    if json:
        output.document(found)
        return
    rows = (
        (
            output.short_name(job.project, job.pipeline),
            job.id,
            job.state.value,
            job.datums.total,
            job.datums.run,
            job.datums.reused,
            job.datums.failed,
            output.duration(job.seconds),
            output.moment(job.created),
            _first_line(job.reason),
        )
        for job in found
    )
    headers = ("pipeline", "job", "state", "datums", "run", "reused", "failed", "time", "created", "reason")
    output.table(headers, rows, empty="no jobs yet")


@app.command("inspect")
def inspect(
    context: typer.Context,
    job: JobAddress,
    timing: Annotated[
        bool,
        typer.Option("--timing", help="Also where the time went, the slowest datums, and what more workers bring."),
    ] = False,
    json: Json = False,
) -> None:
    """Show one job."""
    session = session_of(context)
    name = session.name(job_address(job))
    found = session.paddock.jobs.inspect(name)
    times = session.paddock.jobs.timing(name) if timing else None
    if json:
        output.document(found if times is None else {"job": found, "timing": times})
        return
    counts = found.datums
    output.fields(
        (
            ("job", _name(found)),
            ("pipeline version", str(found.pipeline_version)),
            ("state", found.state.value),
            ("reason", found.reason),
            ("datums", str(counts.total)),
            ("run", str(counts.run)),
            *job_fields(found),
            ("recovered", str(counts.recovered)),
            ("failed", str(counts.failed)),
            ("created", output.moment(found.created)),
            ("started", output.moment(found.started)),
            ("finished", output.moment(found.finished)),
            ("time", output.duration(found.seconds)),
        )
    )
    say_findings(found)
    if times is not None:
        _show_timing(times)


def _show_timing(timing: JobTiming) -> None:
    times = timing.times
    output.line("")
    whole: list[tuple[str, str]] = [
        ("wait to start", _fine(timing.wait_seconds)),
        ("from start to end", _fine(timing.total_seconds)),
    ]
    if times is None:
        whole.append(("where it went", "not recorded"))
    else:
        whole += [
            ("plan", _fine(times.plan_seconds)),
            ("run", _fine(times.run_seconds)),
            ("merge, finish", _fine(times.merge_seconds)),
            ("parallel efficiency", f"{times.efficiency:.0%} of {output.count(times.workers, 'worker')}"),
        ]
    whole.append(
        (
            "computed",
            f"{output.count(timing.computed, 'datum')} in {_fine(timing.datum_seconds)} of worker time",
        )
    )
    output.fields(whole)
    if times is not None:
        _show_parts(times)
    if timing.slowest:
        output.line("\nslowest datums")
    for datum in timing.slowest:
        inputs = ", ".join(map(output.element, datum.inputs))
        output.line(f"  {datum.id}  {_fine(datum.seconds):>8}  {inputs}")
    if timing.forecasts:
        output.line("\nwhat it would take with more workers, on as many cores")
    for each in timing.forecasts:
        workers = output.count(each.workers, "worker")
        output.line(f"  {workers:>12}  {_fine(each.seconds):>8}  {each.efficiency:4.0%} of them busy")


def _fine(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else output.duration(seconds)


def _show_parts(times: JobTimes) -> None:
    """What the workers did while the job ran."""
    output.line("\nwhat the workers did")
    parts = (
        ("input", times.input_seconds),
        ("start", times.start_seconds),
        ("user code", times.code_seconds),
        ("output", times.output_seconds),
        ("report", times.report_seconds),
        ("other", times.other_seconds),
        ("idle", times.idle_seconds),
    )
    whole = sum(seconds for _, seconds in parts)
    for name, seconds in parts:
        output.line(f"  {name:<12}  {_fine(seconds):>8}  {seconds / whole if whole else 0:4.0%}")


@app.command("wait")
def wait(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PIPELINE[@ID]…]", help="Jobs; without one, all that are unfinished."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Wait at most so many seconds (with jobs named).")
    ] = None,
    json: Json = False,
) -> None:
    """Wait until jobs have ended; on a home where no other process works, do the work.

    Fails where one of the jobs did not succeed.
    """
    session = session_of(context)
    session.interrupted = "interrupted; finished datums are kept, `paddock job wait` goes on from there"
    with job_progress() as on_progress:
        if jobs:
            names = [session.name(job_address(job)) for job in jobs]
            found = session.paddock.jobs.wait(names, timeout_seconds=timeout, on_progress=on_progress)
        else:
            found = session.paddock.process(on_progress=on_progress)
    if json:
        output.document(found)
    elif not found:
        output.note("no unfinished jobs")
    else:
        rows = ((_name(job), job.state.value, job.datums.total, job.datums.failed) for job in found)
        output.table(("job", "state", "datums", "failed"), rows, empty="")
    raise_for_failures(session.paddock, found)


@app.command("stop")
def stop(
    context: typer.Context,
    job: JobAddress,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the job.")] = "stopped by the user",
    json: Json = False,
) -> None:
    """Stop a job. What it computed so far is kept for the next one."""
    session = session_of(context)
    found = session.paddock.jobs.stop(session.name(job_address(job)), reason=reason)
    if json:
        output.document(found)
    else:
        output.line(f"job {_name(found)} is {found.state.value}")


@app.command("logs")
def logs(
    context: typer.Context,
    job: JobAddress,
    datum: Annotated[str | None, typer.Option("--datum", help="Only this datum (a unique start of its id).")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print lines as they come, until the job has ended.")
    ] = False,
) -> None:
    """Print what the datums of a job printed, each under a line with its id."""
    session = session_of(context)
    name = session.name(job_address(job))
    if follow:
        _follow(session.paddock, name, datum)
        return
    for datum_id, log in session.paddock.jobs.logs(name, datum=datum):
        _print_log(datum_id, log)


def _follow(paddock: Paddock, name: str, datum: str | None) -> None:
    """Print lines as they come, under the id of their datum where that changes."""
    last = ""
    for id, lines in paddock.jobs.follow(name, datum=datum):
        if id and id != last:
            sys.stdout.buffer.write(f"==> datum {id} <==\n".encode())
            last = id
        sys.stdout.buffer.write(lines if not lines or lines.endswith(b"\n") else lines + b"\n")
        sys.stdout.buffer.flush()


def _print_log(datum: str, log: bytes) -> None:
    sys.stdout.buffer.write(f"==> datum {datum} <==\n".encode())
    sys.stdout.buffer.write(log if not log or log.endswith(b"\n") else log + b"\n")


def _name(job: Job) -> str:
    return f"{output.short_name(job.project, job.pipeline)}@{job.id}"


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= 80 else line[:79] + "…"
