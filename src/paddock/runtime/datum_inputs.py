"""What a datum read, as its users see it: files and directories, and which records of files that were split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddock.model.ids import Digest
from paddock.model.records import DatumInput
from paddock.model.splits import file_of
from paddock.pipelines.inputs import Leaf
from paddock.runtime.cut_files import CutFiles
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan_request import Place, place_of
from paddock.versions.home import Home

NO_RECORDS = (None, None)


class DatumInputs:
    """Turns rows of a datums table into inputs. trees: of each place the tree that was read, as far as it is still there."""

    def __init__(self, home: Home, leaves: Sequence[Leaf], trees: Mapping[Place, Digest]) -> None:
        self._leaves = leaves
        self._trees = trees
        self._matches = LeafMatches(home.trees, CutFiles(home).find)

    def of(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[DatumInput, ...]]:
        """The inputs of each row. Records are looked up for all rows together."""
        records = self._records(rows)
        return [tuple(self._inputs(row, records)) for row in rows]

    def _inputs(
        self, row: Mapping[str, Any], records: Mapping[tuple[int, str], tuple[int, int]]
    ) -> Iterable[DatumInput]:
        columns = (row[name] for name in ("leaves", "paths", "digests", "sizes"))
        for number, path, digest, size in zip(*columns, strict=True):
            leaf = self._leaves[number]
            if leaf.split is None:
                yield DatumInput(leaf.name, leaf.address, path, digest.hex(), size)
                continue
            file = file_of(path)
            piece = path[len(file) + 1 :]
            first, last = records.get((number, path), NO_RECORDS)
            yield DatumInput(leaf.name, leaf.address, file, digest.hex(), size, piece, first, last)

    def _records(self, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], tuple[int, int]]:
        wanted: dict[int, list[str]] = {}
        if any(leaf.split is not None for leaf in self._leaves):
            for row in rows:
                for number, path in zip(row["leaves"], row["paths"], strict=True):
                    if self._leaves[number].split is not None:
                        wanted.setdefault(number, []).append(path)
        found: dict[tuple[int, str], tuple[int, int]] = {}
        for number, paths in wanted.items():
            leaf = self._leaves[number]
            tree = self._trees.get(place_of(leaf))
            if tree:
                found |= {(number, path): span for path, span in self._matches.records(leaf, tree, paths).items()}
        return found
