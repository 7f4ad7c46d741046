"""The tables that a job leaves in bulk storage: its datums, and the results it adds to the cache."""

from __future__ import annotations

from paddock.storage.segments import INT32, INT64, STRING, UINT8, Column, TableKind, fixed, list_of

NO_BATCH = bytes(32)
"""Stands where a datum has no result (yet)."""
NO_JOB = bytes(16)

DATUMS = TableKind(
    "datums",
    (
        Column("name", STRING),
        Column("id", fixed(16)),
        Column("key", fixed(32)),
        Column("leaves", list_of(INT32)),
        Column("paths", list_of(STRING)),
        Column("digests", list_of(fixed(32))),
        Column("sizes", list_of(INT64)),
        Column("batch", fixed(32)),
        Column("ordinal", INT32),
        Column("job", fixed(16)),
        Column("success", UINT8),
    ),
)
"""All datums of one job, by sort name. leaves, paths, digests, sizes: one item for each input element of the datum.
batch, ordinal: the batch result and the row in it that hold its result. job: id of the job that computed it. success: 1 where the
result is good, and so may be used again."""

CACHE = TableKind(
    "cache",
    (
        Column("key", fixed(32)),
        Column("batch", fixed(32)),
        Column("ordinal", INT32),
        Column("job", fixed(16)),
    ),
)
"""Kept successes of one transform, by datum key: where each result lies, and the job that computed it."""
