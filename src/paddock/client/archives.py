"""Local folders as tar streams: how the code of a pipeline goes to a server. Constant memory, whatever the sizes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paddock.model.archives import ARCHIVE_END, PIECE_BYTES, archive_header, archive_padding
from paddock.model.dataclass import dataclass
from paddock.model.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Problem,
)
from paddock.model.services import OnTransfer, Transferred


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One file of an archive: `data`, or else the bytes of the local file `source`."""

    name: str
    source: Path | None = None
    size: int = 0
    executable: bool = False
    data: bytes = b""

    @property
    def bytes(self) -> int:
        return len(self.data) if self.source is None else self.size


def scan_folder(source: Path, *, prefix: str) -> list[ArchiveEntry]:
    """Every file at or below a local path, sorted, named `prefix[/relative path]`; symbolic links are followed.

    InvalidInput lists every socket, FIFO, device, link loop and name that is not UTF-8; NotFound where nothing is
    there.
    """
    problems: list[Problem] = []
    entries: list[ArchiveEntry] = []
    with translated(source):
        pending: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(source, prefix, ())]
        while pending:
            path, name, above = pending.pop()
            found = _stat(path, problems)
            if found is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                identity = (found.st_dev, found.st_ino)
                if identity in above:
                    problems.append(Problem(str(path), "is a link to a folder above it; remove the link"))
                    continue
                children = (Path(child) for child in os.scandir(path))
                pending.extend((child, f"{name}/{child.name}", (*above, identity)) for child in children)
            elif stat.S_ISREG(found.st_mode):
                executable = bool(found.st_mode & stat.S_IXUSR)
                entries.append(ArchiveEntry(name, path, found.st_size, executable))
            else:
                problems.append(Problem(str(path), "is not a regular file or a folder; remove it or leave it out"))
    problems.extend(_unreadable_names(entries))
    if problems:
        raise InvalidInput(f"{source} holds what can't be stored; nothing was put", problems=tuple(problems))
    return sorted(entries, key=lambda entry: entry.name)


def _stat(path: Path, problems: list[Problem]) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        problems.append(Problem(str(path), f"is a link to {path.readlink()}, which does not exist; remove it"))
    except OSError as error:
        if not path.is_symlink():
            raise
        problems.append(Problem(str(path), f"is a link that can't be followed ({error.strerror}); remove it"))
    return None


def _unreadable_names(entries: Iterable[ArchiveEntry]) -> Iterator[Problem]:
    for entry in entries:
        try:
            entry.name.encode("utf-8")
        except UnicodeEncodeError:
            yield Problem(ascii(entry.name), "is not a UTF-8 name; rename the file")


def pack(entries: Sequence[ArchiveEntry], *, on_transfer: OnTransfer | None = None) -> Iterator[bytes]:
    """The tar stream of the entries. A file that changes its size meanwhile is Conflict, and the stream ends torn."""
    progress = Progress(on_transfer, files_total=len(entries), bytes_total=sum(entry.bytes for entry in entries))
    for entry in entries:
        yield archive_header(entry.name, size=entry.bytes, executable=entry.executable)
        if entry.source is None:
            yield entry.data
        else:
            yield from _file_pieces(entry.source, entry.size, progress)
        yield archive_padding(entry.bytes)
        progress.add(files=1)
    yield ARCHIVE_END


def _file_pieces(source: Path, size: int, progress: Progress) -> Iterator[bytes]:
    left = size
    with translated(source), source.open("rb") as file:
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise Conflict(f"{source} became shorter while it was read; put it again once it is written")
            left -= len(piece)
            yield piece
            progress.add(bytes_=len(piece))


class Progress:
    """Counts what has passed, and tells the caller."""

    def __init__(self, on_transfer: OnTransfer | None, *, files_total: int | None, bytes_total: int | None) -> None:
        self._tell = on_transfer
        self._files = self._bytes = 0
        self._totals = files_total, bytes_total

    def add(self, *, files: int = 0, bytes_: int = 0) -> None:
        self._files += files
        self._bytes += bytes_
        if self._tell is not None:
            self._tell(Transferred(self._files, self._bytes, *self._totals))


class translated:  # noqa: N801  (used as a statement)
    """`with translated(path):` turns operating system errors about a local path into the error tree."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, PaddockError) or not isinstance(error, OSError):
            return
        raise local_error(self._path, error) from error


_CLASSES: dict[type[OSError], tuple[type[PaddockError], str]] = {
    FileNotFoundError: (NotFound, "does not exist; check the path"),
    PermissionError: (PermissionDenied, "may not be read or written by you; change its mode or owner"),
    NotADirectoryError: (Conflict, "has a file where a folder is needed; move it away"),
    IsADirectoryError: (Conflict, "is a folder where a file is needed; move it away"),
}


def local_error(path: Path, error: OSError) -> PaddockError:
    """The error of our tree for an operating system error about a local path."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else path
    for kind, (found, text) in _CLASSES.items():
        if isinstance(error, kind):
            return found(f"{named} {text}")
    return LimitExceeded(f"{named} can't be read or written: {error.strerror or error}")
