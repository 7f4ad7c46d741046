"""`paddock init`: make a home, and choose where its data is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import session_of
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import InvalidInput
from paddock.versions.home import HOME_DIRECTORY, HOME_FILE


def init(
    context: typer.Context,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Keep the bulk data there: s3://bucket/prefix, gs://…, az://… or file:///folder. Default: in the home.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a home, and choose where its data is kept.

    The home is --home, else `.paddock` in this folder. Only needed to choose where the data is kept; any other command makes a home where there is none. On a home that exists
    it changes nothing, and fails where that keeps its data elsewhere.
    """
    session = session_of(context)
    if session.url is not None:
        raise InvalidInput("a server's home is made where it lies; name it with --home, without --url")
    named = Path(session.home) if session.home is not None else session.settings.home
    path = (named or Path.cwd() / HOME_DIRECTORY).expanduser().absolute()
    existed = (path / HOME_FILE).exists()
    with EmbeddedPaddock.open(path, storage=storage, settings=session.settings) as paddock:
        # A store that can't be reached, or refuses the credentials, says so now.
        paddock.home.check_storage()
        place = paddock.home.objects_place
    if json:
        output.document({"home": str(path), "storage": place, "made": not existed})
    else:
        output.line(f"home {path} {'is there already' if existed else 'made'}; its data is kept in {place}")
