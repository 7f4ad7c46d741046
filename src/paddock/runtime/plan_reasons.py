"""Why a datum runs: the file, code file or spec field in which it differs from the last good job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.records import Change
from paddock.model.splits import file_of
from paddock.pipelines.inputs import Leaf
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.plan_request import Place, place_of
from paddock.storage.trees import Trees

SHOWN_MAX = 3
"""Files of a changed directory, and code files, that are named."""
NO_INFLUENCE = frozenset({"code", "debug"})
"""Fields of the transform that are compared in another way, or decide nothing."""

CodeFiles = Mapping[str, tuple[bytes, int]]
"""(digest, executable) of each code file, by path."""


@dataclass(frozen=True, slots=True)
class Side:
    """The input of one of the two jobs that are compared: its leaves and the tree at each place."""

    leaves: Sequence[Leaf]
    trees: Mapping[Place, Digest]


@dataclass(frozen=True, slots=True)
class Reasons:
    """Explains datums of a job against those of its base (None: the pipeline has none). transform: see `transform_changes`."""

    trees: Trees
    new: Side
    old: Side | None
    transform: Sequence[str]
    asked: str
    """Why datums run though a result is kept; empty where kept results count."""

    def to_run(self, row: Mapping[str, Any], before: Mapping[str, Any] | None) -> tuple[str, ...]:
        """row, before: the datum's rows of the two datums tables, as plain values."""
        if self.old is None:
            return ("no job of this pipeline has succeeded yet",)
        if before is None:
            return (*self._added(row, self.old), *self.transform) or ("no earlier job has a datum of these files",)
        found = [*self._changed(row, before, self.old), *self.transform]
        if not found and not before["success"]:
            found.append("its last run did not succeed")
        if not found and self.asked:
            found.append(self.asked)
        return tuple(found) or ("how its files are handed over changed (join_on, group_by or empty_files)",)

    def to_drop(self, before: Mapping[str, Any]) -> tuple[str, ...]:
        assert self.old is not None, "a datum to drop is in the base"
        gone = []
        present = {place_of(leaf): tree for leaf in self.new.leaves for tree in [self.new.trees[place_of(leaf)]]}
        for number, path in zip(before["leaves"], before["paths"], strict=True):
            leaf = self.old.leaves[number]
            tree = present.get(place_of(leaf))
            if tree is None:
                gone.append(f"the pipeline no longer reads {leaf.address}")
            elif self.trees.info(tree, _file(leaf, path)) is None:
                gone.append(f"{leaf.name}:{_file(leaf, path)} was removed")
            elif leaf.split is not None:
                gone.append(f"{_shown(leaf, path)} is no more")
        return tuple(dict.fromkeys(gone)) or ("its files no longer make a datum: a glob, a key or the input changed",)

    def _added(self, row: Mapping[str, Any], old: Side) -> list[str]:
        found = []
        for number, path in zip(row["leaves"], row["paths"], strict=True):
            leaf = self.new.leaves[number]
            tree = old.trees.get(place_of(leaf))
            if tree is None:
                found.append(f"{leaf.address} was not read before")
            elif self.trees.info(tree, _file(leaf, path)) is None:
                found.append(f"{leaf.name}:{_file(leaf, path)} was added")
            elif leaf.split is not None:
                found.append(f"{_shown(leaf, path)} is new")
        return list(dict.fromkeys(found))

    def _changed(self, row: Mapping[str, Any], before: Mapping[str, Any], old: Side) -> list[str]:
        columns = zip(before["leaves"], before["paths"], before["digests"], strict=True)
        known = {(old.leaves[number].name, path): digest for number, path, digest in columns}
        found = []
        for number, path, digest in zip(row["leaves"], row["paths"], row["digests"], strict=True):
            leaf = self.new.leaves[number]
            if known.get((leaf.name, path)) != digest:
                found.append(f"{_shown(leaf, path)} changed{self._inside(leaf, path, old)}")
        return found

    def _inside(self, leaf: Leaf, path: str, old: Side) -> str:
        """Of a directory, what differs in it."""
        before, after = old.trees.get(place_of(leaf)), self.new.trees[place_of(leaf)]
        if before is None or leaf.split is not None or self.trees.row(after, path) is not None:
            return ""
        some = list(islice(self.trees.diff(before, after, path), SHOWN_MAX + 1))
        return _listed([f"{each.path} {each.change.value}" for each in some], separator=": ")


def _file(leaf: Leaf, path: str) -> str:
    """What of the tree a datum read at `path`."""
    return path if leaf.split is None else file_of(path)


def _shown(leaf: Leaf, path: str) -> str:
    """An element of a datum for people: `in:/a.csv`, `in:/a.csv (a-000000000001.csv)`."""
    file = _file(leaf, path)
    return f"{leaf.name}:{file}" if file == path else f"{leaf.name}:{file} ({path[len(file) + 1 :]})"


def transform_changes(
    old: PipelineSpec, new: PipelineSpec, old_code: CodeFiles, new_code: CodeFiles
) -> tuple[str, ...]:
    """Spec fields and code files in which two transforms differ; empty where they compute the same."""
    before, after = old.transform.model_dump(mode="json"), new.transform.model_dump(mode="json")
    found = []
    for name in sorted((before.keys() | after.keys()) - NO_INFLUENCE):
        if name == "env" and before.get(name) != after.get(name):
            found += [f"transform.env.{each} changed" for each in _differing(before[name], after[name])]
        elif before.get(name) != after.get(name):
            found.append(f"transform.{name} changed")
    return (*found, *_code_changes(old_code, new_code))


def code_files(tables: Iterable[pa.Table]) -> CodeFiles:
    """The files of a code tree, from its rows."""
    found: dict[str, tuple[bytes, int]] = {}
    for table in tables:
        columns = (table.column(name).to_pylist() for name in ("path", "digest", "executable"))
        found |= {path: (digest, executable) for path, digest, executable in zip(*columns, strict=True)}
    return found


def _code_changes(old: CodeFiles, new: CodeFiles) -> list[str]:
    found = []
    for path in _differing(old, new):
        change = Change.ADDED if path not in old else Change.REMOVED if path not in new else Change.CHANGED
        found.append(f"code file {path.removeprefix('/')} {change.value}")
    more = len(found) - SHOWN_MAX
    return found if more <= 0 else [*found[:SHOWN_MAX], f"{more} more code files changed"]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _listed(texts: Sequence[str], *, separator: str) -> str:
    if not texts:
        return ""
    more = " and more" if len(texts) > SHOWN_MAX else ""
    return f"{separator}{', '.join(texts[:SHOWN_MAX])}{more}"
