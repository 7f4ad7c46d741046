"""`paddock upgrade`: bring a home that an older Paddock wrote up to date."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.model.errors import InvalidInput
from paddock.versions import upgrade as upgrades
from paddock.versions.home import find_home
from paddock.versions.upgrade import HomeVersions, Versions

INTERRUPTED = "interrupted: call `paddock upgrade` to go on, or `paddock upgrade --undo` to go back"


def upgrade(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only say what would be done.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back an upgrade that has not finished.")] = False,
    json: Json = False,
) -> None:
    """Bring a home that an older Paddock wrote up to date.

    No process may have the home open. An upgrade that was cut off goes on when it is called again; until it has finished it
    can be taken back.
    """
    session = session_of(context)
    if session.remote:
        raise InvalidInput("a server's home is upgraded where it lies: stop the server, then name the home with --home")
    if check and undo:
        raise InvalidInput("--check and --undo exclude each other; give one of them")
    if session.home is None and session.settings.catalog is not None:
        if check or undo:
            raise InvalidInput(
                "a catalog on a server has neither --check nor --undo: take a dump first, and restore it to go back"
            )
        from paddock.versions.shared_home import upgrade_shared

        found_schema, schema = upgrade_shared(session.settings.catalog)
        news = f"the catalog went from version {found_schema} to {schema}"
        told = {"upgraded": True, "before": found_schema, "after": schema}
        _show(json, told, news if found_schema < schema else "the catalog is up to date")
        return
    home = session.home if session.home is not None else session.settings.home
    path = find_home(None if home is None else os.fspath(home))
    if undo:
        before = upgrades.undo(path)
        _show(json, {"home": str(path), "undone": True}, f"home {path} is at {_text(before)} again")
    elif check:
        found = upgrades.inspect_versions(path)
        _show(json, found, _plan(found))
    else:
        session.interrupted = INTERRUPTED
        found = upgrades.upgrade(path)
        done = f"home {path} went from {_text(found.present)} to {_text(found.newest)}"
        _show(json, found, f"home {path} is up to date" if found.current else done)


def _show(json: bool, document: object, line: str) -> None:
    if json:
        output.document(document)
    else:
        output.line(line)


def _plan(found: HomeVersions) -> str:
    if found.current:
        return f"home {found.home} is up to date: {_text(found.present)}"
    begun = "; an upgrade was begun" if found.unfinished else ""
    return f"home {found.home} is at {_text(found.present)}, this Paddock writes {_text(found.newest)}{begun}"


def _text(versions: Versions) -> str:
    return f"format {versions.format}, catalog {versions.schema}"
