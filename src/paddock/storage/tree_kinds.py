"""The kinds of table that hold files. No pyarrow here: workers import this module."""

from __future__ import annotations

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.segments import BINARY, INT64, STRING, UINT8, Column, TableKind, fixed, list_of

TREE = TableKind(
    "tree",
    (
        Column("path", STRING),
        Column("datum", BINARY),
        Column("size", INT64),
        Column("digest", fixed(32)),
        Column("executable", UINT8),
        Column("chunks", list_of(fixed(32))),
    ),
)
"""The files of a commit. `datum`: 16 bytes, or none for user input. `chunks`: none for a file of one chunk or none."""

FILES = TableKind(
    "files",
    (
        Column("path", STRING),
        Column("size", INT64),
        Column("digest", fixed(32)),
        Column("executable", UINT8),
        Column("chunks", list_of(fixed(32))),
    ),
)
"""The files that a batch wrote, grouped by datum: one segment, neither sorted nor unique."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One file of a tree, as stored. `chunks` is empty for a file of one chunk or none."""

    path: str
    datum: bytes
    size: int
    digest: Digest
    executable: bool
    chunks: tuple[Digest, ...] = ()
