"""Files over HTTP: a short file is a raw body, a tree goes chunk by chunk (`file_transfers`), a listing is NDJSON."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from paddock.client.http_objects import commit_path
from paddock.client.transport import Transport
from paddock.model.archives import PIECE_BYTES
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Unavailable
from paddock.model.records import Commit, FileDiff, FileInfo, GetReport, PutReport
from paddock.model.services import OnTransfer

T = TypeVar("T")

READ_ATTEMPTS = 3
"""At one place in a file, once it has begun to come."""


def path_part(address: str) -> str | None:
    """The path as it was written (a trailing slash may mean something), or None where there is none."""
    _, colon, path = address.partition(":")
    return path if colon else None


@dataclass(frozen=True, slots=True)
class HttpFiles:
    transport: Transport

    def put(self, target: str, source: BinaryIO | bytes, *, append: bool = False) -> PutReport:
        """As the protocol says. Of a long stream, chunks that the server has are not sent."""
        head = source if isinstance(source, bytes) else _read_up_to(source, PIECE_BYTES)
        if not (append or isinstance(source, bytes)) and len(head) == PIECE_BYTES:
            stored: PutReport = _file_transfers().put_stream(self.transport, target, head, source)
            return stored
        rest = iter(()) if isinstance(source, bytes) else iter(lambda: source.read(PIECE_BYTES), b"")
        result: PutReport = self.transport.request(
            PutReport,
            "PUT",
            commit_path(target, "content"),
            parameters={"path": path_part(target), "append": append},
            content=itertools.chain((head,), rest),
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
        result: PutReport = _file_transfers().put_tree(
            self.transport, target, source, append=append, mirror=mirror, on_transfer=on_transfer
        )
        return result

    def read(self, source: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return _started(_resumed(self.transport, source, offset, length))

    def get_tree(
        self, source: str, target: Path, *, mirror: bool = False, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        result: GetReport = _file_transfers().get_tree(
            self.transport, source, target, mirror=mirror, on_transfer=on_transfer
        )
        return result

    def put_archive(
        self,
        target: str,
        source: BinaryIO,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        result: PutReport = _file_transfers().put_archive(
            self.transport, target, source, append=append, mirror=mirror, on_transfer=on_transfer
        )
        return result

    def put_url(
        self,
        target: str,
        url: str,
        *,
        append: bool = False,
        mirror: bool = False,
        concurrency: int = 8,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        result: PutReport = _file_transfers().put_url(
            self.transport,
            target,
            url,
            append=append,
            mirror=mirror,
            concurrency=concurrency,
            on_transfer=on_transfer,
        )
        return result

    def get_url(
        self, source: str, url: str, *, concurrency: int = 8, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        result: GetReport = _file_transfers().get_url(
            self.transport, source, url, concurrency=concurrency, on_transfer=on_transfer
        )
        return result

    def get_archive(self, source: str, *, format: str = "tar") -> Iterator[bytes]:
        return _started(_file_transfers().get_archive(self.transport, source, format))

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


def _file_transfers() -> Any:
    # Cutting, hashing and comparing files brings in pyarrow, which listing and reading never need.
    return importlib.import_module("paddock.client.file_transfers")


def _read_up_to(source: BinaryIO, size: int) -> bytes:
    parts = [source.read(size)]
    missing = size - len(parts[0])
    while missing and parts[-1]:
        parts.append(source.read(missing))
        missing -= len(parts[-1])
    return b"".join(parts)


def _resumed(transport: Transport, source: str, offset: int, length: int | None) -> Iterator[bytes]:
    """The bytes of one file. Where the answer breaks off, the rest is asked for again: so a passing fault is mended, and one
    that stays is told by the server, by its name. Conflict: the file has become another one meanwhile."""
    position, failures, tag = offset, 0, None
    while True:
        left = None if length is None else offset + length - position
        parameters = {"path": path_part(source), "offset": position, "length": left}
        began = position
        try:
            with transport.answer("GET", commit_path(source, "content"), parameters=parameters) as (headers, pieces):
                if tag not in (None, headers.get("etag")):
                    raise Conflict(f"{source} changed while it was read; read it again, or name a commit by its id")
                tag = headers.get("etag")
                for piece in pieces:
                    position += len(piece)
                    yield piece
            return
        except Unavailable:
            failures = 0 if position > began else failures + 1
            if tag is None or failures >= READ_ATTEMPTS:
                raise
