"""The files of a tree as they are to be written below a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.chunking import file_chunks

_COLUMNS = ("path", "size", "digest", "executable", "chunks")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file to write, at a path relative to the target: `a/b`."""

    path: str
    size: int
    digest: Digest
    executable: bool
    chunks: Sequence[Digest]
    """All of them, in order; none for an empty file."""


def output_files(tables: Iterable[pa.Table], prefix: str) -> Iterator[OutputFile]:
    """The files of tree rows below a prefix that ends in `/`."""
    skip = len(prefix)
    for table in tables:
        columns = (table.column(name).to_pylist() for name in _COLUMNS)
        for path, size, digest, executable, chunks in zip(*columns, strict=True):
            yield OutputFile(path[skip:], size, digest, bool(executable), file_chunks(size, digest, chunks))
