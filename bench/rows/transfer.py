"""Files through a server on loopback, beside the direct path; and the memory that both sides take for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import (
    PADDOCK,
    Budget,
    Result,
    Settings,
    median,
    paddock,
    peak_bytes,
    peak_memory_mb,
    rounds_of,
    run,
    write_small_files,
)

from paddock.testing.servers import RunningServer, running_server

FILE_BYTES = 2048
DIRECT = "direct path"
MEMORY_BYTES_MAX = 500_000_000


def http_small(settings: Settings) -> Result:
    count = settings.size(100_000, 5_000)
    source = settings.work / "source"
    write_small_files(source, count, FILE_BYTES)
    return _row(settings, source, name="http-small", what=f"put {count:,} files of 2 KiB over HTTP")


def http_large(settings: Settings) -> Result:
    mib = settings.size(1024, 64)
    source = settings.work / "source"
    source.mkdir(parents=True)
    with (source / "large").open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    return _row(settings, source, name="http-large", what=f"put one file of {mib} MiB over HTTP")


def _row(settings: Settings, source: Path, *, name: str, what: str) -> Result:
    """Each round has homes of its own, so nothing is there already. No budget is set for the ratio; the memory has one."""
    servers: list[int] = []
    with _servers(settings) as start:

        def through(number: int) -> Callable[[], object]:
            server = start(number)
            servers.append(server.process.pid)
            return lambda: _command(server.url, "put", "data@main:/", str(source))

        def direct(number: int) -> Callable[[], object]:
            home = settings.work / f"direct{number}"
            paddock(home, "repo", "create", "data")
            return lambda: paddock(home, "put", "data@main:/", str(source))

        rounds = rounds_of(settings.repeats, {"Paddock": through, DIRECT: direct})
        server_bytes = max(map(peak_bytes, servers))
        last = start(settings.repeats - 1)
        out = settings.work / "out"

        def fetch(number: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            return lambda: _command(last.url, "get", "data@main:/", "-o", str(out))

        def fetch_directly(number: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            home = settings.work / f"direct{settings.repeats - 1}"
            return lambda: paddock(home, "get", "data@main:/", "-o", str(out))

        back = rounds_of(settings.repeats, {"get": fetch, "get, direct": fetch_directly})
        server_bytes = max(server_bytes, peak_bytes(last.process.pid))
        url = start(settings.repeats).url
        shutil.rmtree(out, ignore_errors=True)
        commands = (("put", "data@main:/", str(source)), ("get", "data@main:/", "-o", str(out)))
        client_mb = max(peak_memory_mb(_words(url, *words)) for words in commands)
    samples = rounds["Paddock"]
    return Result(
        name=name,
        what=what,
        seconds=median(samples),
        samples=samples,
        others={DIRECT: median(rounds[DIRECT]), "get": median(back["get"]), "get, direct": median(back["get, direct"])},
        budgets=(
            Budget("server's memory <= 500 MB", server_bytes, MEMORY_BYTES_MAX),
            Budget("client's memory <= 500 MB", client_mb * (1 << 20), MEMORY_BYTES_MAX),
        ),
        facts={"server_bytes": server_bytes, "client_bytes": client_mb * (1 << 20)},
    )


@contextmanager
def _servers(settings: Settings) -> Iterator[Callable[[int], RunningServer]]:
    """Starts the n-th server, on a home with the repo `data`, or gives the one that runs; all end with the block."""
    running: dict[int, tuple[object, RunningServer]] = {}

    def start(number: int) -> RunningServer:
        if number not in running:
            context = running_server(settings.work / f"home{number}")
            server = context.__enter__()
            running[number] = (context, server)
            _command(server.url, "repo", "create", "data")
        return running[number][1]

    try:
        yield start
    finally:
        for context, _ in running.values():
            context.__exit__(None, None, None)  # type: ignore[attr-defined]


def _command(url: str, *words: str) -> None:
    run(_words(url, *words))


def _words(url: str, *words: str) -> list[str]:
    """The command line. What a client remembers of earlier rounds is no part of this."""
    return ["env", "XDG_CACHE_HOME=/nonexistent", PADDOCK, "--url", url, *words]
