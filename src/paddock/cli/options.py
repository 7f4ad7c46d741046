"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Show at most so many.")]
Description = Annotated[str, typer.Option("--description", "-d", help="A line for other people.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=1, help="Worker processes. Default: PADDOCK_WORKERS, else one for each core."),
]
JobAddress = Annotated[
    str, typer.Argument(metavar="PIPELINE[@ID]", help="A job; without an id, the newest of the pipeline.")
]
