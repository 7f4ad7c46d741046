"""`paddock datum …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paddock.cli import output
from paddock.cli.commands.job import job_address
from paddock.cli.lazy import group_app
from paddock.cli.options import JobAddress, Json, Limit
from paddock.cli.session import session_of
from paddock.client.specs import load_input
from paddock.model.errors import InvalidInput, UserCodeFailed
from paddock.model.plans import PreviewFile
from paddock.model.records import DatumState

if TYPE_CHECKING:
    from paddock.client.embedded import EmbeddedPaddock
    from paddock.runtime.datum_debug import DebugRun

app = group_app("The single units of work of a job.")
Datum = Annotated[str, typer.Argument(metavar="DATUM", help="Its id, or a unique start of it.")]


@app.command("list")
def list_(
    context: typer.Context,
    job: JobAddress,
    state: Annotated[
        list[DatumState] | None, typer.Option("--state", "-s", help="Only datums in this state; may be repeated.")
    ] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """List the datums of a job."""
    session = session_of(context)
    name = session.name(job_address(job))
    found = session.paddock.datums.list(name, states=tuple(state or ()), limit=limit)
    if json:
        output.document_stream(found)
        return
    output.line(f"{'DATUM':<32}  {'STATE':<9}  {'TIME':>8}  INPUTS")
    for datum in found:
        inputs = ", ".join(map(output.element, datum.inputs))
        output.line(f"{datum.id}  {datum.state.value:<9}  {output.duration(datum.seconds):>8}  {inputs}")


@app.command("inspect")
def inspect(context: typer.Context, job: JobAddress, datum: Datum, json: Json = False) -> None:
    """Show one datum: its inputs, its state and why."""
    session = session_of(context)
    found = session.paddock.datums.inspect(session.name(job_address(job)), datum)
    if json:
        output.document(found)
        return
    output.fields(
        (
            ("datum", found.id),
            ("job", f"{found.pipeline}@{found.job}"),
            ("state", found.state.value),
            ("reason", found.reason),
            ("computed by", found.computed_by),
            ("carried over", found.carried_from),
            ("key", found.key),
            ("exit code", None if found.exit_code is None else str(found.exit_code)),
            ("tries", str(found.tries)),
            ("time", output.duration(found.seconds)),
            ("output", f"{output.count(found.output_files, 'file')}, {output.size(found.output_bytes)}"),
        )
    )
    for item in found.inputs:
        records = output.records(item.first_record, item.last_record)
        output.line(
            f"  {item.name}: {item.repo}:{output.printable(item.path)}{records} ({output.size(item.size_bytes)})"
        )


@app.command("logs")
def logs(
    context: typer.Context,
    job: JobAddress,
    datum: Datum,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print lines as they come, until the job has ended.")
    ] = False,
) -> None:
    """Print what a datum's command printed; of one that runs, up to now."""
    session = session_of(context)
    if follow:
        for _, lines in session.paddock.jobs.follow(session.name(job_address(job)), datum=datum):
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        return
    sys.stdout.buffer.write(session.paddock.datums.logs(session.name(job_address(job)), datum))


@app.command("explain")
def explain(context: typer.Context, job: JobAddress, datum: Datum, json: Json = False) -> None:
    """Say why a datum ran, or why it did not need to."""
    session = session_of(context)
    found = session.paddock.datums.explain(session.name(job_address(job)), datum)
    if json:
        output.document(found)
        return
    output.fields(
        (
            ("datum", found.datum.id),
            ("job", f"{found.datum.pipeline}@{found.datum.job}"),
            ("state", found.datum.state.value),
            ("compared with", found.base),
        )
    )
    for reason in found.reasons:
        output.line(f"  {output.printable(reason)}")


@app.command("preview")
def preview(
    context: typer.Context,
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|INPUT",
            help="A file with a spec or an input in YAML or JSON, '-' for standard input, or repo[@branch]:/glob.",
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="FORMAT[:N]", help="Cut the files of repo:/glob into datums of N records."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Show at most so many datums. Default: 20.")] = 20,
    json: Json = False,
) -> None:
    """List the datums that an input would make, and what looks wrong with it. Nothing is changed."""
    session = session_of(context)
    found = session.paddock.datums.preview(load_input(spec, default_project=session.project, split=split), limit=limit)
    if json:
        output.document(found)
        return
    for count in found.inputs:
        output.line(
            f"{count.name}: {count.matches} {'match' if count.matches == 1 else 'matches'} of {count.repo}:{count.glob}"
        )
    output.line(output.count(found.total, "datum"))
    for item in found.datums:
        output.line("  " + ", ".join(map(_shown, item.files)))
    if len(found.datums) < found.total:
        output.line(f"  and {found.total - len(found.datums)} more")
    for warning in found.warnings:
        output.note(f"warning: {warning}")


def _shown(file: PreviewFile) -> str:
    captures = f" [{' | '.join(file.captures)}]" if file.captures else ""
    slash = "/" if file.directory and file.path != "/" else ""
    records = output.records(file.first_record, file.last_record)
    return output.printable(f"{file.name}:{file.path}{slash}{records}{captures}")


@app.command("rerun")
def rerun(
    context: typer.Context,
    job: JobAddress,
    datum: Datum,
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new directory that gets what the command left in /pfs/out.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a datum's command again on this terminal, with its inputs, environment and code. Nothing is committed.

    Fails where the command fails, with the same exit code that `paddock run` has for failed datums.
    """
    ran = _debug(context, job, datum, shell=False, target=target)
    if json:
        output.document(ran)
    else:
        output.note(
            f"datum {ran.datum} ended with exit code {ran.code}; {output.count(len(ran.files), 'file')} in /pfs/out"
        )
        for path, size in ran.files:
            output.note(f"  {output.printable(path)} ({output.size(size)})")
    if ran.code:
        raise UserCodeFailed(
            f"datum {ran.datum} ended with exit code {ran.code}; `paddock datum shell` opens a shell in its place"
        )


@app.command("shell")
def shell(
    context: typer.Context,
    job: JobAddress,
    datum: Datum,
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new directory that gets what is in /pfs/out at the end.")
    ] = None,
) -> None:
    """Open a shell ($SHELL, else /bin/sh) in a datum's place: its /pfs, environment, code and working directory.

    What is written to /pfs/out is thrown away at the end, unless --output names a directory for it.
    """
    _debug(context, job, datum, shell=True, target=target)


def _debug(context: typer.Context, job: str, datum: str, *, shell: bool, target: Path | None) -> DebugRun:
    session = session_of(context)
    if session.remote:
        raise InvalidInput("datums run in the foreground on a home of this machine; name it with --home, without --url")
    home = cast("EmbeddedPaddock", session.paddock)
    return home.debug_datum(session.name(job_address(job)), datum, shell=shell, output=target)
