"""Files over HTTP: one file is a raw body, a tree is a tar stream, a listing is NDJSON."""

from __future__ import annotations

import builtins
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from paddock.client.archives import Progress, pack, scan_folder, unpack, write_file
from paddock.client.http_objects import commit_path
from paddock.client.mirrors import Written, is_untouched, memory_path, recall, remember
from paddock.client.transport import Transport
from paddock.model.archives import ARCHIVE_MEDIA_TYPE, PIECE_BYTES
from paddock.model.records import Commit, FileDiff, FileInfo, FileKind, GetReport, PutReport
from paddock.model.services import OnTransfer

T = TypeVar("T")


def path_part(address: str) -> str | None:
    """The path as it was written (a trailing slash may mean something), or None where there is none."""
    _, colon, path = address.partition(":")
    return path if colon else None


@dataclass(frozen=True, slots=True)
class HttpFiles:
    transport: Transport

    def put(self, target: str, source: BinaryIO | bytes, *, append: bool = False) -> PutReport:
        pieces = [source] if isinstance(source, bytes) else iter(lambda: source.read(PIECE_BYTES), b"")
        result: PutReport = self.transport.request(
            PutReport,
            "PUT",
            commit_path(target, "content"),
            parameters={"path": path_part(target), "append": append},
            content=pieces,
        )
        return result

    def put_tree(
        self,
        target: str,
        source: Path,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        name = source.resolve().name or "root"
        entries = scan_folder(source, prefix=name)
        parameters = {"path": path_part(target), "append": append, "mirror": mirror, "name": name}
        result: PutReport = self.transport.request(
            PutReport,
            "PUT",
            commit_path(target, "archive"),
            parameters=parameters | {"folder": source.is_dir()},
            content=pack(entries, on_transfer=on_transfer),
            content_type=ARCHIVE_MEDIA_TYPE,
        )
        return result

    def read(self, source: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        parameters = {"path": path_part(source), "offset": offset, "length": length}
        pieces = self.transport.bytes(commit_path(source, "content"), parameters=parameters)
        first = next(pieces, None)
        return iter(()) if first is None else itertools.chain((first,), pieces)

    def get_tree(
        self, source: str, target: Path, *, mirror: bool = False, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        """As the protocol says. Unchanged files of an earlier mirror are not fetched again."""
        started = time.monotonic()
        top = self.inspect(source)
        files = builtins.list(self.list(source, recursive=True))
        memory = memory_path(target, os.environ)
        before = recall(memory) if mirror else {}
        download = _Download(self.transport, source, top, target)
        kept = {file.path: before[download.name(file)] for file in files if download.is_current(file, before)}
        wanted = [file for file in files if file.path not in kept]
        size = sum(file.size_bytes for file in wanted)
        progress = Progress(on_transfer, files_total=len(wanted), bytes_total=size)
        removed = download.remove_vanished(before, files)
        written = download.fetch(wanted, whole=not kept, progress=progress)
        if mirror:
            remember(
                memory,
                target,
                {download.name(file): kept[file.path] for file in files if file.path in kept} | written,
            )
        seconds = time.monotonic() - started
        total = sum(file.size_bytes for file in files)
        return GetReport(files=len(files), bytes=total, written=len(wanted), removed=removed, seconds=seconds)

    def inspect(self, address: str) -> FileInfo:
        parameters = {"path": path_part(address)}
        result: FileInfo = self.transport.request(FileInfo, "GET", commit_path(address, "file"), parameters=parameters)
        return result

    def list(self, address: str, *, recursive: bool = False) -> Iterator[FileInfo]:
        parameters = {"path": path_part(address), "recursive": recursive}
        return _started(self.transport.lines(FileInfo, commit_path(address, "files"), parameters=parameters))

    def glob(self, address: str) -> Iterator[FileInfo]:
        parameters = {"pattern": path_part(address)}
        return _started(self.transport.lines(FileInfo, commit_path(address, "glob"), parameters=parameters))

    def delete(self, target: str, *, recursive: bool = False) -> PutReport:
        parameters = {"path": path_part(target), "recursive": recursive}
        result: PutReport = self.transport.request(
            PutReport, "DELETE", commit_path(target, "files"), parameters=parameters
        )
        return result

    def copy(self, source: str, target: str, *, append: bool = False) -> PutReport:
        parameters = {"path": path_part(target), "append": append}
        result: PutReport = self.transport.request(
            PutReport, "POST", commit_path(target, "copy"), parameters=parameters, body={"source": source}
        )
        return result

    def diff(self, new: str, old: str | None = None) -> Iterator[FileDiff]:
        parameters = {"path": path_part(new), "old": old}
        return _started(self.transport.lines(FileDiff, commit_path(new, "diff"), parameters=parameters))

    def find(self, address: str, *, limit: int | None = None) -> Sequence[tuple[Commit, FileDiff]]:
        result: tuple[tuple[Commit, FileDiff], ...] = self.transport.request(
            tuple[tuple[Commit, FileDiff], ...],
            "GET",
            commit_path(address, "history"),
            parameters={"path": path_part(address), "limit": limit},
        )
        return result


def _started(items: Iterator[T]) -> Iterator[T]:
    """The same items, with the first one already fetched, so that errors come from the call and not from the loop."""
    first = next(items, None)
    return iter(()) if first is None else itertools.chain((first,), items)


class _Download:
    """The files of one address on their way to a local target."""

    def __init__(self, transport: Transport, source: str, top: FileInfo, target: Path) -> None:
        self._transport = transport
        self._source = source
        self._top = top
        self._target = target
        if top.kind is FileKind.FILE and target.is_dir():
            self._target = target / Path(top.path).name

    def name(self, file: FileInfo) -> str:
        """The path below the target; empty where the source is a single file."""
        return file.path.removeprefix(self._top.path).lstrip("/")

    def place(self, name: str) -> Path:
        return self._target / name if name else self._target

    def is_current(self, file: FileInfo, before: dict[str, Written]) -> bool:
        name = self.name(file)
        written = before.get(name)
        return written is not None and written.digest == file.digest and is_untouched(self.place(name), written)

    def remove_vanished(self, before: dict[str, Written], files: Iterable[FileInfo]) -> int:
        """Remove what an earlier mirror wrote and the source no longer has; files that the user changed stay."""
        vanished = before.keys() - {self.name(file) for file in files}
        removed = 0
        for name in vanished:
            path = self.place(name)
            if is_untouched(path, before[name]):
                path.unlink()
                removed += 1
                self._remove_empty_parents(path)
        return removed

    def _remove_empty_parents(self, path: Path) -> None:
        for parent in path.parents:
            if parent == self._target or not parent.is_relative_to(self._target) or any(parent.iterdir()):
                return
            parent.rmdir()

    def fetch(self, wanted: Sequence[FileInfo], *, whole: bool, progress: Progress) -> dict[str, Written]:
        """Write the wanted files; `whole` fetches them as one tar stream. Returns what is on disk now."""
        digests = {self.name(file): file.digest for file in wanted}
        written: dict[str, Written] = {}
        for name, path in self._as_archive(progress) if whole and wanted else self._one_by_one(wanted, progress):
            found = path.stat()
            written[name] = Written(digests.get(name, ""), found.st_size, found.st_mtime_ns)
        return written

    def _as_archive(self, progress: Progress) -> Iterator[tuple[str, Path]]:
        single = self._top.kind is FileKind.FILE
        pieces = self._transport.bytes(
            commit_path(self._source, "archive"), parameters={"path": path_part(self._source)}
        )
        for name, path in unpack(pieces, lambda name: self.place("" if single else name), progress=progress):
            yield "" if single else name, path

    def _one_by_one(self, wanted: Sequence[FileInfo], progress: Progress) -> Iterator[tuple[str, Path]]:
        for file in wanted:
            path = self.place(self.name(file))
            pieces = self._transport.bytes(commit_path(self._source, "content"), parameters={"path": file.path})
            write_file(path, pieces, executable=file.executable)
            progress.add(files=1, bytes_=file.size_bytes)
            yield self.name(file), path
