"""`paddock map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli.failures import raise_for_failures
from paddock.cli.options import Audit, Json, NoCache, Workers, audit_share
from paddock.cli.progress import job_progress, transfer_progress
from paddock.cli.session import session_of
from paddock.cli.summary import show_report, workers_known
from paddock.client.mapping import DEFAULT_GLOB, map_folder


def map_(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder to work on.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="TARGET", help="The folder for the results.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD…]", help="The command, and its words, after '--'.")
    ] = None,
    glob: Annotated[
        str, typer.Option("--glob", metavar="PATTERN", help="What in SOURCE is one unit of work.")
    ] = DEFAULT_GLOB,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="FORMAT[:N]", help="Cut files into datums of N records (or bytes: 64Ki)."),
    ] = None,
    workers: Workers = None,
    code: Annotated[
        Path | None,
        typer.Option("--code", metavar="DIR", help="A folder to version with the command; a change in it recomputes."),
    ] = None,
    function: Annotated[
        str | None,
        typer.Option("--function", metavar="MODULE:NAME", help="A Python function to call instead of a command."),
    ] = None,
    no_cache: NoCache = False,
    audit: Audit = None,
    json: Json = False,
) -> None:
    """Run a command on every file of a folder, in parallel, computing only what changed.

    Every match of --glob in SOURCE is a datum. The command runs in the current directory and finds its datum at
    /pfs/in, and puts results into /pfs/out; {in} and {out} in its words stand for the datum's path and the output
    folder. Results appear in TARGET, and what no longer exists in SOURCE disappears there. Files below the current
    directory that the command's words name (a script) count as code: a change in one computes again.

    --function names a Python function below the current directory, which takes and returns bytes, text, a table or a
    picture; it runs in processes that stay warm.

    --split cuts each matched file (csv, jsonl, lines, parquet, tar) into datums of N records, one if N is left out; each is a
    file of its own, of the same format.

    Example: paddock map photos -o small -- convert {in} -resize 50% {out}/
    """
    if not command and function is None:
        raise typer.BadParameter("write the command after --, or name a function", param_hint="'-- CMD…'")
    session = session_of(context)
    session.interrupted = "interrupted; finished datums are kept, the same command goes on from there"
    with (
        transfer_progress("read") as on_transfer,
        job_progress(workers=workers_known(session, workers)) as on_progress,
    ):
        report = map_folder(
            session.paddock,
            source,
            target,
            command or [],
            glob=glob,
            split=split,
            code=code,
            function=function,
            workers=workers,
            no_cache=no_cache,
            audit=audit_share(audit),
            on_transfer=on_transfer,
            on_progress=on_progress,
        )
    show_report(report, json=json)
    raise_for_failures(session.paddock, report.jobs)
