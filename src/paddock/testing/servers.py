"""A real server process on a free port, for tests of what speaks HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class RunningServer:
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(home: Path, *, workers: int = 1, stop_seconds: float = 30) -> Iterator[RunningServer]:
    """`paddock up` on a home, ready for requests; SIGTERM at the end, and SIGKILL where that was not enough."""
    command = [sys.executable, "-m", "paddock", "--home", str(home), "up", "--port", "0"]
    with subprocess.Popen([*command, "--workers", str(workers), "--json"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield RunningServer(_url(process.stdout), process)
        finally:
            process.terminate()
            try:
                process.wait(stop_seconds)
            except subprocess.TimeoutExpired:
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
