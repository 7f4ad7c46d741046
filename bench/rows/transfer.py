"""Files through a server on loopback, beside the direct path; and the memory that both sides take for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import PADDOCK, Budget, Result, Settings, median, paddock, rounds_of, write_small_files

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
    peaks: list[int] = []
    clients: list[int] = []
    gets: list[float] = []

    def client(url: str, *words: str) -> Callable[[], object]:
        return lambda: clients.append(_command(url, *words))

    with _servers(settings) as start:

        def through(number: int) -> Callable[[], object]:
            server = start(number)
            peaks.append(server.process.pid)
            return client(server.url, "put", "data@main:/", str(source))

        def direct(number: int) -> Callable[[], object]:
            home = settings.work / f"direct{number}"
            paddock(home, "repo", "create", "data")
            return lambda: paddock(home, "put", "data@main:/", str(source))

        rounds = rounds_of(settings.repeats, {"Paddock": through, DIRECT: direct})
        server_bytes = max(_peak_bytes(pid) for pid in peaks)
        last = start(settings.repeats - 1)
        out = settings.work / "out"

        def fetch(number: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            return client(last.url, "get", "data@main:/", "-o", str(out))

        def fetch_directly(number: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            home = settings.work / f"direct{settings.repeats - 1}"
            return lambda: paddock(home, "get", "data@main:/", "-o", str(out))

        back = rounds_of(settings.repeats, {"get": fetch, "get, direct": fetch_directly})
        gets = list(back["get"])
        server_bytes = max(server_bytes, _peak_bytes(last.process.pid))
    client_bytes = max(clients)
    samples = rounds["Paddock"]
    return Result(
        name=name,
        what=what,
        seconds=median(samples),
        samples=samples,
        others={DIRECT: median(rounds[DIRECT]), "get": median(gets), "get, direct": median(back["get, direct"])},
        budgets=(
            Budget("server's memory <= 500 MB", server_bytes, MEMORY_BYTES_MAX),
            Budget("client's memory <= 500 MB", client_bytes, MEMORY_BYTES_MAX),
        ),
        facts={"server_bytes": server_bytes, "client_bytes": client_bytes},
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


def _command(url: str, *words: str) -> int:
    """Run `paddock` against a server; the most bytes of memory that it had, or the largest of its helpers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    # What a client remembers of earlier rounds is no part of this.
    environment["XDG_CACHE_HOME"] = "/nonexistent"
    words = (PADDOCK, "--url", url, *words)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return used.ru_maxrss << 10


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
