"""What two trees differ in, as matches of a glob. Reads only segments that differ, and directories with a change in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.globs import Glob
from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes, PackedTexts
from paddock.model.records import FileKind
from paddock.storage.clashes import ancestors
from paddock.storage.matching import DIGEST_BYTES, Matches, captured, key_range, match_tree
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import Trees

DIRECTORIES_MAX = 256
"""Changed directories that are looked at one by one; for more, matching the whole tree is cheaper."""


@dataclass(frozen=True, slots=True)
class MatchChanges:
    """Matches that only one of two trees has, or whose digest differs. old, new: sorted by path, as each tree has them."""

    old: Matches
    new: Matches

    def __bool__(self) -> bool:
        return len(self.old) + len(self.new) > 0


@dataclass(frozen=True, slots=True)
class _Match:
    digest: Digest
    size: int
    directory: bool


def match_changes(trees: Trees, old: Digest, new: Digest, glob: Glob, *, rows_max: int) -> MatchChanges | None:
    """How the glob's matches differ between two trees.

    None where more than `rows_max` files differ, or too many directories: then a plan of everything costs less.
    """
    if glob.exact is not None:
        return _exact_changes(trees, old, new, glob)
    before: dict[str, _Match] = {}
    after: dict[str, _Match] = {}
    touched: set[str] = set()
    for olds, news in trees.tables.diff(TREE, old, new, *key_range(glob.literal)):
        left, right = _contents(olds), _contents(news)
        differing = {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}
        touched |= differing
        before |= {path: _Match(*left[path][:2], False) for path in differing & left.keys()}
        after |= {path: _Match(*right[path][:2], False) for path in differing & right.keys()}
        if len(touched) > rows_max:
            return None
    directories = [path for path in sorted(ancestors(touched)) if glob.match(path)]
    if len(directories) > DIRECTORIES_MAX:
        return None
    before = _matching(glob, before) | _directories(trees, old, directories)
    after = _matching(glob, after) | _directories(trees, new, directories)
    same = {path for path, match in before.items() if _equal(match, after.get(path))}
    return MatchChanges(_matches(glob, before, same), _matches(glob, after, same))


def with_changes(new: Matches, changes: MatchChanges) -> Matches:
    """The old tree's matches, from those of the new tree (or some of them, with all that changed) and the changes."""
    gone = pc.is_in(new.paths.array, value_set=changes.new.paths.array).to_numpy(zero_copy_only=False)
    return Matches.concat([new.take(np.flatnonzero(~gone)), changes.old]).sorted()


def _exact_changes(trees: Trees, old: Digest, new: Digest, glob: Glob) -> MatchChanges:
    assert glob.exact is not None, "an exact glob has one path"
    if next(trees.tables.diff(TREE, old, new, *key_range(glob.exact)), None) is None:
        return MatchChanges(Matches(), Matches())
    before, after = match_tree(trees, old, glob), match_tree(trees, new, glob)
    if _contents_of(before) == _contents_of(after):
        return MatchChanges(Matches(), Matches())
    return MatchChanges(before, after)


def _contents_of(matches: Matches) -> tuple[list[bytes], list[bool]]:
    return list(matches.digests), matches.directories.tolist()


def _contents(rows: pa.Table) -> dict[str, tuple[Digest, int, int]]:
    columns = (rows.column(name).to_pylist() for name in ("path", "digest", "size", "executable"))
    return {path: (digest, size, executable) for path, digest, size, executable in zip(*columns, strict=True)}


def _matching(glob: Glob, matches: dict[str, _Match]) -> dict[str, _Match]:
    paths = list(matches)
    return {paths[index]: matches[paths[index]] for index in glob.filter(paths)[0]}


def _directories(trees: Trees, root: Digest, paths: Sequence[str]) -> dict[str, _Match]:
    infos = (trees.info(root, path) for path in paths)
    return {
        info.path: _Match(Digest(bytes.fromhex(info.digest)), info.size_bytes, True)
        for info in infos
        if info is not None and info.kind is FileKind.DIRECTORY
    }


def _equal(match: _Match, other: _Match | None) -> bool:
    return other is not None and (match.digest, match.directory) == (other.digest, other.directory)


def _matches(glob: Glob, found: dict[str, _Match], without: Collection[str]) -> Matches:
    paths = sorted(found.keys() - without)
    chosen = [found[path] for path in paths]
    return Matches(
        PackedTexts.of(paths),
        PackedBytes.of((match.digest for match in chosen), DIGEST_BYTES),
        np.array([match.size for match in chosen], np.int64),
        np.array([match.directory for match in chosen], np.bool_),
        captured(glob.groups, glob.filter(paths)[1]) if glob.groups else (),
    )
