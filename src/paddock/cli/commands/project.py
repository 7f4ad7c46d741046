"""`paddock project …`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Description, Json
from paddock.cli.session import session_of
from paddock.model.records import Project

app = group_app("Namespaces of repos and pipelines.")
Name = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name.")]


@app.command("create")
def create(context: typer.Context, project: Name, description: Description = "", json: Json = False) -> None:
    """Create a project."""
    _show(session_of(context).paddock.projects.create(project, description=description), json, "created ")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List projects."""
    found = session_of(context).paddock.projects.list()
    if json:
        output.document(found)
        return
    rows = ((item.name, output.moment(item.created), item.description) for item in found)
    output.table(("name", "created", "description"), rows, empty="no projects")


@app.command("inspect")
def inspect(context: typer.Context, project: Name, json: Json = False) -> None:
    """Show one project."""
    found = session_of(context).paddock.projects.inspect(project)
    if json:
        output.document(found)
        return
    output.fields((("name", found.name), ("description", found.description), ("created", output.moment(found.created))))


@app.command("delete")
def delete(context: typer.Context, project: Name, json: Json = False) -> None:
    """Delete a project that holds nothing any more."""
    session_of(context).paddock.projects.delete(project)
    if json:
        output.document({"deleted": project})
    else:
        output.line(f"deleted project {project}")


def _show(project: Project, json: bool, verb: str) -> None:
    if json:
        output.document(project)
    else:
        output.line(f"{verb}project {project.name}")
