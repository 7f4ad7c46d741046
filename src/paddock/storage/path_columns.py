"""Work on a column of sorted paths, by columns: what lies at a depth, which directories there are, and their digests.

The digest of a directory is BLAKE3 of `paddock.directory.v1\\0` and then, for each file below it in order of its path:
the path relative to the directory (UTF-8, without a leading slash), a zero byte, the file's digest, and one byte, 1
where it is executable. So equal directories have equal digests wherever they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.columnar import flag_array, key_bytes, number_array, single_array

DIRECTORY_PREFIX = b"paddock.directory.v1\0"
_SLASH = 47

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Directories:
    """Directories at one depth, sorted by the rows below them."""

    paths: list[str]
    files: list[int]
    sizes: list[int]
    digests: list[Digest]


class PathColumn:
    """The paths of some tree rows, with the places of their slashes."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self.array = single_array(rows.column("path"))
        self.offsets, self.data = key_bytes(self.array)

    @cached_property
    def slashes(self) -> Ints:
        """Where in the joined bytes the slashes are."""
        return np.flatnonzero(self.data == _SLASH)

    @cached_property
    def first_slashes(self) -> Ints:
        """For each path the place of its first slash among the slashes."""
        return np.searchsorted(self.slashes, self.offsets[:-1])

    @cached_property
    def depths(self) -> Ints:
        """Parts of each path: 1 for `/a`."""
        return np.diff(np.append(self.first_slashes, len(self.slashes)))

    @property
    def depth_max(self) -> int:
        return int(self.depths.max(initial=0))

    def directories_end_in(self, text: str) -> bool:
        """Whether the path of any directory ends in the text, which holds no slash. Some 100 µs."""
        # In the joined bytes a slash follows each directory's name, and each path but the last.
        files = int(np.count_nonzero(pc.ends_with(self.array[:-1], text).to_numpy(zero_copy_only=False)))
        return self.data.tobytes().count(f"{text}/".encode()) > files

    def at_depth(self, depth: int) -> pa.Table:
        """The rows of the files with exactly `depth` parts."""
        return self.rows.filter(flag_array(self.depths == depth))

    def below(self, depth: int) -> Below | None:
        """The rows that lie inside directories of `depth` parts (0: the root); None where there are none."""
        chosen = np.flatnonzero(self.depths > depth)
        if not len(chosen):
            return None
        return Below(self, chosen, self.slashes[self.first_slashes[chosen] + depth])


class Below:
    """Rows inside directories of one depth. `cuts`: for each row, where in the joined bytes its directory's name ends."""

    def __init__(self, column: PathColumn, chosen: Ints, cuts: Ints) -> None:
        self._column = column
        self._chosen = chosen
        self._starts = column.offsets[chosen].astype(np.int64)
        self._ends = column.offsets[chosen + 1].astype(np.int64)
        self._cuts = cuts

    def groups(self) -> tuple[list[str], Ints]:
        """The directories, and the place (among the chosen rows) of each one's first row; one more place ends the last."""
        names, starts = self._named()
        return names.to_pylist(), np.append(starts, len(self._chosen))

    def names(self) -> pa.Array:
        """The directories; one may occur again, where others come between its files."""
        return self._named()[0]

    def _named(self) -> tuple[pa.Array, Ints]:
        names = _pick(self._column.data, self._starts, self._cuts, pa.string())
        changes = np.flatnonzero(pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)) + 1
        starts = np.concatenate(([0], changes))
        return names.take(number_array(starts)), starts

    def sizes(self, starts: Ints) -> Ints:
        """The sum of sizes in each group."""
        sizes = single_array(self._column.rows.column("size")).to_numpy()[self._chosen]
        summed: Ints = np.add.reduceat(sizes, starts[:-1])
        return summed

    def records(self) -> tuple[memoryview, Ints]:
        """What the directory digest is over: joined bytes, and where each row's part starts (and the last one ends)."""
        names = _pick(self._column.data, self._cuts + 1, self._ends, pa.binary())
        chosen = number_array(self._chosen)
        digests = single_array(self._column.rows.column("digest")).take(chosen).cast(pa.binary())
        executable = single_array(self._column.rows.column("executable")).take(chosen)
        flags = pa.array([b"\0", b"\1"], type=pa.binary()).take(executable)
        zero = pa.scalar(b"\0", pa.binary())
        joined = pc.binary_join_element_wise(names, zero, digests, flags, pa.scalar(b"", pa.binary()))
        offsets, data = key_bytes(joined)
        return data.data, offsets.astype(np.int64)


Select = Callable[[list[str]], Sequence[int]]
"""Chooses among directory paths: the positions of those that are wanted."""


class DirectoryScan:
    """Gathers the directories of `depth` parts (0: the root) from sorted tree rows that come in pieces.

    `select` limits whose digests are made. A Python step for each directory, none for each file.
    """

    def __init__(self, depth: int, select: Select | None = None) -> None:
        self._depth = depth
        self._select = select
        self._current: _Open | None = None

    def feed(self, column: PathColumn) -> Directories:
        """Take the next piece; the directories that are complete now."""
        done = Directories([], [], [], [])
        below = column.below(self._depth)
        if below is None:
            return done
        paths, starts = below.groups()
        chosen = range(len(paths)) if self._select is None else self._select([path or "/" for path in paths])
        if self._current is not None and self._current.path != paths[0]:
            self.end(done)
        if len(chosen):
            self._add(done, below, paths, starts, chosen)
        return done

    def end(self, done: Directories | None = None) -> Directories:
        """The last directory."""
        done = Directories([], [], [], []) if done is None else done
        if self._current is not None:
            self._current.close(done)
            self._current = None
        return done

    def _add(self, done: Directories, below: Below, paths: list[str], starts: Ints, chosen: Sequence[int]) -> None:
        sizes = below.sizes(starts).tolist()
        data, offsets = below.records()
        bounds = offsets[starts].tolist()
        counts = np.diff(starts).tolist()
        for number in chosen:
            path = paths[number]
            if self._current is None or self._current.path != path:
                self.end(done)
                self._current = _Open(path)
            self._current.add(counts[number], sizes[number], data[bounds[number] : bounds[number + 1]])


def directories(tables: Iterable[pa.Table], depth: int) -> Iterator[Directories]:
    """The directories of `depth` parts in sorted tree rows that come in pieces."""
    scan = DirectoryScan(depth)
    for table in tables:
        yield scan.feed(PathColumn(table))
    yield scan.end()


class _Open:
    """A directory whose rows may go on in the next piece."""

    __slots__ = ("files", "hasher", "path", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = 0
        self.size = 0
        self.hasher: Any = blake3(DIRECTORY_PREFIX)

    def add(self, files: int, size: int, records: memoryview) -> None:
        self.files += files
        self.size += size
        self.hasher.update(records)

    def close(self, done: Directories) -> None:
        done.paths.append(self.path or "/")
        done.files.append(self.files)
        done.sizes.append(self.size)
        done.digests.append(Digest(self.hasher.digest()))


def _pick(data: npt.NDArray[np.uint8], starts: Ints, ends: Ints, arrow: Any) -> pa.Array:
    """The array of `data[starts[i]:ends[i]]`; the ranges are in order and do not overlap."""
    marks = np.zeros(len(data) + 1, dtype=np.int8)
    marks[starts] += 1  # the starts are distinct, and so are the ends
    marks[ends] -= 1
    picked = data[np.cumsum(marks[:-1], dtype=np.int8).view(bool)]
    offsets = np.concatenate(([0], np.cumsum(ends - starts))).astype(np.int32)
    return pa.Array.from_buffers(arrow, len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(picked)])
