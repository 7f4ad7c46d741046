"""Pieces of files as tasks for workers: which part of which chunks each is, and what stands around it."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from itertools import accumulate
from typing import Any

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.records import Location
from paddock.model.splits import SplitRule
from paddock.pipelines.inputs import Leaf
from paddock.runtime.cut_files import CutFiles, Cuts, File, StoredSource
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.protocol import Cut, FileTask
from paddock.storage.chunks import file_chunks
from paddock.storage.splitting.cutting import Around
from paddock.versions.home import Home

_FILES_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Layout:
    """A file that is cut: its chunks, where each begins, and what stands around its pieces."""

    chunks: tuple[Digest, ...]
    starts: list[int]
    around: Around


class PieceTasks:
    """Keeps what it knows of the last few files. Cost: some 5 µs a piece, and the segments of the tables in which they lie."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._matches = LeafMatches(home.trees, CutFiles(home).find)
        self._layouts: OrderedDict[tuple[Digest, SplitRule], _Layout] = OrderedDict()

    def of(self, leaf: Leaf, tree: Digest, paths: Collection[str]) -> dict[str, FileTask]:
        """The task of each of these pieces, which must be there, by path."""
        assert leaf.split is not None, "only split leaves have pieces"
        pieces = []
        for path, (file, cuts, row) in self._matches.piece_rows(leaf, tree, paths).items():
            layout = self._layout(leaf.split, file, cuts)
            first = bisect_right(layout.starts, row["offset"]) - 1
            last = bisect_right(layout.starts, row["offset"] + row["length"] - 1) - 1
            pieces.append(
                (path, file, row, layout, layout.chunks[first : last + 1], row["offset"] - layout.starts[first])
            )
        located = self._home.chunks.locate(list({chunk for *_, chunks, _ in pieces for chunk in chunks}))
        return {
            path: _task(path, file, row, layout.around, tuple((chunk, located[chunk]) for chunk in chunks), skip)
            for path, file, row, layout, chunks, skip in pieces
        }

    def _layout(self, rule: SplitRule, file: File, cuts: Cuts) -> _Layout:
        key = file.digest, rule
        layout = self._layouts.get(key)
        if layout is None:
            chunks = file_chunks(file.size, file.digest, file.chunks)
            sizes = self._home.chunks.chunk_sizes(chunks) if len(chunks) > 1 else [file.size]
            starts = list(accumulate(sizes[:-1], initial=0))
            around = Around(StoredSource(self._home.chunks, file), rule, cuts.head)
            layout = self._layouts[key] = _Layout(tuple(chunks), starts, around)
            if len(self._layouts) > _FILES_KEPT:
                self._layouts.popitem(last=False)
        return layout


def _task(
    path: str,
    file: File,
    row: dict[str, Any],
    around: Around,
    chunks: tuple[tuple[Digest, Location], ...],
    skip: int,
) -> FileTask:
    cut = Cut(skip, around.head, around.tail(row["offset"], row["records"]))
    return FileTask(path, row["size"], file.executable, chunks, cut)
