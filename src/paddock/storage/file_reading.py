"""Reading one small file whole and unchanged. Imported by helper processes, so it imports next to nothing."""

from __future__ import annotations

import os
import stat

from paddock.model.dataclass import dataclass

SMALL_BYTES = 256 << 10
"""Files up to here are one chunk in every home (FastCDC cuts nothing shorter), and are read whole."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Changed(Exception):  # noqa: N818 - an outcome, caught by every caller
    """A file changed while it was read, twice in a row; or it is no regular file any more."""


class Grown(Exception):  # noqa: N818
    """A file is larger than SMALL_BYTES."""


@dataclass(slots=True)
class Stamp:
    """What tells whether a file changed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: bool


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        bool(status.st_mode & stat.S_IXUSR),
    )


def read_small(path: str | bytes) -> tuple[bytes, Stamp]:
    """All bytes of a file, and its stamp, which was the same before and after. Raises Changed, Grown or OSError."""
    for _ in range(2):
        fd = os.open(path, _FLAGS)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Changed
            if status.st_size > SMALL_BYTES:
                raise Grown
            data = os.read(fd, status.st_size + 1)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        same = status.st_mtime_ns == after.st_mtime_ns and status.st_ctime_ns == after.st_ctime_ns
        if same and len(data) == status.st_size == after.st_size:
            return data, stamp_of(status)
    raise Changed


def open_regular(path: str | bytes) -> tuple[int, Stamp]:
    """A descriptor on a regular file, and its stamp. Raises Changed where it is none (any more), or OSError."""
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Changed
    except BaseException:
        os.close(fd)
        raise
    return fd, stamp_of(status)
