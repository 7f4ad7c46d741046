"""What a machine has written to a store far away, kept here too: the next pipeline reads it again, often on the same machine.

Whole packs in a folder that all workers of the machine share, the longest unused removed first. Nothing depends on it: it may be
emptied at any moment. No pyarrow here: workers import this module.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from paddock.storage.objects import Bytes, ObjectInfo, ObjectStore, ObjectWriter, Reading


class KeptObjects:
    """Implements `storage.objects.ObjectStore` over another one. Thread-safe, and for many processes with one folder.

    An object is kept once the store has it. Where the disk is full, it is not kept, and nothing else happens.
    """

    def __init__(self, objects: ObjectStore, folder: Path, *, bytes_max: int) -> None:
        """folder: made where it is missing. bytes_max: of all files in it, about."""
        self._objects = objects
        self._folder = os.fspath(folder)
        self._bytes_max = bytes_max
        os.makedirs(self._folder, exist_ok=True)

    @property
    def reading(self) -> Reading:
        return self._objects.reading

    def create(self, key: str) -> ObjectWriter:
        return _Writer(self, self._objects.create(key), key)

    def read(self, key: str) -> bytes:
        return self._objects.read(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        found = self._read_kept(key, offset, length)
        return self._objects.read_range(key, offset, length) if found is None else found

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
        try:
            os.unlink(self.path(key))
        except OSError:
            return False
        return True

    def path(self, key: str) -> str:
        return f"{self._folder}/{key.replace('/', '-')}"

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
                    if entry.path != new:
                        found.append((status.st_mtime_ns, entry.path, status.st_size))
        excess = sum(each[2] for each in found) + size - self._bytes_max
        for _, path, length in sorted(found):
            if excess <= 0:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            excess -= length
        return True

    def _read_kept(self, key: str, offset: int, length: int) -> bytes | None:
        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
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
