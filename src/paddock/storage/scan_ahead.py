"""A walk that other processes begin before this one is ready for it.

Loading what a put needs takes as long as looking at 100,000 files, and there are mostly two cores. So a command that is about
to put a directory says `expect_scan`; the scan of that directory then takes what the processes found. A failure of
one only costs time: the directory is walked again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from itertools import islice
from typing import IO

from paddock.model.addresses import PATH_BYTES_MAX
from paddock.model.errors import Problem
from paddock.storage.scan_worker import HEAD
from paddock.storage.walk import Found

_FILES_MIN = 500
"""With fewer entries, and no directories among them, walking takes less than the start of a process (20 ms)."""

_PROCESSES_MAX = 2

_started: dict[str, list[subprocess.Popen[bytes]]] = {}
_CALL = "from paddock.storage.scan_worker import main; main()"


def expect_scan(source: str | os.PathLike[str]) -> None:
    """Begin to walk a directory that is to be put. Does nothing where that would not pay, or there is none."""
    root = os.path.abspath(source)
    parts = 0 if root in _started else _parts_that_pay(root)
    try:
        processes = [_start(root, part, parts) for part in range(parts)]
    except OSError:
        return  # the walk is done later, in this process
    if processes:
        _started[root] = processes


def take_scan(root: str, path_bytes_max: int) -> Found | None:
    """What was found by the processes that walk this directory; None where there are none, one failed, or a path is too long."""
    processes = _started.pop(root, [])
    parts = [found for process in processes if (found := _result(process)) is not None]
    if not parts or len(parts) < len(processes):
        return None
    found = parts[0]
    for other in parts[1:]:
        found.append(other)
    if len(parts) > 1:
        found.sort()
    # At most four bytes a character, so that the common case need not encode them all.
    too_long = max(map(len, found.paths), default=0) * 4 > path_bytes_max
    return None if too_long and any(len(path.encode()) > path_bytes_max for path in found.paths) else found


def _parts_that_pay(root: str) -> int:
    """How many processes. Each looks at what `root` itself holds, so where that is much, one does it all."""
    try:
        with os.scandir(root) as entries:
            some = list(islice(entries, _FILES_MIN))
            directories = sum(1 for entry in some if entry.is_dir())
    except OSError:
        return 0
    return 1 if len(some) == _FILES_MIN else min(directories, _PROCESSES_MAX)


def _start(root: str, part: int, parts: int) -> subprocess.Popen[bytes]:
    # Our own module path, without `site` (10 ms) and without the current directory.
    path = os.pathsep.join(place for place in sys.path if place)
    return subprocess.Popen(
        [sys.executable, "-S", "-P", "-c", _CALL, root, str(PATH_BYTES_MAX), str(part), str(parts)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )


def _result(process: subprocess.Popen[bytes]) -> Found | None:
    assert process.stdout is not None
    with process, process.stdout as stream:
        try:
            return _receive(stream)
        except (EOFError, ValueError):
            return None


def _receive(stream: IO[bytes]) -> Found:
    started_ns, files, path_bytes, problem_bytes = HEAD.unpack(_exactly(stream, HEAD.size))
    found = Found()
    found.started_ns = started_ns
    for column in found.columns:
        _fill(stream, column, files)
    paths, problems = _exactly(stream, path_bytes).decode(), _exactly(stream, problem_bytes).decode()
    found.paths = paths.split("\0") if files else []
    texts = problems.split("\0") if problem_bytes else []
    found.problems = [Problem(*pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return found


def _fill(stream: IO[bytes], column: array[int], count: int) -> None:
    column.frombytes(_exactly(stream, count * column.itemsize))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
