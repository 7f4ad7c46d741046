"""`paddock up`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from socket import socket
from typing import Annotated

import typer
from fastapi import FastAPI

from paddock.api.app import LOCAL_HOSTS, create_app
from paddock.api.server import address_for_others, address_of, listen, serve
from paddock.cli import output
from paddock.cli.log import start_log
from paddock.cli.options import Json
from paddock.cli.session import note_password, session_of
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import InvalidInput, PaddockError, PermissionDenied
from paddock.runtime.cluster import Cluster
from paddock.runtime.server import Server
from paddock.settings import engine_named

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1659


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Listen where other machines can connect. There is no authentication: whoever can, can run commands.",
        ),
    ] = False,
    catalog: Annotated[
        str | None,
        typer.Option(
            "--catalog",
            metavar="URL",
            help="PostgreSQL database of a home that many machines share. Default: PADDOCK_CATALOG.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URL", help="Where a new home keeps its bulk data. Default: PADDOCK_STORAGE."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            min=0,
            help="Worker processes here; 0 leaves all work to `paddock worker` elsewhere. Default: PADDOCK_WORKERS, else one"
            " for each core, and none with an --engine that starts workers.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="What starts the workers of pipelines that name no engine: local, slurm or kubernetes. Default: PADDOCK_ENGINE,"
            " else local.",
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise",
            metavar="URL",
            help="Where other hosts reach this server. Default: where it listens; by this machine's name, where that is on all addresses.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Serve the HTTP API, with scheduler and workers, until SIGTERM or Ctrl-C.

    Prints its address once it takes requests (with --json: {"url", "home", "workers"}). Jobs that are at work when it
    stops go on with the next server, or the next command that works on the home.
    """
    session = session_of(context)
    if session.url is not None:
        raise InvalidInput("`paddock up` serves a home; name it with --home, without --url")
    if host not in LOCAL_HOSTS and not allow_remote:
        raise PermissionDenied(
            f"listening on {host} lets other machines run commands here without a password;"
            " add --allow-remote if the network is trusted"
        )
    start_log()
    note_password(catalog or "")
    settings = session.settings
    if engine is not None:
        settings = dataclasses.replace(settings, engine=engine_named(engine, "--engine"))
    workers = settings.workers if workers is None else workers
    if workers is None and settings.engine != "local":
        workers = 0
    found = EmbeddedPaddock.find(session.home, catalog=catalog, storage=storage, settings=settings)
    with found as paddock, listen(host, port) as listener:
        url = address_of(listener)
        cluster = Cluster(paddock.home, url=advertise or address_for_others(listener), storage=paddock.home.storage)
        server = Server(
            paddock.home, workers=workers, options=paddock.worker_options, cluster=cluster, settings=settings
        )
        app = create_app(
            paddock,
            spool=paddock.home.path / "cache",
            hosts=None if allow_remote else LOCAL_HOSTS,
            cluster=cluster,
        )
        place = paddock.home.name
        serve_home(app, listener, server, on_ready=lambda: _announce(url, place, workers, json))


def serve_home(app: FastAPI, listener: socket, server: Server, *, on_ready: Callable[[], None]) -> None:
    """Serve and schedule until told to stop; `on_ready` is called once requests are accepted. Raises what ended the scheduler."""
    server.start()
    try:
        serve(app, listener, on_ready=on_ready, on_stop=server.let_agents_go, alive=lambda: server.alive)
    finally:
        output.note("stopping; unfinished jobs go on with the next start")
        server.stop()
    if isinstance(server.error, PaddockError):
        raise server.error
    if server.error is not None:
        raise RuntimeError(f"the scheduler ended: {server.error!r}") from server.error


def _announce(url: str, home: str, workers: int | None, json: bool) -> None:
    if json:
        output.document({"url": url, "home": home, "workers": workers})
    else:
        output.line(f"Paddock serves {home} at {url} (API: {url}/docs). Ctrl-C stops it.")
    output.flush()
