"""A walk that other processes begin before this one is ready for it.

Loading what a put needs takes as long as looking at 100,000 files, and there are mostly two cores. So a command that is about
to put a directory says `expect_scan`. Each process sends a mark for each directory first, then what it is asked for: the files of some
directories, where the marks show that all others are as they were (`look`), or all files (`take_scan`). A failure of
one only costs time: the directory is walked again.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import IO, Any, NoReturn

from paddock.model.dataclass import dataclass
from paddock.model.errors import Problem
from paddock.model.limits import PATH_BYTES_MAX
from paddock.storage.walk import Found, Mark, walk_part

_FILES_MIN = 500
"""With fewer entries, and no directories among them, walking takes no time."""

_PROCESSES_MAX = 2
_FAILURES = (EOFError, ValueError, OSError)

_HEAD = struct.Struct("<qQQQ")
"""Start in ns since 1970, files, bytes of the paths, bytes of the problems.

After it comes each column of `Found` as it lies in memory, then the paths joined by NUL, and the problems (place and message of
each) joined by NUL.
"""

_LENGTH = struct.Struct("<Q")
"""Before what is marshalled: the marks, which a process sends first, and each request: a list of directories by number, or None for
all files."""


class _Walker:
    """A process of ours, and what it says."""

    def __init__(self, pid: int, answers: IO[bytes], requests: IO[bytes]) -> None:
        self.pid = pid
        self._answers = answers
        self._requests = requests
        self._marks: list[Mark] | None = None

    def marks(self) -> list[Mark]:
        """Waits for the end of the walk. Raises EOFError, ValueError or OSError where the process failed; so do the others."""
        if self._marks is None:
            self._marks = [Mark(*values) for values in _received(self._answers)]
        return self._marks

    def ask(self, directories: Sequence[int] | None) -> None:
        _say(self._requests, directories)

    def answer(self) -> Found:
        return _receive(self._answers)

    def end(self) -> None:
        self._answers.close()
        try:
            self._requests.close()
        except OSError:
            pass  # it is dead, and does not read what was left to send
        os.waitpid(self.pid, 0)


@dataclass(frozen=True, slots=True)
class Look:
    """What the processes found, by directory."""

    marks: Sequence[Mark]
    files: Callable[[Sequence[int]], Found | None]
    """The files of some directories, by the place of their marks, in no order; None where a process failed."""


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


def look(root: str) -> Look | None:
    """The marks of all directories; `take_scan` may still follow. None where no processes walk this directory, one failed, or
    something there can't be stored."""
    walkers = _started.get(root, [])
    try:
        parts = [walker.marks() for walker in walkers]
    except _FAILURES:
        return None
    if not parts:
        return None
    return Look([mark for part in parts for mark in part], partial(_files_of, walkers, [len(part) for part in parts]))


def take_scan(root: str, path_bytes_max: int) -> Found | None:
    """What was found by the processes that walk this directory; None where there are none, one failed, or a path is too long."""
    walkers = _started.pop(root, [])
    found = _all_files(walkers)
    for walker in walkers:
        walker.end()
    if found is None:
        return None
    # At most four bytes a character, so that the common case need not encode them all.
    too_long = max(map(len, found.paths), default=0) * 4 > path_bytes_max
    return None if too_long and any(len(path.encode()) > path_bytes_max for path in found.paths) else found


def drop_scan(root: str) -> None:
    """Nobody asks for this directory any more."""
    for walker in _started.pop(root, []):
        walker.end()


def _all_files(walkers: Sequence[_Walker]) -> Found | None:
    try:
        marks = [mark for walker in walkers for mark in walker.marks()]
        for walker in walkers:
            walker.ask(None)
        parts = [walker.answer() for walker in walkers]
    except _FAILURES:
        return None
    if not parts:
        return None
    found = parts[0]
    for other in parts[1:]:
        found.append(other)
    if len(parts) > 1:
        found.sort()
    found.marks = marks
    return found


def _files_of(walkers: Sequence[_Walker], counts: Sequence[int], numbers: Sequence[int]) -> Found | None:
    found, first = Found(), 0
    try:
        for walker, count in zip(walkers, counts, strict=True):
            walker.ask([number - first for number in numbers if first <= number < first + count])
            found.append(walker.answer())
            first += count
    except _FAILURES:
        return None
    return None if found.problems else found


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
    answers, answering = os.pipe()
    asked, requests = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_walker(answering, asked, root, part, parts)
    os.close(answering)
    os.close(asked)
    return _Walker(pid, os.fdopen(answers, "rb"), os.fdopen(requests, "wb"))


def _be_walker(answering: int, asked: int, root: str, part: int, parts: int) -> NoReturn:
    """What the other process does. Whatever happens, it never returns into the code of the one that it was forked from."""
    try:
        # Ctrl-C reaches the whole process group; whoever started this process decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # a reader of the command's output does not wait for this process
            os.dup2(null, stream)
        low, high = sorted((answering, asked))
        # The ends of this one and of the one before that are the command's: a pipe ends when the last writer has closed it.
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, high + 16)
        with os.fdopen(answering, "wb") as target, os.fdopen(asked, "rb") as requests:
            found = walk_part(root, PATH_BYTES_MAX, part=part, parts=parts)
            _say(target, [tuple(mark) for mark in found.marks])
            _answer(target, requests, found)
    finally:
        os._exit(0)


def _answer(target: IO[bytes], requests: IO[bytes], found: Found) -> None:
    """Until the command has all it wants, or ends."""
    while (numbers := _received(requests)) is not None:
        some = Found()
        some.problems = found.problems
        for number in numbers:
            some.append(found.directory(number))
        _send(target, some)
    found.sort()
    _send(target, found)


def _say(target: IO[bytes], value: Any) -> None:
    data = marshal.dumps(value)
    target.write(_LENGTH.pack(len(data)))
    target.write(data)
    target.flush()


def _received(stream: IO[bytes]) -> Any:
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return marshal.loads(_exactly(stream, length))


def _send(target: IO[bytes], found: Found) -> None:
    paths = "\0".join(found.paths).encode()
    problems = "\0".join(text for problem in found.problems for text in (problem.place, problem.message)).encode()
    target.write(_HEAD.pack(found.started_ns, len(found.paths), len(paths), len(problems)))
    for column in found.columns:
        target.write(column)
    target.write(paths)
    target.write(problems)
    target.flush()


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
