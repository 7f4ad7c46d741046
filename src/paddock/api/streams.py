"""Streamed answers: NDJSON records, raw bytes, tar. What fails before the first byte is a problem document."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse

from paddock.api.problems import problem_document
from paddock.model.archives import ARCHIVE_END, ARCHIVE_MEDIA_TYPE, archive_header, archive_padding
from paddock.model.errors import Bug, NotFound, PaddockError
from paddock.model.records import FileKind, to_json
from paddock.model.services import Paddock

NDJSON_MEDIA_TYPE = "application/x-ndjson"
BATCH_ROWS = 256


def ndjson(records: Iterable[Any]) -> StreamingResponse:
    """One JSON record a line; a failure in the middle is a last line `{"problem": …}`."""
    return StreamingResponse(begun(_lines(iter(records))), media_type=NDJSON_MEDIA_TYPE)


def _lines(records: Iterator[Any]) -> Iterator[bytes]:
    sent = False
    try:
        while batch := list(itertools.islice(records, BATCH_ROWS)):
            yield b"".join(_line(to_json(record)) for record in batch)
            sent = True
    except PaddockError as error:
        if not sent:
            raise
        yield _line({"problem": problem_document(error)})


def _line(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def raw(pieces: Iterable[bytes], *, headers: Mapping[str, str] | None = None) -> StreamingResponse:
    """Bytes as they are; a failure in the middle breaks the connection, so that nobody takes a part for the whole."""
    return StreamingResponse(begun(iter(pieces)), media_type="application/octet-stream", headers=headers)


def archive(paddock: Paddock, address: str, path: str | None) -> StreamingResponse:
    """The file or tree at `project/repo@ref` and `path` as a tar stream, all from one commit."""
    pinned = _pinned(paddock, address)
    return StreamingResponse(begun(_tar(paddock, pinned, path or "/")), media_type=ARCHIVE_MEDIA_TYPE)


def _pinned(paddock: Paddock, address: str) -> str:
    """The address with the commit's id instead of a name that may move while the stream runs."""
    try:
        commit = paddock.commits.inspect(address)
    except NotFound:
        # A branch without a commit reads as an empty tree; a missing one fails again in the listing.
        return address
    return f"{commit.project}/{commit.repo}@{commit.id}"


def _tar(paddock: Paddock, address: str, path: str) -> Iterator[bytes]:
    top = paddock.files.inspect(f"{address}:{path}")
    above = top.path.rpartition("/")[0] if top.kind is FileKind.FILE else top.path
    for file in paddock.files.list(f"{address}:{path}", recursive=True):
        name = file.path.removeprefix(above).lstrip("/")
        yield archive_header(name, size=file.size_bytes, executable=file.executable)
        if file.size_bytes:
            yield from paddock.files.read(f"{address}:{file.path}")
        yield archive_padding(file.size_bytes)
    yield ARCHIVE_END


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces with the first one already made, so that early errors become a problem document."""
    try:
        first = next(pieces, b"")
    except PaddockError:
        raise
    except Exception as error:
        raise Bug(f"reading failed unexpectedly: {error!r}") from error
    return itertools.chain((first,), pieces)
