"""`paddock put` and `get`."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.progress import transfer_progress
from paddock.cli.session import session_of
from paddock.model.addresses import parse_address
from paddock.model.errors import InvalidInput
from paddock.model.records import PutReport
from paddock.model.services import OnTransfer, Paddock

STANDARD_INPUT = "-"


def put(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="REPO[@BRANCH][:/PATH]",
            help="Where to. A file goes to the path itself, or below it where the path ends in '/' or is missing.",
        ),
    ],
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE…", help="Files and folders; '-' is standard input (needs a path).")
    ],
    append: Annotated[bool, typer.Option("--append", help="Append to files that exist.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also remove files below the path that the folder does not have.")
    ] = False,
    json: Json = False,
) -> None:
    """Put files or folders into a repo, as one commit.

    Overwrites by default. A folder's content goes below the path; a source's unchanged files are not read again.
    Several sources on a branch without an open commit make one commit together.
    """
    session = session_of(context)
    _check(target, sources, mirror=mirror)
    session.interrupted = "interrupted; nothing was committed, run it again"
    with transfer_progress("put") as on_transfer:
        reports = _put_all(
            session.paddock, session.name(target), sources, append=append, mirror=mirror, on_transfer=on_transfer
        )
    if json:
        output.document(reports[0] if len(reports) == 1 else reports)
        return
    for report in reports:
        output.line(_said(report))


def _check(target: str, sources: list[str], *, mirror: bool) -> None:
    if STANDARD_INPUT in sources and (mirror or sources.count(STANDARD_INPUT) > 1):
        raise InvalidInput("standard input ('-') can be put once, and not with --mirror; name files instead")
    address = parse_address(target)
    if STANDARD_INPUT in sources and (address.path in (None, "/") or target.endswith("/")):
        raise InvalidInput(f"standard input has no file name; write one, as in {address.repo.repo}@{address.ref}:/name")
    if mirror and len(sources) > 1:
        raise InvalidInput("--mirror takes one source, since the target is to equal it; put the others by themselves")


def _put_all(
    paddock: Paddock, target: str, sources: list[str], *, append: bool, mirror: bool, on_transfer: OnTransfer
) -> list[PutReport]:
    """Put every source; several on a branch go into one commit, which is abandoned if one of them fails."""
    opened: str | None = None
    if len(sources) > 1:
        opened = _open_commit(paddock, target)
    try:
        reports = [
            _put_one(paddock, target, source, append=append, mirror=mirror, on_transfer=on_transfer)
            for source in sources
        ]
    except BaseException:
        if opened is not None:
            paddock.commits.abandon(opened)
        raise
    if opened is not None:
        paddock.commits.finish(opened)
    return reports


def _open_commit(paddock: Paddock, target: str) -> str | None:
    """Open a commit on the target's branch and name it; None where one is open already, which then takes the puts."""
    address = parse_address(target)
    branch = f"{address.repo}@{address.ref}"
    if address.ref.commit_id is not None or any(
        found.name == address.ref.name and found.open_commit is not None
        for found in paddock.branches.list(str(address.repo))
    ):
        return None
    return f"{address.repo}@{paddock.commits.start(branch).id}"


def _put_one(
    paddock: Paddock, target: str, source: str, *, append: bool, mirror: bool, on_transfer: OnTransfer
) -> PutReport:
    if source == STANDARD_INPUT:
        return paddock.files.put(target, sys.stdin.buffer, append=append)
    path = Path(source)
    if _is_stream(path):
        with path.open("rb") as stream:
            return paddock.files.put(_below(target, path.name), stream, append=append)
    return paddock.files.put_tree(target, path, append=append, mirror=mirror, on_transfer=on_transfer)


def _is_stream(path: Path) -> bool:
    """Whether the source is a pipe, such as a shell's `<(command)`."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode) and str(path).startswith(("/dev/fd/", "/proc/"))
    except OSError:
        return False


def _below(target: str, name: str) -> str:
    head, colon, path = target.partition(":")
    if colon and path and not path.endswith("/"):
        return target
    return f"{head}:{path.rstrip('/')}/{name}"


def _said(report: PutReport) -> str:
    what = f"{output.count(report.files, 'file')}, {output.size(report.bytes)}"
    changes = f"{report.changed} changed, {report.removed} removed"
    if report.commit is None:
        return f"nothing changed ({what})"
    return f"put {what} ({changes}) in {output.duration(report.seconds)}; commit {report.commit}"


def get(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="REPO[@REF][:/PATH]", help="A file or directory.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="TARGET", help="A local file or folder.")] = Path(),
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Also remove files that an earlier get --mirror wrote and the source no longer has."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Get a file or folder out of a repo.

    Files that Paddock did not write are never removed.
    """
    session = session_of(context)
    session.interrupted = "interrupted; files written so far are whole and stay, run it again for the rest"
    with transfer_progress("get") as on_transfer:
        report = session.paddock.files.get_tree(session.name(source), target, mirror=mirror, on_transfer=on_transfer)
    if json:
        output.document(report)
        return
    removed = f", {report.removed} removed" if mirror else ""
    what = f"{output.count(report.files, 'file')}, {output.size(report.bytes)}"
    output.line(f"got {what} ({report.written} written{removed}) in {output.duration(report.seconds)}")
