"""What the leaves of an input match in trees: files, directories, and the pieces of files that a leaf splits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.globs import compile_glob
from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes, PackedTexts
from paddock.model.splits import SplitRule, file_of, name_parts, piece_of
from paddock.pipelines.inputs import Leaf
from paddock.runtime.cut_files import Cuts, File
from paddock.storage.columnar import single_array
from paddock.storage.match_changes import MatchChanges, match_changes
from paddock.storage.matching import DIGEST_BYTES, Matches, match_captured, match_tree
from paddock.storage.splitting.kinds import CUTS
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import Trees

FindCuts = Callable[[Leaf, SplitRule, Iterable[File]], Mapping[Digest, Cuts]]
"""How files are cut, by their digests (`CutFiles.find`)."""

PIECES_SHARE = 8
"""With more than one piece in so many changed, planning everything costs less."""


@dataclass(frozen=True, slots=True)
class LeafMatches:
    """What `storage.matching` finds for a leaf's glob; where the leaf splits files, their pieces instead, and no directories.

    Cost of pieces beyond that of the glob and of `find_cuts`: some 0.5 µs each.
    """

    trees: Trees
    find_cuts: FindCuts

    def all(self, leaf: Leaf, tree: Digest) -> Matches:
        return self._pieces(leaf, tree, match_tree(self.trees, tree, compile_glob(leaf.glob)))

    def captured(self, leaf: Leaf, tree: Digest, values: Collection[str], *, group: int) -> Matches | None:
        """As `match_captured`."""
        found = match_captured(self.trees, tree, compile_glob(leaf.glob), values, group=group)
        return None if found is None else self._pieces(leaf, tree, found)

    def changes(self, leaf: Leaf, old: Digest, new: Digest, *, rows_max: int) -> MatchChanges | None:
        """As `match_changes`. Of a file on both sides, only the parts of its table of pieces that differ are read."""
        changes = match_changes(self.trees, old, new, compile_glob(leaf.glob), rows_max=rows_max)
        if changes is None or leaf.split is None or not changes:
            return changes
        return self._piece_changes(leaf, leaf.split, (old, new), changes, rows_max)

    def files(self, tree: Digest, paths: Sequence[str]) -> dict[str, File]:
        """The files at these paths, as far as the tree has them."""
        table = self.trees.tables.lookup(TREE, tree, pa.array(paths, pa.string()))
        columns = (table.column(name).to_pylist() for name in ("path", "size", "digest", "chunks", "executable"))
        return {
            path: File(path, size, Digest(digest), tuple(map(Digest, chunks)), executable == 1)
            for path, size, digest, chunks, executable in zip(*columns, strict=True)
        }

    def piece_rows(
        self, leaf: Leaf, tree: Digest, paths: Iterable[str]
    ) -> dict[str, tuple[File, Cuts, dict[str, Any]]]:
        """Of each of these pieces, by its path: its file, how that is cut, and its own row (of kind `cuts`); of those that there are."""
        assert leaf.split is not None, "only split files have pieces"
        by_file: dict[str, dict[str, str]] = {}
        for path in paths:
            by_file.setdefault(file_of(path), {})[piece_of(path)] = path
        files = self.files(tree, list(by_file))
        cuts = self.find_cuts(leaf, leaf.split, files.values())
        found: dict[str, tuple[File, Cuts, dict[str, Any]]] = {}
        for path, file in files.items():
            own = cuts[file.digest]
            rows = self.trees.tables.lookup(CUTS, own.root, pa.array(list(by_file[path]), pa.string()))
            found |= {by_file[path][row["name"]]: (file, own, row) for row in rows.to_pylist()}
        return found

    def records(self, leaf: Leaf, tree: Digest, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
        """The first and the last record of each of these pieces, of those that there are."""
        rows = ((path, row) for path, (_, _, row) in self.piece_rows(leaf, tree, paths).items())
        return {path: (row["first"], row["first"] + row["records"] - 1) for path, row in rows}

    def _pieces(self, leaf: Leaf, tree: Digest, matches: Matches) -> Matches:
        if leaf.split is None:
            return matches
        files = self.files(tree, _plain_files(matches))
        cuts = self.find_cuts(leaf, leaf.split, files.values())
        captures = _captures(matches)
        return Matches.concat(
            [
                _pieces_of(path, rows, captures[path])
                for path, file in files.items()
                for rows in self.trees.tables.scan(CUTS, cuts[file.digest].root)
            ]
        ).sorted()

    def _piece_changes(
        self, leaf: Leaf, rule: SplitRule, trees: tuple[Digest, Digest], changes: MatchChanges, rows_max: int
    ) -> MatchChanges | None:
        sides = (changes.old, changes.new)
        files = [self.files(tree, _plain_files(side)) for tree, side in zip(trees, sides, strict=True)]
        cuts = self.find_cuts(leaf, rule, [file for side in files for file in side.values()])
        captures = _captures(changes.old) | _captures(changes.new)
        found: tuple[list[Matches], list[Matches]] = ([], [])
        count = 0
        nothing = self.trees.tables.empty(CUTS)
        for path in sorted(files[0].keys() | files[1].keys()):
            roots = [cuts[side[path].digest].root if path in side else nothing for side in files]
            for pair in self.trees.tables.diff(CUTS, *roots):
                for side, rows in zip(found, _differing(*pair), strict=True):
                    side.append(_pieces_of(path, rows, captures[path]))
                    count += rows.num_rows
                if count > max(rows_max, self._share(roots)):
                    return None
        return MatchChanges(*(Matches.concat(side).sorted() for side in found))

    def _share(self, roots: Sequence[Digest]) -> int:
        """So many changed pieces of a file are still traced one by one."""
        return max(self.trees.tables.root(CUTS, root).rows for root in roots) // PIECES_SHARE


def _plain_files(matches: Matches) -> Sequence[str]:
    """The paths of those that are no directories."""
    return matches.paths.take(np.flatnonzero(~matches.directories))


def _captures(matches: Matches) -> dict[str, tuple[str, ...]]:
    """What the glob captured of each path."""
    if not matches.captures:
        return dict.fromkeys(matches.paths, ())
    return dict(zip(matches.paths, zip(*matches.captures, strict=True), strict=True))


def _pieces_of(path: str, rows: pa.Table, captures: tuple[str, ...]) -> Matches:
    """Some pieces of the file at `path`."""
    stem, suffix = name_parts(path)
    parts = (pa.scalar(f"{path}/{stem}-"), single_array(rows.column("name")), pa.scalar(suffix), pa.scalar(""))
    count = rows.num_rows
    return Matches(
        PackedTexts(pc.binary_join_element_wise(*parts)),
        PackedBytes.of(rows.column("digest").to_pylist(), DIGEST_BYTES),
        np.array(rows.column("size"), np.int64),
        np.zeros(count, np.bool_),
        tuple(PackedTexts.same(text, count) for text in captures),
    )


def _differing(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Those rows whose piece has another content on the other side, or is not there: where it lies does not matter."""

    def without(rows: pa.Table, others: pa.Table) -> pa.Table:
        names = single_array(rows.column("name"))
        places = pc.index_in(names, value_set=single_array(others.column("name")))
        same = pc.equal(single_array(rows.column("digest")), single_array(others.column("digest")).take(places))
        return rows.filter(pc.invert(same.fill_null(False)))

    return without(old, new), without(new, old)
