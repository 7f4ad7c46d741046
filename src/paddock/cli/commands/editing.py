"""`paddock rm` and `cp`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.records import PutReport


def rm(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="REPO[@BRANCH]:/PATH", help="What to remove.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also a directory with all below.")] = False,
    json: Json = False,
) -> None:
    """Remove a file or directory.

    One commit; older commits keep what was there.
    """
    session = session_of(context)
    report = session.paddock.files.delete(session.name(target), recursive=recursive)
    _show(report, json, f"removed {output.count(report.removed, 'file')}")


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="REPO[@REF]:/PATH", help="A file or directory of any commit.")],
    target: Annotated[str, typer.Argument(metavar="REPO[@BRANCH]:/PATH", help="Its new place.")],
    append: Annotated[bool, typer.Option("--append", help="Append to files that exist.")] = False,
    json: Json = False,
) -> None:
    """Copy files inside Paddock, by reference.

    No bytes move.
    """
    session = session_of(context)
    report = session.paddock.files.copy(session.name(source), session.name(target), append=append)
    _show(report, json, f"copied {output.count(report.files, 'file')}")


def _show(report: PutReport, json: bool, text: str) -> None:
    if json:
        output.document(report)
    else:
        output.line(f"{text}; commit {report.commit}" if report.commit else f"{text}; nothing changed")
