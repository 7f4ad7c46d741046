"""What a worker stores for a report: the batch result, its tables and its log. No pyarrow here: workers
import this module.

A *batch result* is one chunk of canonical JSON, named by its digest:

    {"datums": 3, "files": [digest…], "format": 1, "job": id, "log": [[digest, bytes]…], "results": [digest…],
     "transform": id}

`results` and `files` name segments (of RESULTS below, and of FILES), to be read one after the other as one
table; `log` names the chunks whose bytes in order are the logs of all its datums, in the order of their rows.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId, DatumId, DatumKey, Digest
from paddock.model.records import DatumState
from paddock.storage.segments import FLOAT64, INT32, INT64, STRING, UINT8, Column, TableKind, fixed

FORMAT = 1

RESULTS = TableKind(
    "batch-results",
    (
        Column("ordinal", INT32),
        Column("id", fixed(16)),
        Column("key", fixed(32)),
        Column("state", UINT8),
        Column("exit_code", INT32),
        Column("reason", STRING),
        Column("error_code", STRING),
        Column("tries", INT32),
        Column("seconds", FLOAT64),
        Column("files_first", INT64),
        Column("files_count", INT64),
        Column("output_bytes", INT64),
        Column("log_offset", INT64),
        Column("log_bytes", INT64),
    ),
)
"""One row a datum, in the order in which they ended: `ordinal` is the row's number.

state: index in STATES. exit_code: of the last try; -N where signal N ended it; NOT_STARTED where none ran.
files_first, files_count: rows of FILES. log_offset, log_bytes: its part of the log.
"""

STATES: tuple[DatumState, ...] = (DatumState.SUCCESS, DatumState.RECOVERED, DatumState.FAILED)
NOT_STARTED = -(1 << 31)


class OutputFile(NamedTuple):
    """A row of `storage.tree_kinds.FILES`. path: absolute, below `/pfs/out`. chunks: empty for a file of
    one chunk or none.
    """

    path: str
    size: int
    digest: Digest
    executable: bool
    chunks: tuple[Digest, ...]


class DatumOutcome(NamedTuple):
    """All that is kept of one datum that ran. files: empty unless it succeeded. exit_code: None where nothing ran.

    error_code: class of error (see `paddock.model.errors`) where the machine or the store is the cause; else
    empty.
    """

    id: DatumId
    key: DatumKey
    state: DatumState
    exit_code: int | None
    reason: str
    error_code: str
    tries: int
    seconds: float
    files: tuple[OutputFile, ...]
    log: bytes


@dataclass(frozen=True, slots=True)
class BatchHeader:
    job: CommitId
    transform: str
    datums: int
    results: tuple[Digest, ...]
    files: tuple[Digest, ...]
    log: tuple[tuple[Digest, int], ...]


def encode_header(header: BatchHeader) -> bytes:
    document = {
        "format": FORMAT,
        "job": header.job,
        "transform": header.transform,
        "datums": header.datums,
        "results": [digest.hex() for digest in header.results],
        "files": [digest.hex() for digest in header.files],
        "log": [[digest.hex(), size] for digest, size in header.log],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
