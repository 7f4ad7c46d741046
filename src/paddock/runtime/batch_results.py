"""Read what workers reported (see `batch_format`): results, output files and logs of one batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt
from paddock.model.ids import CommitId, Digest
from paddock.runtime.batch_format import FORMAT, NOT_STARTED, RESULTS, STATES, BatchHeader
from paddock.storage.chunks import ChunkStore
from paddock.storage.columnar import decode_segment, empty_table
from paddock.storage.segments import TableKind
from paddock.storage.tree_kinds import FILES

__all__ = [
    "FILES",
    "NOT_STARTED",
    "RESULTS",
    "STATES",
    "BatchHeader",
    "BatchResult",
    "log_pieces",
    "parse_batch_header",
    "read_batch_header",
    "read_batch_result",
    "read_log",
    "read_logs",
    "read_results",
]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One report. results: RESULTS, row n is ordinal n. files: FILES, those of row r from `files_first`,
    `files_count`.
    """

    header: BatchHeader
    results: pa.Table
    files: pa.Table


def read_batch_result(chunks: ChunkStore, batch: Digest) -> BatchResult:
    """Header and tables of a batch result. Corrupt: it is damaged. NotFound: the store does not have it."""
    header = read_batch_header(chunks, batch)
    return BatchResult(header, _read_table(chunks, RESULTS, header.results), _read_table(chunks, FILES, header.files))


def read_batch_header(chunks: ChunkStore, batch: Digest) -> BatchHeader:
    """Only the header: one chunk."""
    return parse_batch_header(batch, chunks.read(batch))


def parse_batch_header(batch: Digest, data: bytes) -> BatchHeader:
    """The header from the bytes of the batch result. Corrupt where they are none."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise Corrupt(
                f"batch result {batch.hex()} has format {document['format']}; "
                f"this version of Paddock reads format {FORMAT}: use the version that wrote it"
            )
        return BatchHeader(
            job=CommitId(document["job"]),
            transform=document["transform"],
            datums=document["datums"],
            results=tuple(_digest(text) for text in document["results"]),
            files=tuple(_digest(text) for text in document["files"]),
            log=tuple((_digest(text), size) for text, size in document["log"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"chunk {batch.hex()} is not a batch result ({error!r}); run fsck") from error


def read_results(chunks: ChunkStore, batch: Digest) -> pa.Table:
    """Only the results, without the output files."""
    return _read_table(chunks, RESULTS, read_batch_header(chunks, batch).results)


def read_log(chunks: ChunkStore, batch: Digest, ordinal: int) -> Iterator[bytes]:
    """The log of one datum in pieces. Reads the header, the results and the chunks that hold the log."""
    header = read_batch_header(chunks, batch)
    return log_pieces(header, _read_table(chunks, RESULTS, header.results), ordinal, chunks.read)


def log_pieces(
    header: BatchHeader, results: pa.Table, ordinal: int, read: Callable[[Digest], bytes]
) -> Iterator[bytes]:
    """The log of one datum of a batch in pieces; read: gets a chunk, of a mebibyte at most."""
    first = results.column("log_offset")[ordinal].as_py()
    end = first + results.column("log_bytes")[ordinal].as_py()
    position = 0
    for digest, size in header.log:
        if position < end and position + size > first:
            yield read(digest)[max(0, first - position) : end - position]
        position += size


def read_logs(chunks: ChunkStore, batch: Digest) -> Iterator[tuple[str, bytes]]:
    """(datum id, log) of all datums of a batch, in its order; each chunk is read once. Memory: the longest log, and a chunk."""
    header = read_batch_header(chunks, batch)
    results = _read_table(chunks, RESULTS, header.results)
    pieces = iter(header.log)
    held = b""
    for id, size in zip(results.column("id").to_pylist(), results.column("log_bytes").to_pylist(), strict=True):
        while len(held) < size:
            held += chunks.read(next(pieces)[0])
        yield id.hex(), held[:size]
        held = held[size:]


def _read_table(chunks: ChunkStore, kind: TableKind, segments: Sequence[Digest]) -> pa.Table:
    tables = [decode_segment(kind, data) for data in chunks.read_many(segments)]
    return pa.concat_tables(tables) if tables else empty_table(kind)


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text))
