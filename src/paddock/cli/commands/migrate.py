"""`paddock migrate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import note_password, session_of
from paddock.client.embedded import migrate_home
from paddock.model.errors import InvalidInput

TOLD_SECONDS = 5.0
"""How often it is said how far it is."""


def migrate(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="HOME", help="The folder of the home.")],
    target: Annotated[
        str, typer.Argument(metavar="CATALOG", help="An empty PostgreSQL database: postgresql://USER@HOST/DATABASE.")
    ],
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Where its bulk data goes. Default: PADDOCK_STORAGE."),
    ] = None,
    json: Json = False,
) -> None:
    """Move a home from a folder to a PostgreSQL database and an object store.

    Every chunk is read and checked, every pack copied and read back, then all of the catalog copied in one transaction. Nobody may
    have the home open meanwhile. The folder stays as it is: remove it when you have seen the new place. After an error, call it
    again: what is there is not copied anew.
    """
    session = session_of(context)
    note_password(target)
    place = storage or session.settings.storage
    if place is None:
        raise InvalidInput("name where the home's bulk data goes: --storage s3://bucket/prefix")
    session.interrupted = "interrupted; the home is where it was, and the same command goes on"
    report = migrate_home(source, target, storage=place, on_pack=_Told())
    if json:
        output.document(report)
    else:
        output.line(
            f"moved {source} to {place} and its catalog: {report.packs} packs ({report.packs_copied} copied, "
            f"{output.size(report.bytes_copied)}), {report.rows} rows"
        )


class _Told:
    def __init__(self) -> None:
        self._next = time.monotonic() + TOLD_SECONDS

    def __call__(self, packs: int, total: int) -> None:
        if time.monotonic() >= self._next or (packs == total and total > 0):
            self._next = time.monotonic() + TOLD_SECONDS
            next_part = "; now the catalog" if packs == total else ""
            output.note(f"{packs} of {output.count(total, 'pack')} checked and copied{next_part}")
