"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.model.errors import InvalidInput
from paddock.pipelines.shares import parse_share

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Show at most so many.")]
Description = Annotated[str, typer.Option("--description", "-d", help="A line for other people.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=1, help="Worker processes. Default: PADDOCK_WORKERS, else one for each core."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute all datums, whatever results are kept; the new ones replace them.")
]
Audit = Annotated[
    str | None,
    typer.Option("--audit", metavar="SHARE", help="Compute this share (5%) of the reused datums again, and compare."),
]
KeepResults = Annotated[
    bool,
    typer.Option(
        "--keep-results", help="Where only code or command changed, keep the results that there are for equal inputs."
    ),
]
JobAddress = Annotated[
    str, typer.Argument(metavar="PIPELINE[@ID]", help="A job; without an id, the newest of the pipeline.")
]


def audit_share(text: str | None) -> float | None:
    """What `--audit` says; InvalidInput where it is no share."""
    if text is None:
        return None
    try:
        return parse_share(text)
    except ValueError as error:
        raise InvalidInput(f"--audit: {error}") from None
