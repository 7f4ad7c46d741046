"""`paddock run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.failures import raise_for_failures
from paddock.cli.options import Audit, Json, KeepResults, NoCache, Workers, audit_share
from paddock.cli.progress import job_progress, transfer_progress
from paddock.cli.session import session_of
from paddock.cli.summary import show_report, workers_known
from paddock.client.running import run_specs
from paddock.model.errors import InvalidInput


def run(
    context: typer.Context,
    specs: Annotated[
        list[Path],
        typer.Argument(
            metavar="SPEC…", help="Specs in YAML or JSON, or Python files with pipelines; '-' is standard input."
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="REPO=DIR", help="A folder whose content the repo gets; may be repeated."
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output", "-o", metavar="PIPELINE=DIR", help="A folder for a pipeline's output; may be repeated."
        ),
    ] = None,
    workers: Workers = None,
    no_cache: NoCache = False,
    keep_results: KeepResults = False,
    audit: Audit = None,
    json: Json = False,
) -> None:
    """Apply specs, put folders in, work until nothing is left to do, copy results out.

    Run again, it computes only what changed: files, code or specs. A folder's files that are gone vanish from the repo,
    and what was computed from them from the output. Jobs that failed before are tried again.
    """
    session = session_of(context)
    session.interrupted = "interrupted; finished datums are kept, the same command goes on from there"
    with (
        transfer_progress("copy") as on_transfer,
        job_progress(workers=workers_known(session, workers)) as on_progress,
    ):
        report = run_specs(
            session.paddock,
            specs,
            inputs=_pairs("--input", inputs or []),
            outputs=_pairs("--output", outputs or []),
            workers=workers,
            no_cache=no_cache,
            keep_results=keep_results,
            audit=audit_share(audit),
            default_project=session.project,
            on_transfer=on_transfer,
            on_progress=on_progress,
        )
    for item in report.applied:
        for warning in item.warnings:
            output.note(f"warning: {output.short_name(item.pipeline.project, item.pipeline.name)}: {warning}")
    show_report(report, json=json)
    raise_for_failures(session.paddock, report.jobs)


def _pairs(option: str, texts: list[str]) -> dict[str, Path]:
    """{name: folder} of `NAME=DIR` texts."""
    pairs: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise InvalidInput(f"{option} {text!r} does not parse; write {option} NAME=FOLDER")
        if name in pairs:
            raise InvalidInput(f"{option} names {name} twice; give each name one folder")
        pairs[name] = Path(folder)
    return pairs
