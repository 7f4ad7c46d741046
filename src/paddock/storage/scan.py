"""Which files a directory on the local disk has, without reading them: the walk as columns for numpy."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, Problem
from paddock.model.limits import PATH_BYTES_MAX
from paddock.storage.os_errors import translate
from paddock.storage.scan_ahead import take_scan
from paddock.storage.walk import Found, Mark, kind_of, walk

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
    marks: Sequence[Mark]
    """Of the directories that have files."""

    def __len__(self) -> int:
        return len(self.paths)


def scan_source(source: Path, *, path_bytes_max: int = PATH_BYTES_MAX) -> Scan:
    """Look at a file or directory. Links are followed; directories named `.paddock` are skipped; empty ones vanish.

    InvalidInput lists (up to 20, and how many more) what can't be stored: names that are not UTF-8, FIFOs, sockets, devices, links
    that lead nowhere or in a circle, directories that may not be read, paths longer than `path_bytes_max`. NotFound where
    nothing is. About 4 µs a file, unless a process has done it ahead.
    """
    root = os.path.abspath(source)
    try:
        status = os.stat(root)
    except OSError as error:
        raise translate(error, "read", root, reading=True) from error
    if stat.S_ISREG(status.st_mode):
        found = Found()
        found.add([""], [status])
    elif stat.S_ISDIR(status.st_mode):
        found = take_scan(root, path_bytes_max) or walk(root, path_bytes_max)
        refuse(source, found.problems)
        root = "" if root == "/" else root
    else:
        raise InvalidInput(f"{root} is {kind_of(status.st_mode)}, not a file or directory; name one of these")
    return _as_scan(root, found)


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


def _as_scan(root: str, found: Found) -> Scan:
    modes = np.frombuffer(found.modes, dtype=np.int64)
    stamps = Stamps(
        _ints(found.sizes),
        _ints(found.mtimes_ns),
        _ints(found.ctimes_ns),
        _ints(found.inodes),
        ((modes & stat.S_IXUSR) != 0).astype(np.uint8),
    )
    return Scan(root, found.started_ns, found.paths, stamps, found.marks)


def _ints(column: array[int]) -> Ints:
    return np.frombuffer(column, dtype=np.int64)
