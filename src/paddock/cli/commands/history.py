"""`paddock diff`, `log` and `find`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.commands.commit import show_commits
from paddock.cli.options import Json, Limit
from paddock.cli.session import session_of
from paddock.model.records import Change

LOG_LIMIT = 20
_MARKS = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}


def log(
    context: typer.Context,
    repo: Annotated[str, typer.Argument(metavar="REPO[@REF]", help="A repo; with a ref, it and its ancestors.")],
    limit: Limit = LOG_LIMIT,
    json: Json = False,
) -> None:
    """Commits of a repo or branch, newest first."""
    session = session_of(context)
    show_commits(session.paddock.commits.list(session.name(repo), limit=limit), json)


def diff(
    context: typer.Context,
    new: Annotated[str, typer.Argument(metavar="REPO@REF[:/PATH]", help="The newer commit.")],
    old: Annotated[
        str | None, typer.Argument(metavar="[REPO@REF]", help="The older one; default: the parent commit.")
    ] = None,
    json: Json = False,
) -> None:
    """Files that differ between two commits.

    `+` is added, `-` is removed, `~` is changed. It costs what differs, not what there is.
    """
    session = session_of(context)
    found = session.paddock.files.diff(session.name(new), None if old is None else session.name(old))
    if json:
        output.document_stream(found)
        return
    for item in found:
        before = output.size(item.old.size_bytes) if item.old else "-"
        after = output.size(item.new.size_bytes) if item.new else "-"
        output.line(f"{_MARKS[item.change]} {output.printable(item.path)}  ({before} → {after})")


def find(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="REPO[@REF]:/PATH", help="The path to follow.")],
    limit: Limit = LOG_LIMIT,
    json: Json = False,
) -> None:
    """Commits that changed a path.

    Newest first: those that added, changed or removed exactly this path.
    """
    session = session_of(context)
    found = session.paddock.files.find(session.name(address), limit=limit)
    if json:
        output.document([{"commit": commit, "diff": item} for commit, item in found])
        return
    rows = (
        (
            commit.id,
            item.change.value,
            output.size(item.new.size_bytes) if item.new else "-",
            output.moment(commit.finished),
            commit.description,
        )
        for commit, item in found
    )
    empty = f"no commit changed {address}"
    output.table(("commit", "change", "size", "time", "description"), rows, empty=empty)
