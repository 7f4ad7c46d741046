"""`paddock worker`."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.log import start_log
from paddock.cli.session import session_of
from paddock.client.agent import RETRY_SECONDS_MAX, Agent
from paddock.client.agent_uplink import HttpUplink, Terms
from paddock.model.errors import InvalidInput, PaddockError, Unavailable
from paddock.pipelines.durations import parse_duration
from paddock.runtime.engines.local import LocalEngine, RunnerOptions, WorkerOptions
from paddock.runtime.engines.machine import machine_capacity
from paddock.runtime.image_commands import FETCHING, WORKING, Image, fetch_image, find_image, is_fetched
from paddock.runtime.runner_link import connect_runner, has_ended
from paddock.runtime.sandbox import PFS
from paddock.settings import Settings
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.object_urls import open_place
from paddock.versions.storage_mark import check_mark

KEPT_BYTES_MAX = 10 << 30
LOG = logging.getLogger("paddock")
TOKEN_VARIABLE = "PADDOCK_WORKER_TOKEN"


def worker(
    context: typer.Context,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help=f"File with the token of a pool. Default: the variable {TOKEN_VARIABLE}."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Datums at once. Default: PADDOCK_WORKERS, else one a CPU.")
    ] = None,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Read and write the home's object store itself, and not through the server; its credentials are in the environment.",
        ),
    ] = False,
    scratch: Annotated[
        Path | None, typer.Option("--scratch", help="Where datums keep their files. Default: a temporary folder.")
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(
            "--patience",
            metavar="DURATION",
            help="How long to wait for a server, as 10m, before ending. Default: one has to be there at first, and is waited for"
            " for ever after that.",
        ),
    ] = None,
    runner: Annotated[
        Path | None,
        typer.Option(
            "--runner",
            help="Run datums in the container beside this one, whose runner listens at this socket; with one slot.",
        ),
    ] = None,
    pfs: Annotated[
        Path, typer.Option("--pfs", help="With --runner: the folder that both containers have as /pfs.")
    ] = Path(PFS),
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            help="Run datums in containers of this image, by Apptainer or Singularity: a file, a URI, or a name in a container registry.",
        ),
    ] = None,
    image_option: Annotated[
        list[str] | None,
        typer.Option(
            "--image-option", metavar="WORD", help="With --image: a word for `apptainer exec`, as --image-option=--nv."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What people call this host. Default: its name.")] = None,
) -> None:
    """Run datums for a server on another machine.

    Joins a pool, and works until SIGTERM or Ctrl-C. --url may name several servers of one home, separated by commas: the
    next is asked where one is gone. Those that it does not name are learnt from the others.

    SIGTERM and the first Ctrl-C let the datums that run come to their end and give the rest of their batches back; the second
    Ctrl-C ends at once. A broken connection is taken up again; after a long one the server has given the work to others.

    With --runner it joins when the runner is there, however long that takes, and ends with an error when the runner does.
    """
    session = session_of(context)
    url = session.url or session.settings.url
    if url is None:
        raise InvalidInput("name the server to work for: --url http://host:1659")
    urls = [each.strip() for each in url.split(",")]
    start_log()
    patience_seconds = None if patience is None else _seconds(patience)
    token = _token(token_file)
    settings = session.settings
    count = slots or (1 if runner is not None else settings.workers or len(os.sched_getaffinity(0)))
    if runner is not None and count > 1:
        raise InvalidInput(f"one runner serves one slot, and not {count}: leave --slots out, or start more containers")
    if runner is not None and image is not None:
        raise InvalidInput("--runner already says in which container commands run; leave --image out")
    found = None if image is None else find_image(image, image_option or ())
    # As process 1 of a container it would not end by itself before there is something to drain.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = None if runner is None else _beside(runner, pfs)
    with _scratch_folder(scratch) as folder:
        capacity = machine_capacity(Path(folder), workers=count, memory_bytes=settings.memory, gpus=settings.gpus)
        servers = Path(folder) / "servers"
        with closing(
            HttpUplink(urls, token, capacity=capacity, host=name, on_servers=partial(_note_servers, servers))
        ) as uplink:
            terms = _terms(uplink, patience_seconds or 0.0)
            options = WorkerOptions(
                settings.sandbox,
                settings.grace_seconds,
                settings.memory,
                settings.gpus,
                place,
                _kept_bytes(settings, folder),
                None if found is None else _here(found, Path(folder)),
            )
            _work(
                options,
                urls,
                token,
                uplink,
                terms,
                Path(folder),
                slots=count,
                direct=direct,
                patience=patience_seconds,
            )


@contextmanager
def _scratch_folder(parent: Path | None) -> Iterator[str]:
    try:
        # Workers run elsewhere than in this directory.
        folder = tempfile.TemporaryDirectory(
            prefix="paddock-worker-", dir=None if parent is None else parent.absolute()
        )
    except OSError as error:
        place = parent or tempfile.gettempdir()
        raise InvalidInput(
            f"datums can't keep their files in {place} ({error.strerror}); name a folder to write to with --scratch"
        ) from None
    with folder as name:
        yield name


def _check_store(storage: str, home_id: str) -> None:
    """Whether the object store can be read here, before a batch is taken that needs it. PermissionDenied, NotFound, Unavailable: not."""
    try:
        check_mark(open_place(storage), storage, home_id)
    except PaddockError as error:
        raise type(error)(f"--direct: {error.message}") from None


def _objects_at(url: str) -> str:
    return f"{url.rstrip('/')}/api/v1/objects"


def _note_servers(file: Path, urls: Sequence[str]) -> None:
    """For the workers, which read it while it is written anew. On a full disk it stays as it was."""
    new = file.with_suffix(".new")
    try:
        new.write_text("".join(f"{_objects_at(url)}\n" for url in urls), encoding="utf-8")
        new.replace(file)
    except OSError as error:
        LOG.warning("can't note which servers there are: %s", error)


def _beside(runner: Path, pfs: Path) -> RunnerOptions:
    """Wait for the runner of the container beside this one."""
    output.note(f"waiting for the runner at {runner}")
    return RunnerOptions(connect_runner(runner), pfs.resolve(), runner.resolve().parent)


def _here(image: Image, folder: Path) -> Image:
    """The image as something on this machine."""
    if is_fetched(image):
        return image
    output.note(f"{FETCHING} {image.name}")
    return fetch_image(image, folder)


def _kept_bytes(settings: Settings, folder: str) -> int:
    """How much of what workers write stays here too."""
    if settings.worker_cache is not None:
        return settings.worker_cache
    return min(shutil.disk_usage(folder).free // 10, KEPT_BYTES_MAX)


def _terms(uplink: HttpUplink, patience_seconds: float) -> Terms:
    """On what terms the server takes workers, which it says to those that join. Unavailable: none was there for so long."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            terms = uplink.terms()
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.2, RETRY_SECONDS_MAX))
            continue
        uplink.leave(terms.agent)
        return terms


def _work(
    options: WorkerOptions,
    urls: Sequence[str],
    token: str,
    uplink: HttpUplink,
    terms: Terms,
    folder: Path,
    *,
    slots: int,
    direct: bool,
    patience: float | None,
) -> None:
    if direct and terms.storage is None:
        raise InvalidInput(
            f"the home of {urls[0]} keeps its data on its own disk, which nobody else can reach; leave --direct out"
        )
    if direct and terms.storage is not None:
        _check_store(terms.storage, terms.home)
    own_token = folder / "token"
    own_token.touch(mode=0o600)
    own_token.write_text(token, encoding="ascii")
    engine = LocalEngine(
        objects=terms.storage if direct and terms.storage else _objects_at(urls[0]),
        token_file=own_token,
        servers_file=folder / "servers",
        scratch=folder / "slots",
        chunking=ChunkingParameters(**terms.chunking),
        options=options,
    )
    runner = options.runner
    agent = Agent(
        uplink,
        engine,
        slots=slots,
        patience_seconds=patience,
        place_is_gone=lambda: runner is not None and has_ended(runner.connection),
    )
    _obey_signals(agent)
    output.note(f"{WORKING} {', '.join(urls)} with {slots} slots; Ctrl-C ends it")
    try:
        agent.run()
    finally:
        engine.stop()
    if agent.place_was_lost:
        raise Unavailable("the container of the commands has ended, so nothing can be run here any more")


def _seconds(patience: str) -> float:
    try:
        return parse_duration(patience)
    except ValueError as error:
        raise InvalidInput(f"--patience: {error}") from None


def _token(file: Path | None) -> str:
    if file is None:
        token = os.environ.pop(TOKEN_VARIABLE, "")
        if not token:
            raise InvalidInput(f"name the token of a pool: --token-file FILE, or {TOKEN_VARIABLE}")
        return token
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"token file {file} can't be read ({error}); `paddock pool token POOL` prints a token"
        ) from None
    if not token:
        raise InvalidInput(f"token file {file} is empty; `paddock pool token POOL` prints a token")
    return token


def _obey_signals(agent: Agent) -> None:
    def end(number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: agent.stop())
        agent.drain()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
