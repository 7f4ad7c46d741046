"""Which files a directory on the local disk has, without reading them."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddock.model.addresses import PATH_BYTES_MAX
from paddock.model.errors import InvalidInput, Problem
from paddock.storage.os_errors import translate

HOME_DIRECTORY = ".paddock"
PROBLEMS_SHOWN = 20


@dataclass(slots=True)
class Scan:
    """The regular files below a directory, sorted by path: one position for each in every list."""

    source: str
    """The absolute path that, followed by a file's path, opens it."""
    started_ns: int
    """Wall-clock time before the first look."""
    paths: list[str] = field(default_factory=list)
    """`/a/b` relative to the source; of a single file, empty text."""
    stats: list[os.stat_result] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    """As it is opened."""
    entered: tuple[str, ...]
    """Real paths of the directories through whose links it was reached."""


def scan_source(
    source: Path, *, path_bytes_max: int = PATH_BYTES_MAX, on_files: Callable[[int], None] | None = None
) -> Scan:
    """Look at a file or directory. Links are followed; directories named `.paddock` are skipped; empty ones vanish.

    InvalidInput lists (up to 20, and how many more) what can't be stored: names that are not UTF-8, FIFOs, sockets, devices, links
    that lead nowhere or in a circle, directories that may not be read, paths longer than `path_bytes_max`. NotFound where
    nothing is. `on_files` hears the number of files found, once for each directory. About 3 µs a file.
    """
    root = os.path.abspath(source)
    scan = Scan(root, time.time_ns())
    try:
        status = os.stat(root)
    except OSError as error:
        raise translate(error, "read", root, reading=True) from error
    if stat.S_ISREG(status.st_mode):
        scan.paths.append("")
        scan.stats.append(status)
        return scan
    if not stat.S_ISDIR(status.st_mode):
        raise InvalidInput(f"{root} is {_kind(status.st_mode)}, not a file or directory; name one of these")
    walk = _Walk(scan, "" if root == "/" else root, path_bytes_max)
    scan.source = walk.root
    pending = [_Directory(walk.root, ())]
    while pending:
        pending += walk.enter(pending.pop())
        if on_files is not None:
            on_files(len(scan))
    refuse(source, walk.problems)
    order = sorted(range(len(scan)), key=scan.paths.__getitem__)
    scan.paths = [scan.paths[index] for index in order]
    scan.stats = [scan.stats[index] for index in order]
    return scan


def refuse(source: Path, problems: Sequence[Problem]) -> None:
    """Raise InvalidInput with the first of the problems, and the count of the others; nothing where there are none."""
    if not problems:
        return
    shown = tuple(sorted(problems, key=lambda problem: problem.place)[:PROBLEMS_SHOWN])
    more = len(problems) - len(shown)
    if more:
        shown = (*shown, Problem("", f"… and {more} more"))
    count = "1 entry" if len(problems) == 1 else f"{len(problems)} entries"
    raise InvalidInput(f"{source} has {count} that can't be stored; mend or move them, then try again", problems=shown)


class _Walk:
    def __init__(self, scan: Scan, root: str, path_bytes_max: int) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self._scan = scan
        self._skip = len(root)
        self._path_bytes_max = path_bytes_max

    def enter(self, directory: _Directory) -> list[_Directory]:
        """Note the files of one directory; the directories in it."""
        inner: list[_Directory] = []
        paths, stats = self._scan.paths, self._scan.stats
        try:
            with os.scandir(directory.path or "/") as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        path = f"{directory.path}/{entry.name}"[self._skip :]
                        if not path.isascii() or len(path) > self._path_bytes_max:
                            fault = self._name_fault(path)
                            if fault:
                                self._refuse(path, fault)
                                continue
                        paths.append(path)
                        stats.append(status)
                    else:
                        inner += self._other(directory, entry, status.st_mode)
        except OSError as error:
            self._refuse(directory.path[self._skip :] or "/", _fault_of(error))
        return inner

    def _other(self, parent: _Directory, entry: os.DirEntry[str], mode: int) -> list[_Directory]:
        """What is no regular file: directories to enter, links to follow, and what can't be stored."""
        path = f"{parent.path}/{entry.name}"
        shown = path[self._skip :]
        if stat.S_ISDIR(mode):
            return [] if entry.name == HOME_DIRECTORY else [_Directory(path, parent.entered)]
        if not stat.S_ISLNK(mode):
            self._refuse(shown, f"is {_kind(mode)}; only files, directories and links to them can be stored")
            return []
        try:
            status = os.stat(path)
        except OSError as error:
            self._refuse(shown, "is a link that leads nowhere" if error.errno == errno.ENOENT else _fault_of(error))
            return []
        if stat.S_ISDIR(status.st_mode):
            return [] if entry.name == HOME_DIRECTORY else self._follow(parent, path, shown)
        fault = self._name_fault(shown)
        if not stat.S_ISREG(status.st_mode):
            fault = f"is a link to {_kind(status.st_mode)}; only files, directories and links to them can be stored"
        if fault:
            self._refuse(shown, fault)
        else:
            self._scan.paths.append(shown)
            self._scan.stats.append(status)
        return []

    def _follow(self, parent: _Directory, path: str, shown: str) -> list[_Directory]:
        entered = (*parent.entered, os.path.realpath(parent.path or "/"))
        target = os.path.realpath(path)
        stem = target.rstrip("/") + "/"
        if any(f"{place.rstrip('/')}/".startswith(stem) for place in entered):
            self._refuse(shown, f"is a link to {target}, which it lies in: the tree would have no end")
            return []
        return [_Directory(path, entered)]

    def _name_fault(self, path: str) -> str | None:
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            return "has a name that is not valid UTF-8; rename it"
        if length > self._path_bytes_max:
            return f"has a path of {length} bytes where at most {self._path_bytes_max} fit; shorten it"
        return None

    def _refuse(self, path: str, fault: str) -> None:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self.problems.append(Problem(shown, fault))


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "no regular file"


def _fault_of(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads in a circle"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be read; check its owner and mode"
    return f"can't be read: {error.strerror or error}"
