"""`paddock put` and `get`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.progress import transfer_progress
from paddock.cli.session import session_of
from paddock.client.archives import translated
from paddock.client.hints import expect_put
from paddock.model.addresses import parse_address
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.records import PutReport
from paddock.model.services import OnTransfer, Paddock

STANDARD_INPUT = STANDARD_OUTPUT = "-"
CONCURRENCY = 8
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, max=256, help="With URLs: how many transfers run at once.")
]


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
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Files, folders and URLs (http, https, s3, gs, az, file); '-' is standard input (needs a path, or --extract).",
        ),
    ],
    append: Annotated[bool, typer.Option("--append", help="Append to files that exist.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also remove files below the path that the folder does not have.")
    ] = False,
    extract: Annotated[
        bool,
        typer.Option(
            "--extract",
            help="Put the files in archives (tar, also with gzip, bzip2, xz or zstd, or zip) instead of the archives.",
        ),
    ] = False,
    concurrency: Concurrency = CONCURRENCY,
    json: Json = False,
) -> None:
    """Put files or folders into a repo, as one commit.

    Overwrites by default. A folder's content goes below the path; a source's unchanged files are not read again.
    Several sources on a branch without an open commit make one commit together.
    """
    session = session_of(context)
    _check(target, sources, mirror=mirror, extract=extract)
    if not extract and sources[0] != STANDARD_INPUT:
        expect_put(sources[0])
    session.interrupted = "interrupted; nothing was committed, run it again: what was sent is not sent again"
    with transfer_progress("put") as on_transfer:
        put_one = _Putting(session.paddock, session.name(target), append, mirror, extract, concurrency, on_transfer)
        reports = _put_all(put_one, sources)
    if json:
        output.document(reports[0] if len(reports) == 1 else reports)
        return
    for report in reports:
        output.line(_said(report))


def _check(target: str, sources: list[str], *, mirror: bool, extract: bool) -> None:
    if STANDARD_INPUT in sources and (sources.count(STANDARD_INPUT) > 1 or (mirror and not extract)):
        raise InvalidInput("standard input ('-') can be put once, and not with --mirror; name files instead")
    address = parse_address(target)
    named = address.path not in (None, "/") and not target.endswith("/")
    if STANDARD_INPUT in sources and not (named or extract):
        raise InvalidInput(
            f"standard input has no file name; write one, as in {address.repo.repo}@{address.ref}:/name, or unpack it with "
            "--extract"
        )
    urls = [source for source in sources if _is_url(source)]
    if extract and urls:
        raise InvalidInput(
            f"--extract reads local archives and standard input, not {urls[0]}; pipe it in: curl … | paddock put … - --extract"
        )
    if mirror and len(sources) > 1:
        raise InvalidInput("--mirror takes one source, since the target is to equal it; put the others by themselves")


@dataclass(frozen=True, slots=True)
class _Putting:
    """Puts one source after the other to one target."""

    paddock: Paddock
    target: str
    append: bool
    mirror: bool
    extract: bool
    concurrency: int
    on_transfer: OnTransfer

    def __call__(self, source: str) -> PutReport:
        path = Path(source)
        if self.extract:
            return self._extract(source)
        if _is_url(source):
            return self.paddock.files.put_url(
                self.target,
                source,
                append=self.append,
                mirror=self.mirror,
                concurrency=self.concurrency,
                on_transfer=self.on_transfer,
            )
        if source == STANDARD_INPUT:
            return self.paddock.files.put(self.target, sys.stdin.buffer, append=self.append)
        if _is_stream(path):
            with path.open("rb") as stream:
                return self.paddock.files.put(_below(self.target, path.name), stream, append=self.append)
        return self.paddock.files.put_tree(
            self.target, path, append=self.append, mirror=self.mirror, on_transfer=self.on_transfer
        )

    def _extract(self, source: str) -> PutReport:
        with ExitStack() as stack:
            stream: BinaryIO = sys.stdin.buffer
            if source != STANDARD_INPUT:
                if Path(source).is_dir():
                    raise InvalidInput(f"{source} is a folder, not an archive; put it without --extract")
                with translated(Path(source)):
                    stream = stack.enter_context(Path(source).open("rb"))
            try:
                return self.paddock.files.put_archive(
                    self.target, stream, append=self.append, mirror=self.mirror, on_transfer=self.on_transfer
                )
            except InvalidInput as error:
                raise InvalidInput(f"{source}: {error.message}", problems=error.problems) from None


def _put_all(put_one: _Putting, sources: list[str]) -> list[PutReport]:
    """Put every source; several on a branch go into one commit, which is abandoned if one of them fails."""
    paddock, opened = put_one.paddock, None
    if len(sources) > 1:
        opened = _open_commit(paddock, put_one.target)
    try:
        reports = [put_one(source) for source in sources]
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


def _is_url(text: str) -> bool:
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.isalnum()


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
    target: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="TARGET",
            help="A local file or folder, or a URL (s3, gs, az, file); default: here. With --format the archive's file; '-', its default, is standard output.",
        ),
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Also remove files that an earlier get --mirror wrote and the source no longer has."
        ),
    ] = False,
    format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="As one archive: tar, tar.gz, tar.zst or zip.")
    ] = None,
    concurrency: Concurrency = CONCURRENCY,
    json: Json = False,
) -> None:
    """Get a file or folder out of a repo.

    Files that are there already, equal, are left alone; files that Paddock did not write are never removed.
    """
    session = session_of(context)
    if mirror and target is not None and _is_url(target):
        raise InvalidInput(f"--mirror removes files, which it does not do in {target}; leave it out")
    if format is not None:
        if mirror or json:
            raise InvalidInput("--format writes one archive, which has no --mirror and no --json; leave them out")
        if target is not None and _is_url(target):
            raise InvalidInput(f"an archive can't be written to {target}; write it to a file, or leave out --format")
        _get_archive(session.paddock.files.get_archive(session.name(source), format=format), target)
        return
    session.interrupted = "interrupted; files written so far are whole and stay, run it again for the rest"
    with transfer_progress("get") as on_transfer:
        files, name = session.paddock.files, session.name(source)
        if target is not None and _is_url(target):
            report = files.get_url(name, target, concurrency=concurrency, on_transfer=on_transfer)
        else:
            report = files.get_tree(name, Path(target or "."), mirror=mirror, on_transfer=on_transfer)
    if json:
        output.document(report)
        return
    removed = f", {report.removed} removed" if mirror else ""
    what = f"{output.count(report.files, 'file')}, {output.size(report.bytes)}"
    output.line(f"got {what} ({report.written} written{removed}) in {output.duration(report.seconds)}")


def _get_archive(pieces: Iterator[bytes], target: str | None) -> None:
    """To standard output, or to a file that appears whole or not at all."""
    if target in (None, STANDARD_OUTPUT):
        if sys.stdout.isatty():
            raise InvalidInput("an archive does not go to a terminal; name a file with -o, or redirect the output")
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    assert target is not None, "None is standard output"
    place = Path(target)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    with translated(place):
        try:
            with partial.open("wb") as file:
                size = sum(file.write(piece) for piece in pieces)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    output.line(f"wrote {place} ({output.size(size)})")
