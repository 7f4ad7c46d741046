"""`paddock pipeline …`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Audit, Json, KeepResults, audit_share
from paddock.cli.reuse import reuse_fields
from paddock.cli.session import session_of
from paddock.client.specs import apply_all, load_specs, upstream_first
from paddock.model.records import AppliedPipeline, Pipeline

app = group_app("Commands that run on data as it changes.")
Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="Its name, [project/]pipeline.")]


@app.command("apply")
def apply(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Specs in YAML or JSON; '-' is standard input.")],
    reprocess: Annotated[
        bool, typer.Option("--reprocess", help="Compute all datums again, also those with a kept result.")
    ] = False,
    keep_results: KeepResults = False,
    audit: Audit = None,
    json: Json = False,
) -> None:
    """Create or update pipelines from specs, and say which. All specs are checked before the first is applied."""
    session = session_of(context)
    specs = upstream_first(load_specs(files, default_project=session.project))
    session.interrupted = "interrupted; `paddock pipeline list` shows what was applied, applying again is safe"
    applied = apply_all(
        session.paddock, specs, reprocess=reprocess, keep_results=keep_results, audit=audit_share(audit)
    )
    for item in applied:
        for warning in item.warnings:
            output.note(f"warning: {_name(item.pipeline)}: {warning}")
    if json:
        output.document(applied)
    else:
        _say(applied)


def _say(applied: Sequence[AppliedPipeline]) -> None:
    for item in applied:
        job = f"; job {item.job}" if item.job else ""
        output.line(f"{item.outcome.value} pipeline {_name(item.pipeline)} (version {item.pipeline.version}){job}")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List pipelines, of all projects or of the one that --project names."""
    session = session_of(context)
    found = session.paddock.pipelines.list(project=session.chosen_project)
    if json:
        output.document(found)
        return
    rows = (
        (
            _name(item),
            item.version,
            item.state.value,
            item.last_job_state.value if item.last_job_state else "-",
            output.moment(item.updated),
            item.description,
            item.reason,
        )
        for item in found
    )
    headers = ("name", "version", "state", "last job", "updated", "description", "reason")
    output.table(headers, rows, empty="no pipelines; `paddock pipeline apply FILE` makes one")


@app.command("inspect")
def inspect(
    context: typer.Context,
    pipeline: Name,
    version: Annotated[int | None, typer.Option("--version", min=1, help="An older version.")] = None,
    json: Json = False,
) -> None:
    """Show one pipeline and its effective spec."""
    session = session_of(context)
    found = session.paddock.pipelines.inspect(session.name(pipeline), version=version)
    if json:
        output.document(found)
        return
    output.fields(
        (
            ("name", f"{found.project}/{found.name}"),
            ("version", str(found.version)),
            ("state", found.state.value),
            ("reason", found.reason or None),
            ("description", found.description),
            ("last job", f"{found.last_job} ({found.last_job_state})" if found.last_job else None),
            ("created", output.moment(found.created)),
            ("updated", output.moment(found.updated)),
            *(() if found.reuse is None else reuse_fields(found.reuse)),
        )
    )
    output.line("spec:")
    output.document(found.spec)


@app.command("delete")
def delete(
    context: typer.Context,
    pipeline: Name,
    keep_repo: Annotated[bool, typer.Option("--keep-repo", help="Keep the output repo, as a user's repo.")] = False,
    json: Json = False,
) -> None:
    """Delete a pipeline with its jobs and its output repo."""
    session = session_of(context)
    session.paddock.pipelines.delete(session.name(pipeline), keep_repo=keep_repo)
    if json:
        output.document({"deleted": session.name(pipeline)})
    else:
        output.line(f"deleted pipeline {pipeline}")


@app.command("start")
def start(context: typer.Context, pipeline: Name, json: Json = False) -> None:
    """React to commits again."""
    session = session_of(context)
    _show(session.paddock.pipelines.start(session.name(pipeline)), json)


@app.command("stop")
def stop(context: typer.Context, pipeline: Name, json: Json = False) -> None:
    """Stop reacting to commits; unfinished jobs are killed."""
    session = session_of(context)
    _show(session.paddock.pipelines.stop(session.name(pipeline)), json)


@app.command("rerun")
def rerun(
    context: typer.Context,
    pipeline: Name,
    reprocess: Annotated[
        bool, typer.Option("--reprocess", help="Compute all datums again, also those with a kept result.")
    ] = False,
    audit: Audit = None,
    json: Json = False,
) -> None:
    """Make a new job on the present heads. `paddock job wait` works it off."""
    session = session_of(context)
    job = session.paddock.pipelines.rerun(session.name(pipeline), reprocess=reprocess, audit=audit_share(audit))
    if json:
        output.document(job)
    else:
        output.line(f"job {output.short_name(job.project, job.pipeline)}@{job.id}")


def _show(pipeline: Pipeline, json: bool) -> None:
    if json:
        output.document(pipeline)
    else:
        output.line(f"pipeline {_name(pipeline)} is {pipeline.state.value}")


def _name(pipeline: Pipeline) -> str:
    return output.short_name(pipeline.project, pipeline.name)
