"""Rows of a tree, one by one, for files that come as streams."""

from __future__ import annotations

import pyarrow as pa

from paddock.model.addresses import check_path
from paddock.model.errors import InvalidInput
from paddock.storage.chunking import StoredFile
from paddock.storage.columnar import arrow_schema
from paddock.storage.tree_kinds import TREE


class RowBuilder:
    """Collects files below a target. Some 200 bytes a file."""

    def __init__(self, target: str) -> None:
        self._stem = "" if target == "/" else target
        self._rows: dict[str, tuple[StoredFile, bool]] = {}
        self.bytes = 0

    @property
    def count(self) -> int:
        return len(self._rows)

    def fault_of(self, path: str) -> str:
        """Why there can't be a file at a path (`/a/b`, relative to the target); empty text where there can."""
        if path in self._rows:
            return "occurs twice; keep one of them"
        try:
            check_path(self._stem + path)
        except InvalidInput as error:
            return error.message
        return ""

    def add(self, path: str, file: StoredFile, *, executable: bool) -> None:
        self._rows[path] = (file, executable)
        self.bytes += file.size

    def repeat(self, source: str, path: str) -> bool:
        """Add the file at `source` once more; False where there is none."""
        found = self._rows.get(source)
        if found is not None:
            self.add(path, found[0], executable=found[1])
        return found is not None

    def file(self, path: str) -> StoredFile:
        """What was added at a path."""
        return self._rows[path][0]

    def table(self) -> pa.Table:
        """The rows, in the order in which they came."""
        files = [file for file, _ in self._rows.values()]
        columns = {
            "path": [self._stem + path for path in self._rows],
            "datum": [b""] * len(files),
            "size": [file.size for file in files],
            "digest": [file.digest for file in files],
            "executable": [int(executable) for _, executable in self._rows.values()],
            "chunks": [list(file.chunks) for file in files],
        }
        return pa.table(columns, schema=arrow_schema(TREE))
