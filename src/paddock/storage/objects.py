"""Object stores: whole, immutable objects under text keys. `LocalObjects` keeps them on a local disk, durably."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Protocol

from paddock.model.dataclass import dataclass
from paddock.model.errors import AlreadyExists, Corrupt, NotFound
from paddock.storage.os_errors import translate

Bytes = bytes | bytearray | memoryview
_INCOMING = "incoming"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified: float = field(default=0.0, compare=False)
    """When it was finished, in seconds since 1970 by the store's clock; 0 where the store does not say."""
    tag: str = field(default="", compare=False)
    """The store's ETag, which changes with the content; empty where it has none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a store is best read: what a reader of many ranges goes by."""

    gap_bytes: int
    """Ranges at most this far apart are read as one: reading the gap costs less than another request."""
    run_bytes: int
    """A range ends with the chunk that makes it longer than this."""
    at_once: int
    """How many requests to have under way."""


LOCAL_READING = Reading(gap_bytes=32 << 10, run_bytes=4 << 20, at_once=1)
"""From a disk a read costs next to nothing, and what is read and hashed in the cache's reach costs a third less."""


class ObjectWriter(Protocol):
    """Writes one object, front to back. Nothing is visible under the key until `finish` returns."""

    def write(self, data: Bytes) -> None: ...

    def finish(self) -> None:
        """Make the object durable, then visible, as a whole. After an error call `abort`."""

    def abort(self) -> None:
        """Forget what was written. Idempotent; does nothing after `finish`. Raises nothing."""


class ObjectStore(Protocol):
    """Keys are relative, `/`-separated. Safe for several threads and processes; objects never change once finished.

    Errors: NotFound (no such key), AlreadyExists (finish of a key that exists), LimitExceeded (disk full),
    PermissionDenied, Unavailable (worth another try), Corrupt (the disk can't give the bytes back).
    """

    @property
    def reading(self) -> Reading: ...

    def create(self, key: str) -> ObjectWriter: ...

    def read(self, key: str) -> bytes: ...

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`; Corrupt where the object ends before."""

    def exists(self, key: str) -> bool: ...

    def info(self, key: str) -> ObjectInfo:
        """Of one object, as it is now: a listing may be older."""

    def delete(self, key: str) -> None:
        """NotFound where it is not there."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All finished objects whose key starts with `prefix` (which ends in `/` or is empty), in no order."""


class LocalObjects:
    """Objects as files below `root`. A write costs two `fsync`s: the file, and the directory that then names it.

    Unfinished objects lie in `root/incoming` under random names: a crash leaves only such a file behind.
    """

    reading = LOCAL_READING

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._root = os.fspath(self.root)

    def create(self, key: str) -> ObjectWriter:
        return _LocalWriter(self._root, self._path(key), key)

    def read(self, key: str) -> bytes:
        fd = self._open(key)
        try:
            return _read_exactly(fd, key, 0, os.fstat(fd).st_size)
        except OSError as error:
            raise translate(error, "read", self._path(key), reading=True) from error
        finally:
            os.close(fd)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        fd = self._open(key)
        try:
            return _read_exactly(fd, key, offset, length)
        except OSError as error:
            raise translate(error, "read", self._path(key), reading=True) from error
        finally:
            os.close(fd)

    def exists(self, key: str) -> bool:
        try:
            os.stat(self._path(key))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise translate(error, "look at", self._path(key)) from error
        return True

    def info(self, key: str) -> ObjectInfo:
        path = self._path(key)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise NotFound(f"object {key} does not exist in {self._root}") from None
        except OSError as error:
            raise translate(error, "look at", path) from error
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            os.unlink(path)
        except FileNotFoundError:
            raise NotFound(f"object {key} does not exist in {self._root}") from None
        except OSError as error:
            raise translate(error, "delete", path) from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        top = f"{self._root}/{prefix}".rstrip("/")
        pending = [top]
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise translate(error, "list", directory, reading=True) from error
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    if entry.path != f"{self._root}/{_INCOMING}":
                        pending.append(entry.path)
                else:
                    yield from _info(entry, self._root)

    def unfinished(self) -> Iterator[ObjectInfo]:
        """Objects that are being written, or whose writer died; `delete` takes their keys."""
        try:
            with os.scandir(f"{self._root}/{_INCOMING}") as entries:
                found = list(entries)
        except FileNotFoundError:
            return
        for entry in found:
            yield from _info(entry, self._root)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _open(self, key: str) -> int:
        try:
            return os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"object {key} does not exist in {self._root}") from None
        except OSError as error:
            raise translate(error, "read", self._path(key), reading=True) from error


class _LocalWriter:
    def __init__(self, root: str, path: str, key: str) -> None:
        self._root = root
        self._path = path
        self._key = key
        self._temporary = f"{root}/{_INCOMING}/{uuid.uuid4().hex}"
        self._fd = self._create()

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                return os.open(self._temporary, flags, 0o644)
            except FileNotFoundError:
                make_directory(f"{self._root}/{_INCOMING}")
                return os.open(self._temporary, flags, 0o644)
        except OSError as error:
            raise translate(error, "write", self._temporary) from error

    def write(self, data: Bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise translate(error, "write", self._path) from error

    def finish(self) -> None:
        directory = os.path.dirname(self._path)
        try:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            make_directory(directory)
            # Keys are random, so this check is for mistakes, not for races; link(2) is not everywhere.
            if os.path.exists(self._path):
                raise AlreadyExists(f"object {self._key} exists already in {self._root}; objects never change")
            os.rename(self._temporary, self._path)
            sync_directory(directory)
        except OSError as error:
            raise translate(error, "write", self._path) from error

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            os.unlink(self._temporary)
        except OSError:
            pass


def _info(entry: os.DirEntry[str], root: str) -> Iterator[ObjectInfo]:
    """What is known of a file; nothing where it has gone meanwhile."""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise translate(error, "look at", entry.path, reading=True) from error
    yield ObjectInfo(entry.path[len(root) + 1 :], status.st_size, status.st_mtime)


def make_directory(path: str) -> None:
    """Make a directory and its missing parents, each durable. Does nothing where it exists. Raises OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    sync_directory(parent)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_exactly(fd: int, key: str, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    if len(data) == length:
        return data
    parts = [data]
    missing = length - len(data)
    while missing and parts[-1]:
        parts.append(os.pread(fd, missing, offset + length - missing))
        missing -= len(parts[-1])
    if missing:
        raise Corrupt(f"object {key} is {missing} bytes too short: it is torn; run fsck, or restore it from a copy")
    return b"".join(parts)
