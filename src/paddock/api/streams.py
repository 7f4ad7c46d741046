"""Streamed answers: NDJSON records, raw bytes, tar. What fails before the first byte is a problem document."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse

from paddock.api.problems import problem_document
from paddock.model.errors import Bug, PaddockError
from paddock.model.records import to_json

NDJSON_MEDIA_TYPE = "application/x-ndjson"
BATCH_ROWS = 256
BATCH_BYTES = 256 << 10


def ndjson(records: Iterable[Any], *, batch_rows: int = BATCH_ROWS) -> StreamingResponse:
    """One JSON record a line; a failure in the middle is a last line `{"problem": …}`.

    batch_rows: so many, or `BATCH_BYTES`, are sent together. Records are asked for as the reader takes them.
    """
    return StreamingResponse(begun(_lines(iter(records), batch_rows)), media_type=NDJSON_MEDIA_TYPE)


def _lines(records: Iterator[Any], batch_rows: int) -> Iterator[bytes]:
    sent = False
    try:
        batch = bytearray()
        for number, record in enumerate(records, 1):
            batch += _line(to_json(record))
            if number % batch_rows == 0 or len(batch) >= BATCH_BYTES:
                yield bytes(batch)
                sent = True
                batch.clear()
        if batch:
            yield bytes(batch)
    except PaddockError as error:
        if not sent:
            raise
        yield _line({"problem": problem_document(error)})


def _line(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def raw(
    pieces: Iterable[bytes],
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/octet-stream",
) -> StreamingResponse:
    """Bytes as they are; a failure in the middle breaks the connection, so that nobody takes a part for the whole."""
    return StreamingResponse(begun(iter(pieces)), media_type=media_type, headers=headers)


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces with the first one already made, so that early errors become a problem document."""
    try:
        first = next(pieces, b"")
    except PaddockError:
        raise
    except Exception as error:
        raise Bug(f"reading failed unexpectedly: {error!r}") from error
    return itertools.chain((first,), pieces)
