"""Which files a directory on the local disk has, without reading them."""

from __future__ import annotations

import errno
import os
import stat
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paddock.model.addresses import PATH_BYTES_MAX
from paddock.model.errors import InvalidInput, Problem
from paddock.storage.os_errors import translate

HOME_DIRECTORY = ".paddock"
PROBLEMS_SHOWN = 20


Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stamps:
    """What tells whether files changed, as columns. `executable` is the owner's bit."""

    size: Ints
    mtime_ns: Ints
    ctime_ns: Ints
    inode: Ints
    """Inode numbers may use all 64 bits; only equality matters."""
    executable: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scan:
    """The regular files below a directory, sorted by path: one position for each in every list."""

    source: str
    """The absolute path that, followed by a file's path, opens it."""
    started_ns: int
    """Wall-clock time before the first look."""
    paths: list[str]
    """`/a/b` relative to the source; of a single file, empty text."""
    stamps: Stamps

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    """As it is opened."""
    entered: tuple[str, ...]
    """Real paths of the directories through whose links it was reached."""


def scan_source(source: Path, *, path_bytes_max: int = PATH_BYTES_MAX) -> Scan:
    """Look at a file or directory. Links are followed; directories named `.paddock` are skipped; empty ones vanish.

    InvalidInput lists (up to 20, and how many more) what can't be stored: names that are not UTF-8, FIFOs, sockets, devices, links
    that lead nowhere or in a circle, directories that may not be read, paths longer than `path_bytes_max`. NotFound where
    nothing is. About 3 µs a file.
    """
    root = os.path.abspath(source)
    started_ns = time.time_ns()
    try:
        status = os.stat(root)
    except OSError as error:
        raise translate(error, "read", root, reading=True) from error
    found = _Found()
    if stat.S_ISREG(status.st_mode):
        found.add("", status)
    elif stat.S_ISDIR(status.st_mode):
        root = "" if root == "/" else root
        walk = _Walk(found, root, path_bytes_max)
        pending = [_Directory(root, ())]
        while pending:
            pending += walk.enter(pending.pop())
        refuse(source, walk.problems)
    else:
        raise InvalidInput(f"{root} is {_kind(status.st_mode)}, not a file or directory; name one of these")
    return found.sorted(root, started_ns)


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


class _Found:
    """Files in the order found. Plain arrays: a million status objects would keep the garbage collector busy."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._sizes = array("q")
        self._mtimes = array("q")
        self._ctimes = array("q")
        self._inodes = array("Q")
        self._modes = array("L")

    def add(self, path: str, status: os.stat_result) -> None:
        self._paths.append(path)
        self._sizes.append(status.st_size)
        self._mtimes.append(status.st_mtime_ns)
        self._ctimes.append(status.st_ctime_ns)
        self._inodes.append(status.st_ino)
        self._modes.append(status.st_mode)

    def sorted(self, source: str, started_ns: int) -> Scan:
        paths = self._paths
        listed = sorted(range(len(paths)), key=paths.__getitem__)
        order = np.array(listed, dtype=np.int64)
        modes = np.array(self._modes, dtype=np.int64)[order]
        stamps = Stamps(
            np.array(self._sizes, dtype=np.int64)[order],
            np.array(self._mtimes, dtype=np.int64)[order],
            np.array(self._ctimes, dtype=np.int64)[order],
            np.array(self._inodes, dtype=np.uint64).view(np.int64)[order],
            ((modes & stat.S_IXUSR) != 0).astype(np.uint8),
        )
        return Scan(source, started_ns, [paths[index] for index in listed], stamps)


class _Walk:
    def __init__(self, found: _Found, root: str, path_bytes_max: int) -> None:
        self.problems: list[Problem] = []
        self._add = found.add
        self._skip = len(root)
        self._path_bytes_max = path_bytes_max

    def enter(self, directory: _Directory) -> list[_Directory]:
        """Note the files of one directory; the directories in it."""
        inner: list[_Directory] = []
        add = self._add
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
                        add(path, status)
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
            self._add(shown, status)
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
