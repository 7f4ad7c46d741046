"""`paddock pool …`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Description, Json
from paddock.cli.session import session_of

NAMES_SHOWN = 4

app = group_app("Workers on other machines: who is there, and who may join.")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List pools: their workers (wanted and not started, started and not joined, idle, busy), whom they serve, and what is wrong."""
    found = session_of(context).paddock.pools.list()
    if json:
        output.document(found)
        return
    rows = (
        (
            item.name,
            item.engine,
            item.waiting,
            item.started,
            item.idle,
            item.busy,
            _names(item.pipelines),
            item.reason,
        )
        for item in found
    )
    headers = ("pool", "engine", "waiting", "started", "idle", "busy", "pipelines", "reason")
    output.table(headers, rows, empty="no pools with workers of their own; a server's own workers are in none of these")


def _names(pipelines: Sequence[str]) -> str:
    """The first ones: a table with all of fifty has no lines any more. `--json` has all."""
    hidden = len(pipelines) - NAMES_SHOWN
    return ", ".join(pipelines[:NAMES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")


@app.command("token")
def token(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool that workers with it serve.")],
    description: Description = "",
    json: Json = False,
) -> None:
    """Make a token with which `paddock worker` may join a pool. It is printed once and kept nowhere."""
    made = session_of(context).paddock.pools.create_token(pool, description=description)
    if json:
        output.document(made)
    else:
        output.line(made.secret)


@app.command("tokens")
def tokens(context: typer.Context, json: Json = False) -> None:
    """List the tokens that are valid, without their secrets."""
    found = session_of(context).paddock.pools.list_tokens()
    if json:
        output.document(found)
        return
    rows = ((item.id, item.pool, output.moment(item.created), item.description) for item in found)
    output.table(("id", "pool", "created", "description"), rows, empty="no tokens; `paddock pool token POOL` makes one")


@app.command("revoke")
def revoke(
    context: typer.Context,
    id: Annotated[int, typer.Argument(metavar="ID", help="As `paddock pool tokens` lists it.")],
    json: Json = False,
) -> None:
    """Make a token invalid: workers that have it are refused within seconds, and their batches go to others."""
    session_of(context).paddock.pools.delete_token(id)
    if json:
        output.document({"revoked": id})
    else:
        output.line(f"token {id} is not valid any more")
