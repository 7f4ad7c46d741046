"""`paddock repo …`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Description, Json
from paddock.cli.session import session_of

app = group_app("Versioned file systems.")
Name = Annotated[str, typer.Argument(metavar="REPO", help="Its name, [project/]repo.")]


@app.command("create")
def create(context: typer.Context, repo: Name, description: Description = "", json: Json = False) -> None:
    """Create an empty repo."""
    session = session_of(context)
    created = session.paddock.repos.create(session.name(repo), description=description)
    if json:
        output.document(created)
    else:
        output.line(f"created repo {output.short_name(created.project, created.name)}")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List repos, of all projects or of the one that --project names."""
    session = session_of(context)
    found = session.paddock.repos.list(project=session.chosen_project)
    if json:
        output.document(found)
        return
    rows = (
        (
            output.short_name(repo.project, repo.name),
            repo.kind.value,
            repo.files,
            output.size(repo.size_bytes),
            ",".join(repo.branches) or "-",
            output.moment(repo.created),
            repo.description,
        )
        for repo in found
    )
    headers = ("name", "kind", "files", "size", "branches", "created", "description")
    output.table(headers, rows, empty="no repos; `paddock repo create NAME` makes one")


@app.command("inspect")
def inspect(context: typer.Context, repo: Name, json: Json = False) -> None:
    """Show one repo."""
    session = session_of(context)
    found = session.paddock.repos.inspect(session.name(repo))
    if json:
        output.document(found)
        return
    output.fields(
        (
            ("name", f"{found.project}/{found.name}"),
            ("kind", found.kind.value),
            ("description", found.description),
            ("branches", ", ".join(found.branches)),
            ("files", str(found.files)),
            ("size", output.size(found.size_bytes)),
            ("created", output.moment(found.created)),
        )
    )


@app.command("delete")
def delete(context: typer.Context, repo: Name, json: Json = False) -> None:
    """Delete a repo, with all its commits, that nothing reads."""
    session = session_of(context)
    session.paddock.repos.delete(session.name(repo))
    if json:
        output.document({"deleted": session.name(repo)})
    else:
        output.line(f"deleted repo {repo}")
