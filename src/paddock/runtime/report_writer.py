"""Builds one report of a worker: output bytes, tables, logs and header, all in the same packs, durable by one flush."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddock.model.ids import CommitId, Digest
from paddock.model.records import Location, PackRecord
from paddock.runtime.batch_format import (
    NOT_STARTED,
    RESULTS,
    STATES,
    BatchHeader,
    DatumOutcome,
    OutputFile,
    encode_header,
)
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.chunks import DetachedWriter
from paddock.storage.objects import ObjectStore
from paddock.storage.segments import TableKind, encode_segment
from paddock.storage.tree_kinds import FILES

SEGMENT_ROWS_MAX = 50_000
LOG_CHUNK_BYTES = 1 << 20


class ReportWriter:
    """Takes outcomes of datums as they end. `writer` is open for their outputs from the start. Not thread-safe.

    Memory: the rows, at most a mebibyte of logs, and what the writer buffers. `finish` or `abort` ends it.
    """

    def __init__(self, objects: ObjectStore, known: Mapping[Digest, Location], *, chunking: ChunkingParameters) -> None:
        self.writer = DetachedWriter(objects, known, chunking=chunking)
        self.datums = 0
        self.output_files = 0
        self.output_bytes = 0
        self._rows: list[tuple[Any, ...]] = []
        """Of RESULTS."""
        self._files: list[OutputFile] = []
        self._file_segments: list[Digest] = []
        self._log = bytearray()
        self._log_bytes = 0
        self._log_chunks: list[tuple[Digest, int]] = []

    def add(self, outcome: DatumOutcome) -> int:
        """Record one datum; returns the number of its row. Errors of the object store leave the report unusable."""
        row = self.datums
        output_bytes = sum([file.size for file in outcome.files])
        values = (
            row,
            bytes.fromhex(outcome.id),
            outcome.key,
            STATES.index(outcome.state),
            NOT_STARTED if outcome.exit_code is None else outcome.exit_code,
            outcome.reason,
            outcome.error_code,
            outcome.tries,
            outcome.seconds,
            self.output_files,
            len(outcome.files),
            output_bytes,
            self._log_bytes,
            len(outcome.log),
        )
        self._rows.append(values)
        self.datums += 1
        self.output_files += len(outcome.files)
        self.output_bytes += output_bytes
        self._add_files(outcome.files)
        self._add_log(outcome.log)
        return row

    def finish(self, job: CommitId, transform: str) -> tuple[Digest, tuple[PackRecord, ...]]:
        """Make the report durable; the digest of its batch result, and the packs that hold everything new."""
        self._cut_files()
        self._cut_log(0)
        header = BatchHeader(
            job=job,
            transform=transform,
            datums=self.datums,
            results=(self.writer.put(encode_segment(RESULTS, _columns(RESULTS, self._rows))),),
            files=tuple(self._file_segments),
            log=tuple(self._log_chunks),
        )
        digest = self.writer.put(encode_header(header))
        return digest, self.writer.flush()

    def abort(self) -> None:
        self.writer.abort()

    def _add_files(self, files: tuple[OutputFile, ...]) -> None:
        self._files += files
        if len(self._files) >= SEGMENT_ROWS_MAX:
            self._cut_files()

    def _cut_files(self) -> None:
        if self._files:
            self._file_segments.append(self.writer.put(encode_segment(FILES, _file_columns(self._files))))
            self._files.clear()

    def _add_log(self, log: bytes) -> None:
        self._log_bytes += len(log)
        self._log += log
        if len(self._log) >= LOG_CHUNK_BYTES:
            self._cut_log(LOG_CHUNK_BYTES)

    def _cut_log(self, kept_below: int) -> None:
        """Store the log up to now in chunks, but keep a rest shorter than `kept_below` for later."""
        view = bytes(self._log)
        start = 0
        while start < len(view) and len(view) - start >= kept_below:
            piece = view[start : start + LOG_CHUNK_BYTES]
            self._log_chunks.append((self.writer.put(piece), len(piece)))
            start += len(piece)
        del self._log[:start]


def _columns(kind: TableKind, rows: list[tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
    names = [column.name for column in kind.columns]
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _file_columns(files: list[OutputFile]) -> dict[str, list[Any]]:
    return {
        "path": [file.path for file in files],
        "size": [file.size for file in files],
        "digest": [file.digest for file in files],
        "executable": [int(file.executable) for file in files],
        "chunks": [file.chunks for file in files],
    }
