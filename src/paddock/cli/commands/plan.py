"""`paddock plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json, KeepResults
from paddock.cli.session import session_of
from paddock.client.specs import LoadedSpec, load_specs, upstream_first
from paddock.model.plans import JobPlan, PlannedAction, PlannedDatum
from paddock.model.services import Paddock
from paddock.pipelines.spec import spec_to_json

SIGNS = {PlannedAction.RUN: "+", PlannedAction.DROP: "-", PlannedAction.REUSE: "="}


def plan(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="SPEC…", help="Specs in YAML or JSON; '-' is standard input.")],
    reprocess: Annotated[
        bool, typer.Option("--reprocess", help="Plan as if no result were kept, as `pipeline apply --reprocess` does.")
    ] = False,
    keep_results: KeepResults = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Show at most so many datums of each pipeline. Default: 20.")
    ] = 20,
    json: Json = False,
) -> None:
    """What jobs of these specs would run, reuse and drop, why, and how long.

    Nothing is changed. Each pipeline is compared with its last job that succeeded, on the present heads of its inputs.
    """
    session = session_of(context)
    specs = upstream_first(load_specs(files, default_project=session.project))
    plans = [_plan(session.paddock, spec, reprocess, keep_results, limit) for spec in specs]
    if json:
        output.document(plans)
        return
    for number, each in enumerate(plans):
        if number:
            output.line("")
        _say(each)
    moving = {each.pipeline for each in plans if each.run or each.drop}
    for spec in specs:
        for repo in sorted({repo for repo, _ in spec.reads} & moving):
            output.note(f"warning: {spec.address} reads {repo}, which is to change; its plan is for what is there now")


def _plan(paddock: Paddock, spec: LoadedSpec, reprocess: bool, keep_results: bool, limit: int) -> JobPlan:
    return paddock.pipelines.plan(
        spec_to_json(spec.spec), code=spec.code, reprocess=reprocess, limit=limit, keep_results=keep_results
    )


def _say(plan: JobPlan) -> None:
    output.line(
        f"{plan.pipeline} ({plan.outcome.value}): {output.count(plan.total, 'datum')}: "
        f"{plan.run} to run, {plan.reuse} reused{_carried(plan)}; {plan.drop} dropped"
    )
    for change in plan.changes:
        output.line(f"  {output.printable(change)}")
    for datum in plan.datums:
        output.line(f"  {SIGNS[datum.action]} {_inputs(datum)}: {output.printable('; '.join(datum.reasons))}")
    if plan.truncated:
        output.line(f"  and {plan.truncated} more")
    for estimate in plan.estimates:
        workers = output.count(estimate.workers, "worker")
        hours = f"{estimate.worker_hours:.2g} worker hours"
        output.line(f"  {workers}: about {output.duration(estimate.seconds)} ({hours})")
    for warning in plan.warnings:
        output.note(f"warning: {plan.pipeline}: {warning}")


def _carried(plan: JobPlan) -> str:
    return f" ({plan.carried} of them carried over from another transform)" if plan.carried else ""


def _inputs(datum: PlannedDatum) -> str:
    shown = ", ".join(map(output.element, datum.inputs[:4]))
    return f"{shown} and {len(datum.inputs) - 4} more" if len(datum.inputs) > 4 else shown
