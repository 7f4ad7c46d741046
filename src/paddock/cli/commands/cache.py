"""`paddock cache …`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Json
from paddock.cli.reuse import reuse_fields
from paddock.cli.session import session_of
from paddock.model.cache_records import CachePolicy, CacheReport, EvictionReport, KeptResults
from paddock.model.errors import InvalidInput
from paddock.model.sizes import parse_size
from paddock.pipelines.durations import parse_duration
from paddock.pipelines.shares import parse_share

NONE = "none"
Value = TypeVar("Value")

app = group_app("Kept results, which unchanged datums need not be computed for.")
Bytes = Annotated[str | None, typer.Option("--bytes", metavar="SIZE", help="Keep at most so much (500Mi, 20G).")]
Age = Annotated[
    str | None,
    typer.Option("--age", metavar="DURATION", help="Keep what was made or found within this time (12h, 720h)."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


@app.command("inspect")
def inspect(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Only what its versions keep.")] = None,
    json: Json = False,
) -> None:
    """Show what results are kept, the limits, and how often they served."""
    session = session_of(context)
    report = session.paddock.cache.inspect(pipeline=None if pipeline is None else session.name(pipeline))
    if json:
        output.document(report)
        return
    _show(report)


@app.command("limit")
def limit(
    context: typer.Context,
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="Most bytes of kept results (20G), or 'none'.")
    ] = None,
    age: Annotated[
        str | None,
        typer.Option("--age", metavar="DURATION", help="Longest time without being made or found (720h), or 'none'."),
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(
            "--audit", metavar="SHARE", help="Share of the reused datums that jobs compute again (1%; 0: none)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Set limits of the home; those that are not named stay. They hold from the next job or `paddock gc` on."""
    session = session_of(context)
    policy = session.paddock.cache.inspect().policy
    if size is not None:
        policy = dataclasses.replace(policy, bytes_max=_limit("--bytes", size, parse_size))
    if age is not None:
        policy = dataclasses.replace(policy, age_seconds_max=_limit("--age", age, parse_duration))
    if audit is not None:
        policy = dataclasses.replace(policy, audit_share=_parsed("--audit", audit, parse_share))
    policy = session.paddock.cache.set_policy(policy)
    if json:
        output.document(policy)
    else:
        output.fields(_limits(policy))


@app.command("evict")
def evict(
    context: typer.Context, size: Bytes = None, age: Age = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Give up kept results, longest unused first, until the named limits hold; without any, the home's.

    Jobs and commits still show what they show. `paddock gc` then frees what nothing else refers to.
    """
    session = session_of(context)
    report = session.paddock.cache.evict(
        bytes_max=None if size is None else _parsed("--bytes", size, _size_or_zero),
        age_seconds_max=None if age is None else _parsed("--age", age, _duration_or_zero),
        dry_run=dry_run,
    )
    _say(report, json)


@app.command("clear")
def clear(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Only what its versions keep.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give up all kept results, or one pipeline's. Datums that are as in the last good job still need not run."""
    session = session_of(context)
    name = None if pipeline is None else session.name(pipeline)
    _say(session.paddock.cache.clear(pipeline=name, dry_run=dry_run), json)


def _show(report: CacheReport) -> None:
    output.fields(
        (
            ("kept results", f"{report.results} ({output.size(report.bytes)})"),
            *_limits(report.policy),
            *reuse_fields(report.reuse),
        )
    )
    if report.kept:
        output.line("")
        output.table(("transform", "results", "bytes", "last used", "pipelines"), map(_row, report.kept), empty="")


def _limits(policy: CachePolicy) -> Sequence[tuple[str, object]]:
    age = policy.age_seconds_max
    return (
        ("most bytes", NONE if policy.bytes_max is None else output.size(policy.bytes_max)),
        ("longest unused", NONE if age is None else output.duration(age)),
        ("audited share", f"{100 * policy.audit_share:.4g}%"),
    )


def _row(kept: KeptResults) -> tuple[object, ...]:
    names = ", ".join(kept.pipelines) or "-"
    return kept.transform[:12], kept.results, output.size(kept.bytes), output.moment(kept.used), names


def _say(report: EvictionReport, json: bool) -> None:
    if json:
        output.document(report)
        return
    rows = map(_row, report.gone)
    output.table(("transform", "results", "bytes", "last used", "pipelines"), rows, empty="nothing to give up")
    verb = "would give up" if report.dry_run else "gave up"
    output.line(
        f"{verb} {output.count(report.results, 'result')} ({output.size(report.bytes)}); "
        f"{report.left_results} stay ({output.size(report.left_bytes)})"
    )
    if report.results and not report.dry_run:
        output.note("`paddock gc` frees what no job or commit refers to either")


def _limit(option: str, text: str, parse: Callable[[str], Value]) -> Value | None:
    return None if text == NONE else _parsed(option, text, parse)


def _parsed(option: str, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from None


def _size_or_zero(text: str) -> int:
    return 0 if text == "0" else parse_size(text)


def _duration_or_zero(text: str) -> float:
    return 0.0 if text in ("0", "0s") else parse_duration(text)
