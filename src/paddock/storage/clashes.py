"""No path is a file and a directory at once: finding where a set of files would break that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.errors import Conflict
from paddock.storage.columnar import bisect_key, single_array
from paddock.storage.path_columns import PathColumn

_WINDOW_ROWS = 1 << 17

Paths: TypeAlias = "pa.Array | pa.ChunkedArray"
"""Canonical paths of files, sorted, each once."""


def below(path: str) -> tuple[str, str]:
    """The range of keys (first, last) that are paths below a directory."""
    stem = "" if path == "/" else path
    return stem + "/", stem + "0"  # "0" follows "/"


def ancestors(paths: Iterable[str]) -> set[str]:
    """All directories above a few paths, without the root; for many, `directories_above`."""
    found: set[str] = set()
    for path in paths:
        parent = path[: path.rfind("/")]
        while parent and parent not in found:
            found.add(parent)
            parent = parent[: parent.rfind("/")]
    return found


def directories_above(paths: Paths) -> set[str]:
    """The same as `ancestors`, without a Python step for each file."""
    return {name for _, names in _directories(paths) for name in names.to_pylist()}


def clash_within(paths: Paths) -> tuple[str, str] | None:
    """The first path that is also a directory of another one, with the first inside it; None where there is none.

    About 0.2 µs a path, and memory for a hundred thousand paths at a time.
    """
    both: list[str] = []
    for window, names in _directories(paths):
        both += names.filter(pc.is_in(names, value_set=window)).to_pylist()
        # A file sorts before what is below it: the window before may end in one whose directory begins here.
        early = names.filter(pc.less(names, window[0])).to_pylist()
        both += [name for name in early if _has(paths, name)]
    if not both:
        return None
    file = min(both)
    return file, paths[bisect_key(paths, below(file)[0])].as_py()


def clash_error(file: str, inside: str) -> Conflict:
    """The error for a file that would also be a directory."""
    return Conflict(
        f"{file} can't be both a file and a directory: {inside} lies below it; remove or rename one of them"
    )


def _directories(paths: Paths) -> Iterator[tuple[pa.Array, pa.Array]]:
    """(some of the paths, directories above them), in order; names may occur more than once."""
    for start in range(0, len(paths), _WINDOW_ROWS):
        part = paths.slice(start, _WINDOW_ROWS)
        window = single_array(part) if isinstance(part, pa.ChunkedArray) else part
        column = PathColumn(pa.table({"path": window}))
        for depth in range(1, column.depth_max):
            inside = column.below(depth)
            if inside is not None:
                yield window, inside.names()


def _has(paths: Paths, path: str) -> bool:
    at = bisect_key(paths, path)
    return at < len(paths) and paths[at].as_py() == path
