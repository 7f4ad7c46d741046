"""`paddock gc`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.errors import InvalidInput
from paddock.model.store_records import GarbageReport, PackFate
from paddock.pipelines.durations import parse_duration

_REASONS = {
    PackFate.UNUSED: "nothing refers to them",
    PackFate.SPARSE: "less than half was in use, and was copied elsewhere",
    PackFate.ORPHAN: "no commit came to name them",
    PackFate.UNFINISHED: "their writer did not finish them",
    PackFate.YOUNG: "garbage, but younger than the grace period: kept",
    PackFate.HELD: "garbage, but a put, job or reader is at work: left to the next gc",
    PackFate.PARTLY_USED: "more than half is in use: kept",
}


def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="Keep garbage younger than this (90s, 2h; 0 for none).")
    ] = "1h",
    json: Json = False,
) -> None:
    """Remove stored bytes that nothing refers to any more; safe while others put and compute."""
    session = session_of(context)
    session.interrupted = "interrupted; nothing that is in use was removed, `paddock gc` goes on from there"
    report = session.paddock.store.collect_garbage(grace_seconds=_seconds(grace), dry_run=dry_run)
    if json:
        output.document(report)
    else:
        _show(report)


def _seconds(text: str) -> float:
    if text in ("0", "0s"):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidInput(f"--grace: {error}") from None


def _show(report: GarbageReport) -> None:
    counts = Counter(each.fate for each in report.garbage)
    rows = (
        (fate.value, counts[fate], output.size(report.garbage_bytes(fate)), _REASONS[fate])
        for fate in PackFate
        if counts[fate]
    )
    output.table(("packs", "number", "garbage", "why"), rows, empty="no garbage")
    if report.dropped_results:
        verb = "would be given up" if report.dry_run else "given up"
        output.line(
            f"{output.count(report.dropped_results, 'run')} of kept results {verb}: no pipeline has their transform, or the limits say so"
        )
    verb = "would free" if report.dry_run else "freed"
    output.line(
        f"{verb} {output.size(report.freed_bytes)} of {output.size(report.bytes)} in {output.count(report.packs, 'pack')}"
    )
