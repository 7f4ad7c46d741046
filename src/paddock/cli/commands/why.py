"""`paddock why`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.records import CommitOrigin, CommitState, Origin

PIECES_SHOWN = 3


def why(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="REPO[@REF]:/PATH", help="The file.")],
    inputs: Annotated[int, typer.Option("--inputs", min=0, help="Show at most so many inputs of a datum.")] = 20,
    json: Json = False,
) -> None:
    """Where a file came from, back to the first commits.

    Each step names the datum, its inputs, the pipeline version and the job that computed it.
    """
    session = session_of(context)
    origin = session.paddock.why(session.name(address), inputs_max=inputs)
    if json:
        output.document(origin)
    else:
        _show(origin, "", "")


def _show(origin: Origin, lead: str, indent: str) -> None:
    output.line(f"{lead}{output.printable(origin.file)}")
    output.line(f"{indent}    {_cause(origin)}")
    last = len(origin.inputs) - 1
    for index, item in enumerate(origin.inputs):
        end = index == last and not origin.truncated
        _show(item, f"{indent}{'└── ' if end else '├── '}", f"{indent}{'    ' if end else '│   '}")
    if origin.truncated:
        output.line(f"{indent}└── and {output.count(origin.truncated, 'more input')} (--inputs shows more)")


def _cause(origin: Origin) -> str:
    when = output.moment(origin.commit.finished)
    if origin.commit.state is CommitState.FORGOTTEN:
        return f"made by a job, {when}; the files of this commit were forgotten"
    if origin.datum is None:
        who = "put by a user" if origin.commit.origin is CommitOrigin.USER else "made"
        text = f": {origin.commit.description}" if origin.commit.description else ""
        return f"{who}, {when}{text}"
    version = f" version {origin.pipeline_version}" if origin.pipeline_version is not None else ""
    job = origin.datum.computed_by or origin.datum.job
    kept = f" with {origin.datum.carried_from}, whose results were kept" if origin.datum.carried_from else ""
    pieces = [output.element(item) for item in origin.datum.inputs if item.piece][:PIECES_SHOWN]
    of_records = f", from {', '.join(pieces)}" if pieces else ""
    made = f"computed by job {job}{kept}{of_records}, {when}"
    return f"datum {origin.datum.id} of {origin.datum.pipeline}{version}, {made}"
