"""`paddock fsck`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.errors import Corrupt, InvalidInput
from paddock.model.store_records import CheckReport

SHOWN = 50


def fsck(
    context: typer.Context,
    data: Annotated[bool, typer.Option("--data", help="Also read and verify every stored byte.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild the chunk index, and mend what can be mended.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="With --repair: a folder of files, or a home, that has lost bytes."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that everything stored can be read; name the files that damage hits, and repair it.

    Fails where damage is left.
    """
    if source is not None and not repair:
        raise InvalidInput("--from names where a repair takes lost bytes from; give --repair too")
    session = session_of(context)
    session.interrupted = "interrupted; what was repaired so far stays"
    report = session.paddock.store.check(data=data, repair=repair, source=source)
    if json:
        output.document(report)
    else:
        _show(report)
    if not report.sound:
        hit = output.count(report.files_hit, "file")
        if report.others:
            hit += f" and {output.count(len(report.others), 'other object')}, named above,"
        raise Corrupt(f"{output.count(len(report.damages), 'damage')} found; {hit} can't be read in full")


def _show(report: CheckReport) -> None:
    for line in report.repaired:
        output.line(line)
    _list("damage", [f"{damage.kind.value}: {damage.message}" for damage in report.damages], len(report.damages))
    _list("can't be read", report.files, report.files_hit)
    _list("hit", report.others, len(report.others))
    depth = "every byte read" if report.data else "references only; --data reads every byte"
    packs, chunks = output.count(report.packs, "pack"), output.count(report.chunks, "chunk")
    state = "sound" if report.sound else "damaged"
    output.line(f"{state}: {packs}, {chunks}, {output.size(report.bytes)} ({depth})")


def _list(name: str, lines: tuple[str, ...] | list[str], total: int) -> None:
    for line in lines[:SHOWN]:
        output.line(f"{name}: {output.printable(line)}")
    if total > SHOWN:
        output.line(f"{name}: and {total - min(SHOWN, len(lines))} more; --json names them")
