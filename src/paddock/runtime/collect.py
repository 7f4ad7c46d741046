"""Read what a datum left in `/pfs/out` and store it: files, directories, and links to inputs without reading them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Protocol

from paddock.model.dataclass import dataclass
from paddock.model.errors import LimitExceeded
from paddock.model.ids import Digest
from paddock.runtime.batch_format import OutputFile
from paddock.runtime.materialize import Placed, remove_tree
from paddock.storage.chunking import EMPTY_DIGEST, ChunkingParameters, StoredFile, file_digest
from paddock.storage.os_errors import translate
from paddock.storage.streams import Reader

_DEPTH_MAX = 300


class ChunkSink(Protocol):
    """Where output bytes go (storage's DetachedWriter)."""

    chunking: ChunkingParameters

    def put(self, data: bytes) -> Digest: ...

    def put_stream(self, reader: Reader) -> StoredFile: ...


class OutputError(Exception):
    """User code left something in /pfs/out that cannot be kept; the message names it. Its datum fails."""


@dataclass(slots=True)
class Collector:
    """Collects outputs of one slot, datum after datum.

    pfs: directory that user code knows as `/pfs`, by its real path, where this process may write to `out` too.
    tick: called often. settle: called where something is another user's and closed to this one.
    """

    pfs: str
    tick: Callable[[], object]
    settle: Callable[[], None]
    _present: Mapping[str, Placed] = field(default_factory=dict)
    _sink: ChunkSink | None = None
    _rows: list[OutputFile] = field(default_factory=list)
    plain: list[str] | None = None
    """Names of all that was in `/pfs/out`, where that was nothing but files."""

    def collect(self, present: Mapping[str, Placed], sink: ChunkSink) -> list[OutputFile]:
        """All files below `/pfs/out`, stored. Directories without files leave no trace; modes are changed if need be.

        present: files in place as inputs, by path below `pfs`. sink: where bytes go.

        Links to inputs (files and directories) become the input's content without reading a byte; links within
        `/pfs/out` or to the code become copies. OutputError: whatever else there is, or cannot be read. Errors of
        the sink pass through; it must not be used any more then.
        """
        self._present, self._sink = present, sink
        self._rows, self.plain = [], []
        try:
            self._folder(f"{self.pfs}/out", "", ())
        except OSError as error:
            place = os.fsdecode(error.filename or self.pfs)
            raise OutputError(str(translate(error, "read the output", f"{place[:200]!a}", reading=True))) from error
        return self._rows

    def _folder(self, path: str, name: str, above: tuple[str, ...]) -> None:
        """Collect a directory as `name`. above: real paths of the directories that led here by links."""
        if name.count("/") > _DEPTH_MAX:
            raise OutputError(f"{self._say(name)[:120]}… is nested more than {_DEPTH_MAX} directories deep; flatten it")
        for entry in self._entries(path):
            inner = f"{name}/{entry.name}"
            if not entry.name.isascii():
                self._check_name(inner)
            if entry.is_file(follow_symlinks=False):
                self._file(entry.path, inner)
                if not name and self.plain is not None:
                    self.plain.append(entry.name)
                continue
            self.plain = None
            if entry.is_symlink():
                self._link(entry.path, inner, above)
            elif entry.is_dir(follow_symlinks=False):
                self._folder(entry.path, inner, above)
            else:
                raise OutputError(self._not_a_file(inner, entry.stat(follow_symlinks=False).st_mode))

    def _file(self, path: str, name: str) -> None:
        self.tick()
        descriptor = self._open(path)
        try:
            self._store(descriptor, name)
        finally:
            os.close(descriptor)

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        """Entries of a directory in name order, so that equal outputs give equal rows."""
        try:
            found = list(os.scandir(path))
        except PermissionError:
            self._unlock(path, stat.S_IRWXU)
            found = list(os.scandir(path))
        if len(found) > 1:
            found.sort(key=lambda entry: entry.name)
        return found

    def _open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except PermissionError:
            self._unlock(path, stat.S_IRUSR | (os.lstat(path).st_mode & stat.S_IXUSR))
            return os.open(path, flags)

    def _unlock(self, path: str, mode: int) -> None:
        """Make readable what this user or another one has closed."""
        self.settle()
        with suppress(PermissionError):
            os.chmod(path, mode)

    def _store(self, descriptor: int, name: str) -> None:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OutputError(self._not_a_file(name, state.st_mode))
        executable = state.st_mode & stat.S_IXUSR != 0
        sink = self._sink
        assert sink is not None, "something is being collected"
        if state.st_size <= sink.chunking.min_bytes:
            # A file no longer than the shortest chunk is one chunk: no need to look for cuts.
            data = os.read(descriptor, state.st_size) if state.st_size else b""
            digest = sink.put(data) if data else EMPTY_DIGEST
            self._rows.append(OutputFile(name, len(data), digest, executable, ()))
            return
        stored = sink.put_stream(_TickingReader(descriptor, self.tick))
        self._rows.append(OutputFile(name, stored.size, stored.digest, executable, stored.chunks))

    def _link(self, path: str, name: str, above: tuple[str, ...]) -> None:
        """A link in `/pfs/out`: to an input, to the code, or to something else in `/pfs/out`; nothing else is kept."""
        text = os.fsdecode(os.readlink(os.fsencode(path)))
        target = self._resolve(path, name, text)
        if target == self.pfs or not target.startswith(self.pfs + "/"):
            raise OutputError(
                f"{self._say(name)} is a link to {text}, which is outside {self.pfs}: "
                f"copy the file itself into {self.pfs}/out"
            )
        inner = target[len(self.pfs) + 1 :]
        top = inner.partition("/")[0]
        if top not in ("out", ".code", ".env"):
            self._reference(inner, name)
            return
        if not os.path.isdir(target):
            self._file(target, name)
            return
        own = os.path.realpath(os.path.dirname(path))
        holders = (*above, target)
        if target in above or f"{own}/".startswith(f"{target}/"):
            raise OutputError(f"{self._say(name)} is a link to {text}, a directory that holds it: remove the link")
        self._folder(target, name, holders)

    def _resolve(self, path: str, name: str, text: str) -> str:
        """The real path that a link leads to."""
        try:
            return os.path.realpath(path, strict=True)
        except FileNotFoundError:
            raise OutputError(
                f"{self._say(name)} is a link to {text}, which does not exist: "
                "remove the link, or write what it should lead to"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self._say(name)} is a link to {text} that cannot be followed: {error.strerror}"
            ) from None

    def _reference(self, inner: str, name: str) -> None:
        """Take an input file, or all input files of a directory, as they are stored."""
        placed = self._present.get(inner)
        if placed is not None:
            self._take(inner, name, placed)
            return
        prefix = f"{inner}/"
        for path, each in self._present.items():
            if path.startswith(prefix):
                self._take(path, f"{name}/{path[len(prefix) :]}", each)

    def _take(self, inner: str, name: str, placed: Placed) -> None:
        if placed.file.cut is None:
            self._rows.append(_row(name, placed))
        else:
            # A piece of a file has no chunks of its own.
            self._file(f"{self.pfs}/{inner}", name)

    def _check_name(self, name: str) -> None:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise OutputError(
                f"{self._say(name)!a} has a name that is not UTF-8, so it cannot be kept: rename the file"
            ) from None

    def _not_a_file(self, name: str, mode: int) -> str:
        kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a block device"))
        kind = next((word for test, word in kinds if test(mode)), "a device")
        return (
            f"{self._say(name)} is {kind}: only files, directories and links can be kept; "
            "remove it before the command ends"
        )

    def _say(self, name: str) -> str:
        return f"{self.pfs}/out{name}"


class _TickingReader:
    """A descriptor as a `Reader`, which ticks as it is read (by a thread of the sink, while the caller waits)."""

    __slots__ = ("_descriptor", "_tick")

    def __init__(self, descriptor: int, tick: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._tick = tick

    def read(self, size: int, /) -> bytes:
        self._tick()
        return os.read(self._descriptor, size)

    def readinto(self, buffer: memoryview, /) -> int:
        self._tick()
        return os.readv(self._descriptor, [buffer])


def clear_folder(path: str, *, mode: int = 0o755) -> None:
    """Remove everything in a directory, but not itself (it may be a mount point), and give it `mode` again.

    Raises LimitExceeded, Unavailable.
    """
    try:
        _make_accessible(path, mode)
        with os.scandir(os.fsencode(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(os.fsdecode(entry.path))
                else:
                    os.unlink(entry.path)
    except OSError as error:
        raise translate(error, "clear", path) from error


def clear_files(path: str, names: Sequence[str], *, mode: int = 0o755) -> None:
    """`clear_folder` of a directory that holds just these files; saves listing it. Errors as there."""
    try:
        _make_accessible(path, mode)
        for name in names:
            os.unlink(f"{path}/{name}")
    except OSError as error:
        raise translate(error, "clear", path) from error


def _make_accessible(path: str, mode: int) -> None:
    if os.stat(path).st_mode & 0o777 != mode:
        os.chmod(path, mode)


def disk_is_full(path: str) -> bool:
    """Whether the file system of `path` has (nearly) no room left for this user: less than 64 KiB, or no inode."""
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize < (64 << 10) or (state.f_files > 0 and state.f_favail == 0)


def disk_full_error(path: str) -> LimitExceeded:
    return LimitExceeded(f"the disk that holds {path} is full; free some space and run the job again")


def _row(name: str, placed: Placed) -> OutputFile:
    file = placed.file
    digests = tuple(digest for digest, _ in file.chunks)
    return OutputFile(name, file.size, file_digest(digests), file.executable, digests if len(digests) > 1 else ())
