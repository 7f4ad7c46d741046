"""The tables that remember how files were cut."""

from __future__ import annotations

from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed

CUTS = TableKind(
    "cuts",
    (
        Column("name", STRING),
        Column("digest", fixed(32)),
        Column("offset", INT64),
        Column("length", INT64),
        Column("size", INT64),
        Column("first", INT64),
        Column("records", INT64),
    ),
)
"""The pieces of one file, cut by one rule. digest, size: of the piece as it is laid out. offset, length: of its bytes in the
file. first: number of its first record, from 1."""

CUT_FILES = TableKind("cut-files", (Column("key", fixed(32)), Column("cuts", fixed(32)), Column("head", INT64)))
"""The files that one rule has cut. key: the file's digest, or that of its beginning (`stem_keys`). cuts: root of a CUTS table.
head: bytes at the start of the file that stand before each piece."""
