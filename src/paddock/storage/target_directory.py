"""A directory on the local disk that files are written below, and never outside of."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from paddock.model.errors import Conflict, PaddockError
from paddock.storage.objects import Bytes
from paddock.storage.os_errors import translate

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR)


class TargetDirectory:
    """Opened, or made, at `root`, which may itself be reached through links. Paths are relative: `a/b`. Not thread-safe.

    Every directory is held open by descriptor and entered without following links, so a link that appears meanwhile changes
    nothing. Going through paths in sorted order opens each directory about once. Close it, or use `with`.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        # Renamed away after each file, so one name does for all; a crash leaves at most one such file.
        self._temporary = f".paddock-{uuid.uuid4().hex}"
        try:
            os.makedirs(self._root, exist_ok=True)
            self._root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise translate(error, "write into", self._root) from error
        self._names: list[str] = []
        self._fds: list[int] = []
        self._directory = ""

    def write(self, path: str, pieces: Iterable[Bytes], *, executable: bool) -> os.stat_result:
        """Write a file, replacing what file or link has its name; its status afterwards.

        Conflict names a directory in the way, or a file or link where a directory must be. After an error the old file is as it was.
        """
        directory, _, name = path.rpartition("/")
        parent = self._enter(directory)
        try:
            fd = os.open(self._temporary, _CREATE, 0o777 if executable else 0o666, dir_fd=parent)
        except OSError as error:
            raise self._error(error, "write", path) from error
        try:
            for piece in pieces:
                _write_all(fd, piece)
            os.rename(self._temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            return os.fstat(fd)
        except BaseException as error:
            _forget(self._temporary, parent)
            if isinstance(error, OSError):
                raise self._error(error, "write", path) from error
            raise
        finally:
            os.close(fd)

    def remove(self, path: str) -> bool:
        """Remove a file or link; whether there was one."""
        directory, _, name = path.rpartition("/")
        try:
            os.unlink(name, dir_fd=self._enter(directory, make=False))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error(error, "remove", path) from error
        return True

    def remove_empty(self, directory: str) -> None:
        """Remove a directory and those above it, as long as they are empty, but never the root."""
        while directory:
            parent, _, name = directory.rpartition("/")
            try:
                os.rmdir(name, dir_fd=self._enter(parent, make=False))
            except OSError:
                return  # it holds something, or is gone
            directory = parent

    def close(self) -> None:
        self._leave(0)
        os.close(self._root_fd)

    def __enter__(self) -> TargetDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter(self, directory: str, *, make: bool = True) -> int:
        """The descriptor of a directory below the root. FileNotFoundError where it is not there and not to be made."""
        if directory == self._directory:
            return self._fds[-1] if self._fds else self._root_fd
        names = directory.split("/") if directory else []
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        self._leave(same)
        for depth in range(same, len(names)):
            parent = self._fds[-1] if self._fds else self._root_fd
            self._fds.append(self._open(parent, names, depth, make=make))
            self._names.append(names[depth])
            self._directory = "/".join(self._names)
        return self._fds[-1] if self._fds else self._root_fd

    def _leave(self, depth: int) -> None:
        while len(self._fds) > depth:
            os.close(self._fds.pop())
            self._names.pop()
        self._directory = "/".join(self._names)

    def _open(self, parent: int, names: list[str], depth: int, *, make: bool) -> int:
        name = names[depth]
        try:
            try:
                return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if not make:
                    raise
                _make_directory(name, parent)
                return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            shown = os.path.join(self._root, *names[: depth + 1])
            if error.errno in _IN_THE_WAY:
                raise Conflict(f"{shown} is {_kind(name, parent)} where a directory is needed; move it away") from error
            if isinstance(error, FileNotFoundError):
                raise
            raise translate(error, "write into", shown) from error

    def _error(self, error: OSError, action: str, path: str) -> PaddockError:
        shown = os.path.join(self._root, path)
        if error.errno == errno.EISDIR:
            return Conflict(f"{shown} is a directory where a file is to be written; move it away")
        return translate(error, action, shown)


def _write_all(fd: int, data: Bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        pass  # another writer to the same target was first


def _forget(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        pass


def _kind(name: str, parent: int) -> str:
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except OSError:
        return "something"
    return "a symbolic link" if stat.S_ISLNK(mode) else "no directory"
