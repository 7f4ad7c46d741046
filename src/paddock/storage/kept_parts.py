"""Parts of packs that a machine has read, kept in files with holes: what one pipeline read, the next may read again.

Beside the bytes of a pack, at their own offsets in `NAME.part`, stands `NAME.map`: what was kept, an offset and a length (u64 each) for each part, written
after the bytes. Nothing is synced and nobody is kept out: what is wrong here after a crash or a race has the wrong digest, and is read from
the store then. No pyarrow here: workers import this module.
"""

from __future__ import annotations

import contextlib
import os
import struct
from bisect import bisect_right
from dataclasses import field

from paddock.model.dataclass import dataclass

PART, MAP = ".part", ".map"
_ENTRY = struct.Struct("<QQ")


@dataclass(slots=True)
class Coverage:
    """What this process knows of a map: of which file, up to where; and its parts, in order and apart from each other."""

    inode: int = 0
    size: int = 0
    firsts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def covers(self, first: int, end: int) -> bool:
        place = bisect_right(self.firsts, first) - 1
        return place >= 0 and end <= self.ends[place]

    def add(self, first: int, end: int) -> None:
        """Parts that touch become one."""
        low = bisect_right(self.firsts, first)
        if low and self.ends[low - 1] >= first:
            low -= 1
            first = self.firsts[low]
        high = bisect_right(self.firsts, end)
        if high > low:
            end = max(end, self.ends[high - 1])
        self.firsts[low:high] = [first]
        self.ends[low:high] = [end]


class KeptParts:
    """For many processes with one folder; not thread-safe."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: dict[str, Coverage] = {}

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        """Bytes of a pack, if all of them are kept; unverified."""
        known = self._look(name)
        if known is None or not known.covers(offset, offset + length):
            return None
        return read_kept(self._path(name, PART), offset, length)

    def keep(self, name: str, offset: int, data: bytes) -> None:
        """Keep bytes that were read. On a full disk they are not kept, and nothing else happens."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            fd = os.open(self._path(name, PART), flags, 0o600)
            try:
                if os.pwrite(fd, data, offset) < len(data):
                    return
            finally:
                os.close(fd)
            fd = os.open(self._path(name, MAP), flags | os.O_APPEND, 0o600)
            try:
                os.write(fd, _ENTRY.pack(offset, len(data)))
            finally:
                os.close(fd)

    def drop(self, name: str) -> bool:
        """Keep nothing of a pack any longer; whether anything was."""
        self._known.pop(name, None)
        found = False
        for kind in (MAP, PART):
            with contextlib.suppress(OSError):
                os.unlink(self._path(name, kind))
                found = True
        return found

    def _look(self, name: str) -> Coverage | None:
        """What is kept of a pack now, as its map says: read on where this process has ended, from the start where it is another one."""
        try:
            status = os.stat(self._path(name, MAP))
        except OSError:
            self._known.pop(name, None)
            return None
        known = self._known.get(name)
        if known is None or known.inode != status.st_ino or known.size > status.st_size:
            known = self._known[name] = Coverage(status.st_ino)
        if known.size + _ENTRY.size <= status.st_size:
            with contextlib.suppress(OSError), open(self._path(name, MAP), "rb") as file:  # noqa: PTH123
                file.seek(known.size)
                data = file.read()
                whole = len(data) // _ENTRY.size * _ENTRY.size
                for offset, length in _ENTRY.iter_unpack(data[:whole]):
                    known.add(offset, offset + length)
                known.size += whole
        return known

    def _path(self, name: str, kind: str) -> str:
        return f"{self._folder}/{name}{kind}"


def read_kept(path: str, offset: int, length: int) -> bytes | None:
    """Bytes of a file that may have been removed, which is used by that; None where it has not all of them."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, length, offset)
        os.utime(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if len(data) == length else None
