"""What a machine has written to a store far away, or read from it, kept here too: the next pipeline reads it again, often on the same machine.

Whole packs, and parts of others (`kept_parts`), in a folder that all workers of the machine share, the longest unused removed first. Nothing depends on it: it may be
emptied at any moment. No pyarrow here: workers import this module.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from paddock.storage.kept_parts import MAP, PART, KeptParts, read_kept
from paddock.storage.objects import Bytes, LocalObjects, ObjectInfo, ObjectStore, ObjectWriter, Reading

ROOM_SHARE = 16
"""Room is made for one part in so many of the folder's size at once; it may grow beyond it by that for each further worker."""


class KeptObjects:
    """Implements `storage.objects.ObjectStore` over another one. For many processes with one folder; not thread-safe.

    An object is kept once the store has it, and a range once it was read. Where the disk is full, it is not kept, and nothing else happens.
    """

    def __init__(self, objects: ObjectStore, folder: Path, *, bytes_max: int) -> None:
        """folder: made where it is missing. bytes_max: of all files in it, about."""
        self._objects = objects
        self._folder = os.fspath(folder)
        self._bytes_max = bytes_max
        self._parts = KeptParts(self._folder)
        self._unchecked = bytes_max
        """What was kept of ranges since there was made room for them."""
        self._keeps_reads = not isinstance(objects, LocalObjects)
        os.makedirs(self._folder, exist_ok=True)

    @property
    def reading(self) -> Reading:
        return self._objects.reading

    def create(self, key: str) -> ObjectWriter:
        return _Writer(self, self._objects.create(key), key)

    def read(self, key: str) -> bytes:
        return self._objects.read(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        found = read_kept(self.path(key), offset, length)
        if found is None:
            found = self._parts.read(_name(key), offset, length)
        if found is None:
            found = self._objects.read_range(key, offset, length)
            self._keep(key, offset, found)
        return found

    def exists(self, key: str) -> bool:
        return self._objects.exists(key)

    def info(self, key: str) -> ObjectInfo:
        return self._objects.info(key)

    def delete(self, key: str) -> None:
        self.drop(key)
        self._objects.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._objects.list(prefix)

    def drop(self, key: str) -> bool:
        """Keep an object no longer: what was read of it was damaged. Whether it was kept."""
        dropped = self._parts.drop(_name(key))
        try:
            os.unlink(self.path(key))
        except OSError:
            return dropped
        return True

    def path(self, key: str) -> str:
        return f"{self._folder}/{_name(key)}"

    def temporary(self) -> str:
        return f"{self._folder}/{uuid.uuid4().hex}.new"

    def make_room(self, new: str, size: int) -> bool:
        """Remove what was unused for longest, and leftovers of workers that were killed, until the new file fits. False: it never does."""
        if size > self._bytes_max:
            return False
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    if entry.path != new and not entry.name.endswith(MAP):
                        held = status.st_blocks * 512 if entry.name.endswith(PART) else status.st_size
                        found.append((status.st_mtime_ns, entry.path, held))
        excess = sum(each[2] for each in found) + size - self._bytes_max
        for _, path, length in sorted(found):
            if excess <= 0:
                break
            if path.endswith(PART):
                self._parts.drop(os.path.basename(path).removesuffix(PART))
            else:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            excess -= length
        return True

    def _keep(self, key: str, offset: int, data: bytes) -> None:
        """Keep a range that was read."""
        if not self._keeps_reads:
            return
        self._unchecked += len(data)
        if self._unchecked > self._bytes_max // ROOM_SHARE:
            self._unchecked = 0
            if not self.make_room("", max(len(data), self._bytes_max // ROOM_SHARE)):
                return
        self._parts.keep(_name(key), offset, data)


def _name(key: str) -> str:
    return key.replace("/", "-")


class _Writer:
    def __init__(self, owner: KeptObjects, inner: ObjectWriter, key: str) -> None:
        self._owner = owner
        self._inner = inner
        self._key = key
        self._path = owner.temporary()
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: Bytes) -> None:
        self._inner.write(data)
        if self._fd >= 0:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                self._forget()

    def finish(self) -> None:
        self._inner.finish()
        if self._fd >= 0:
            try:
                if self._owner.make_room(self._path, os.fstat(self._fd).st_size):
                    os.rename(self._path, self._owner.path(self._key))
                    os.close(self._fd)
                    self._fd = -1
            except OSError:
                pass
        self._forget()

    def abort(self) -> None:
        self._inner.abort()
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                os.unlink(self._path)
