"""`paddock branch …`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Json
from paddock.cli.session import session_of

app = group_app("Movable names for commits.")
Name = Annotated[str, typer.Argument(metavar="REPO@BRANCH", help="The branch.")]


@app.command("create")
def create(
    context: typer.Context,
    branch: Name,
    head: Annotated[
        str | None, typer.Option("--head", metavar="REF", help="A branch or commit of the repo to point at.")
    ] = None,
    provenance: Annotated[
        list[str] | None,
        typer.Option("--provenance", "-p", metavar="REPO@BRANCH", help="A branch it is made from; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Create a branch, or move one that exists."""
    session = session_of(context)
    sources = [session.name(source) for source in provenance or ()]
    made = session.paddock.branches.create(session.name(branch), head=head, provenance=sources)
    if json:
        output.document(made)
    else:
        where = f" at {made.head}" if made.head else ""
        output.line(f"branch {output.short_name(made.project, made.repo)}@{made.name}{where}")


@app.command("list")
def list_(
    context: typer.Context,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="The repo.")],
    json: Json = False,
) -> None:
    """List the branches of a repo."""
    session = session_of(context)
    found = session.paddock.branches.list(session.name(repo))
    if json:
        output.document(found)
        return
    rows = ((item.name, item.head or "-", item.open_commit or "-", ", ".join(item.provenance) or "-") for item in found)
    output.table(("name", "head", "open commit", "provenance"), rows, empty=f"{repo} has no branches yet")


@app.command("inspect")
def inspect(context: typer.Context, branch: Name, json: Json = False) -> None:
    """Show one branch."""
    session = session_of(context)
    found = session.paddock.branches.inspect(session.name(branch))
    if json:
        output.document(found)
        return
    output.fields(
        (
            ("name", f"{found.project}/{found.repo}@{found.name}"),
            ("head", found.head),
            ("open commit", found.open_commit),
            ("provenance", ", ".join(found.provenance)),
            ("created", output.moment(found.created)),
        )
    )


@app.command("delete")
def delete(context: typer.Context, branch: Name, json: Json = False) -> None:
    """Delete a branch; its commits survive."""
    session = session_of(context)
    session.paddock.branches.delete(session.name(branch))
    if json:
        output.document({"deleted": session.name(branch)})
    else:
        output.line(f"deleted branch {branch}")
