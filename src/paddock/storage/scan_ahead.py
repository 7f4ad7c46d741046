"""A walk that other processes begin before this one is ready for it.

Loading what a put needs takes as long as looking at 100,000 files, and there are mostly two cores. So a command that is about
to put a directory says `expect_scan`; the scan of that directory then takes what the processes found. A failure of
one only costs time: the directory is walked again.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import IO, NoReturn

from paddock.model.errors import Problem
from paddock.model.limits import PATH_BYTES_MAX
from paddock.storage.walk import Found, walk

_FILES_MIN = 500
"""With fewer entries, and no directories among them, walking takes no time."""

_PROCESSES_MAX = 2

_HEAD = struct.Struct("<qQQQ")
"""Start in ns since 1970, files, bytes of the paths, bytes of the problems.

After it comes each column of `Found` as it lies in memory, then the paths joined by NUL, and the problems (place and message of
each) joined by NUL.
"""


@dataclass(frozen=True, slots=True)
class _Walker:
    """A process of ours, and what it sends."""

    pid: int
    stream: IO[bytes]


_started: dict[str, list[_Walker]] = {}


def expect_scan(source: str | os.PathLike[str]) -> None:
    """Begin to walk a directory that is to be put. Does nothing where that would not pay, there is none, or threads run.

    The processes are forks: they start in a millisecond where a new interpreter takes 50, but a lock that another thread
    holds would stay locked in them.
    """
    try:
        root = os.path.abspath(source)
        if root in _started or not _single_threaded():
            return
        parts = _parts_that_pay(root)
        _started[root] = [_start(root, part, parts) for part in range(parts)]
    except OSError:
        pass  # the walk is done later, in this process


def take_scan(root: str, path_bytes_max: int) -> Found | None:
    """What was found by the processes that walk this directory; None where there are none, one failed, or a path is too long."""
    walkers = _started.pop(root, [])
    parts = [found for walker in walkers if (found := _result(walker)) is not None]
    if not parts or len(parts) < len(walkers):
        return None
    found = parts[0]
    for other in parts[1:]:
        found.append(other)
    if len(parts) > 1:
        found.sort()
    # At most four bytes a character, so that the common case need not encode them all.
    too_long = max(map(len, found.paths), default=0) * 4 > path_bytes_max
    return None if too_long and any(len(path.encode()) > path_bytes_max for path in found.paths) else found


def _single_threaded() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return threading.active_count() == 1


def _parts_that_pay(root: str) -> int:
    """How many processes. Each looks at what `root` itself holds, so where that is much, one does it all."""
    with os.scandir(root) as entries:
        some = list(islice(entries, _FILES_MIN))
        directories = sum(1 for entry in some if entry.is_dir())
    return 1 if len(some) == _FILES_MIN else min(directories, _PROCESSES_MAX)


def _start(root: str, part: int, parts: int) -> _Walker:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_walker(writing, root, part, parts)
    os.close(writing)
    return _Walker(pid, os.fdopen(reading, "rb"))


def _be_walker(writing: int, root: str, part: int, parts: int) -> NoReturn:
    """What the other process does. Whatever happens, it never returns into the code of the one that it was forked from."""
    try:
        # Ctrl-C reaches the whole process group; whoever started this process decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # a reader of the command's output does not wait for this process
            os.dup2(null, stream)
        os.closerange(3, writing)  # the ends at which this one and the one before are read
        with os.fdopen(writing, "wb") as target:
            _send(target, walk(root, PATH_BYTES_MAX, part=part, parts=parts))
    finally:
        os._exit(0)


def _send(target: IO[bytes], found: Found) -> None:
    paths = "\0".join(found.paths).encode()
    problems = "\0".join(text for problem in found.problems for text in (problem.place, problem.message)).encode()
    target.write(_HEAD.pack(found.started_ns, len(found.paths), len(paths), len(problems)))
    for column in found.columns:
        target.write(column)
    target.write(paths)
    target.write(problems)


def _result(walker: _Walker) -> Found | None:
    with walker.stream as stream:
        try:
            return _receive(stream)
        except (EOFError, ValueError):
            return None
        finally:
            stream.close()
            os.waitpid(walker.pid, 0)


def _receive(stream: IO[bytes]) -> Found:
    started_ns, files, path_bytes, problem_bytes = _HEAD.unpack(_exactly(stream, _HEAD.size))
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
