"""`paddock tag …`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Description, Json
from paddock.cli.session import session_of

app = group_app("Names for commits that never move.")
Name = Annotated[str, typer.Argument(metavar="REPO@TAG", help="The tag.")]


@app.command("create")
def create(
    context: typer.Context,
    tag: Name,
    commit: Annotated[str, typer.Argument(metavar="REF", help="A branch or commit of the repo, such as main.")],
    description: Description = "",
    json: Json = False,
) -> None:
    """Name a commit for good: the tag never moves, and keeps its commit from being removed."""
    session = session_of(context)
    target = session.name(commit) if "@" in commit else commit
    made = session.paddock.tags.create(session.name(tag), target, description=description)
    if json:
        output.document(made)
    else:
        output.line(f"tag {output.short_name(made.project, made.repo)}@{made.name} is commit {made.commit}")


@app.command("list")
def list_(
    context: typer.Context,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="The repo.")],
    json: Json = False,
) -> None:
    """List the tags of a repo."""
    session = session_of(context)
    found = session.paddock.tags.list(session.name(repo))
    if json:
        output.document(found)
        return
    rows = ((item.name, item.commit, output.moment(item.created), item.description) for item in found)
    output.table(("name", "commit", "created", "description"), rows, empty=f"{repo} has no tags yet")


@app.command("delete")
def delete(context: typer.Context, tag: Name, json: Json = False) -> None:
    """Delete a tag; its commit stays."""
    session = session_of(context)
    session.paddock.tags.delete(session.name(tag))
    if json:
        output.document({"deleted": session.name(tag)})
    else:
        output.line(f"deleted tag {tag}")
