"""A real server process on a free port, for tests of what speaks HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class RunningServer:
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(
    home: Path | None,
    *,
    workers: int = 1,
    stop_seconds: float = 30,
    port: int = 0,
    catalog: str = "",
    storage: str = "",
    module: str = "paddock",
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] = {},
    log: IO[bytes] | None = None,
) -> Iterator[RunningServer]:
    """`paddock up` on a home (a folder, or a catalog on a server), ready for requests; SIGTERM at the end, and SIGKILL where that
    was not enough. module: what is run in place of the command, with equal arguments. options: more of them. prefix: a program
    that starts it. environment: added to this process's. log: where its standard error goes; None: to this process's.
    """
    place = [] if home is None else ["--home", str(home)]
    shared = ["--catalog", catalog, "--storage", storage] if catalog else []
    command = [*prefix, sys.executable, "-m", module, *place, "up", "--port", str(port), *shared, *options]
    words = [*command, "--workers", str(workers), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        try:
            yield RunningServer(_url(process.stdout), process)
        finally:
            process.terminate()
            try:
                process.wait(stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def running_agent(
    url: str,
    token: str,
    folder: Path,
    *,
    slots: int = 1,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] = {},
) -> Iterator[subprocess.Popen[bytes]]:
    """`paddock worker` for a server; SIGKILL at the end, where it has not ended before. folder: for its token. prefix, environment:
    as for a server.
    """
    file = folder / f"token-{uuid.uuid4().hex}"
    file.write_text(token)
    words = ["worker", "--token-file", str(file), "--slots", str(slots), *options]
    command = [*prefix, sys.executable, "-m", "paddock", "--url", url, *words]
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            yield process
        finally:
            process.kill()


def _url(stream: IO[bytes]) -> str:
    """The URL in the JSON document that the server prints once it is ready."""
    text = b""
    while line := stream.readline():
        text += line
        if line.rstrip() == b"}":
            url: str = json.loads(text)["url"]
            return url
    raise AssertionError("the server ended before it was ready; its messages are on standard error")
