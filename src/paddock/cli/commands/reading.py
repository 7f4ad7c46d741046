"""`paddock ls`, `cat` and `glob`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.records import FileInfo, FileKind

Place = Annotated[str, typer.Argument(metavar="REPO[@REF][:/PATH]", help="A file or directory; default: the root.")]


def ls(
    context: typer.Context,
    address: Place,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All files below, not only children.")] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="Also size, kind and digest.")] = False,
    json: Json = False,
) -> None:
    """List files.

    They are sorted by path; directories end in a slash.
    """
    session = session_of(context)
    _show(session.paddock.files.list(session.name(address), recursive=recursive), long=long, json=json)


def glob(
    context: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="REPO[@REF]:/PATTERN", help="For example 'images:/*/*.png', in quotes.")
    ],
    long: Annotated[bool, typer.Option("--long", "-l", help="Also size, kind and digest.")] = False,
    json: Json = False,
) -> None:
    """List the files and directories that match a pattern.

    What is listed is what a pipeline's input with that glob would see, one datum a line.
    """
    session = session_of(context)
    _show(session.paddock.files.glob(session.name(address)), long=long, json=json)


def cat(
    context: typer.Context,
    addresses: Annotated[list[str], typer.Argument(metavar="REPO[@REF]:/PATH…", help="Files, printed in turn.")],
    offset: Annotated[int, typer.Option("--offset", min=0, help="Start at this byte.")] = 0,
    length: Annotated[int | None, typer.Option("--length", min=0, help="Print at most so many bytes.")] = None,
) -> None:
    """Print the bytes of files."""
    session = session_of(context)
    for address in addresses:
        for piece in session.paddock.files.read(session.name(address), offset=offset, length=length):
            sys.stdout.buffer.write(piece)


def _show(files: Iterable[FileInfo], *, long: bool, json: bool) -> None:
    if json:
        output.document_stream(files)
        return
    for file in files:
        mark = "/" if file.kind is FileKind.DIRECTORY and file.path != "/" else ""
        path = output.printable(file.path) + mark
        if long:
            kind = "x" if file.executable else file.kind.value[0]
            output.line(f"{kind}  {output.size(file.size_bytes):>10}  {file.digest[:16]}  {path}")
        else:
            output.line(path)
