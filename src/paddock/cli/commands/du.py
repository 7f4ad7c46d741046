"""`paddock du`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of


def du(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Argument(metavar="[REPO[@REF]]", help="A repo, with its branches and commits, or one commit."),
    ] = None,
    json: Json = False,
) -> None:
    """What repos, branches and commits cost on disk, alone and shared with others."""
    session = session_of(context)
    report = session.paddock.store.usage(None if address is None else session.name(address))
    if json:
        output.document(report)
        return
    rows = (
        (
            row.kind,
            row.name.removeprefix("default/"),
            row.files,
            output.size(row.logical_bytes),
            output.size(row.stored_bytes),
            output.size(row.alone_bytes),
            output.size(row.shared_bytes),
        )
        for row in report.rows
    )
    output.table(("kind", "name", "files", "size", "stored", "alone", "shared"), rows, empty="nothing is stored")
    output.line(f"{output.size(report.pack_bytes)} in {output.count(report.packs, 'pack')}, garbage included")
