"""From an input and what its globs match to datums, as columns: no loop over datums runs in Python.

The rules, for the files (or directories) that the `pfs` inputs match:

    pfs     one datum for each match
    union   the datums of all its inputs, one after another
    cross   each combination of one datum of each input
    join    for each key that files of all inputs have, each combination of one such file of each input; for
            a key that some inputs lack, the same over those of the others that are `outer_join`, if any
    group   for each key, one datum of all files with that key

Inside a join or group, the datums of a nested input fall apart into files: each counts once, under the key
of its own `pfs` input. A datum's files are sorted by leaf and path, and the datums are in a fixed order, so
equal inputs give equal plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, LimitExceeded
from paddock.model.globs import compile_glob, compile_template
from paddock.model.packed import PackedBytes, PackedTexts
from paddock.model.splits import SplitRule
from paddock.pipelines.models import Input, PipelineSpec

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

DATUMS_MAX = 50_000_000
"""Datums of one job; a product that grows beyond it is a mistake in the spec far more often than meant."""

CROSS_WARNING = 100_000
"""Datums from which on a preview points at a cross."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One `pfs` input of a pipeline; `index` counts them in the order of the canonical spec."""

    index: int
    name: str
    project: str
    repo: str
    branch: str
    glob: str
    join_on: str
    group_by: str
    outer_join: bool
    empty_files: bool
    split: SplitRule | None = None
    """Its matches are pieces of the files that the glob matches."""

    @property
    def address(self) -> str:
        """`project/repo@branch`"""
        return f"{self.project}/{self.repo}@{self.branch}"


class Matches(Protocol):
    """What one leaf's glob matches, as columns of one length, sorted by path."""

    @property
    def paths(self) -> PackedTexts: ...
    @property
    def digests(self) -> PackedBytes: ...
    @property
    def directories(self) -> Flags: ...
    @property
    def captures(self) -> tuple[PackedTexts, ...]:
        """One column for each capture group; none where nothing matched."""


@dataclass(frozen=True, slots=True, eq=False)
class DatumSet:
    """Datums as columns: datum `d` has the files at `offsets[d]` to `offsets[d + 1]` of `leaf` and `match`.

    leaf: index of the leaf that matched the file. match: position in that leaf's matches.
    """

    offsets: Integers
    leaf: Integers
    match: Integers

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Preview:
    """What an input comes to. matches: how many each leaf has, in leaf order."""

    datums: int
    matches: tuple[int, ...]
    warnings: tuple[str, ...]


def leaves(node: Input) -> tuple[Leaf, ...]:
    """The `pfs` inputs at or under `node`, from the first to the last; positions are their `index`."""
    return tuple(_leaves(node, count()))


def leaves_of(spec: PipelineSpec) -> tuple[Leaf, ...]:
    return leaves(spec.input)


def leaf_count(node: Input) -> int:
    """How many `pfs` inputs there are at or under `node`."""
    return 1 if node.pfs is not None else sum(leaf_count(child) for child in node.children)


def children(node: Input, first: int) -> Iterator[tuple[Input, int]]:
    """A node's inputs, each with the number of its first leaf; `first` is that of the node's own."""
    for child in node.children:
        yield child, first
        first += leaf_count(child)


def join_values(leaf: Leaf, matches: Matches) -> PackedTexts:
    """What `join_on` comes to for each match; '' throughout for a leaf that has none."""
    return _values(leaf, leaf.join_on, matches)


def group_values(leaf: Leaf, matches: Matches) -> PackedTexts:
    """What `group_by` comes to for each match; '' throughout for a leaf that has none."""
    return _values(leaf, leaf.group_by, matches)


def plan_datums(node: Input, matches: Sequence[Matches]) -> DatumSet:
    """The datums of an input. matches: those of each of `leaves(node)`, in that order.

    LimitExceeded beyond DATUMS_MAX datums; InvalidInput where a datum would hold files of two repos at one
    place. Cost: 0.1 s for a million matches of a `pfs` input, about 2 s for a join or group of them.
    """
    planner = Planner(leaves(node), matches)
    return planner.without_doubles(planner.plan(node))


def preview_datums(node: Input, matches: Sequence[Matches]) -> Preview:
    """How many datums an input makes, and why that may be fewer than meant."""
    planner = Planner(leaves(node), matches)
    planned = planner.without_doubles(planner.plan(node))
    warnings = [
        f"input {leaf.name!r}: {leaf.glob} matches nothing in {leaf.address}"
        for leaf, found in zip(planner.leaves, matches, strict=True)
        if not len(found.paths)
    ]
    return Preview(len(planned), tuple(len(found.paths) for found in matches), (*warnings, *planner.warnings))


def _leaves(node: Input, numbers: Iterator[int]) -> Iterator[Leaf]:
    pfs = node.pfs
    if pfs is not None:
        yield Leaf(
            next(numbers),
            pfs.name,
            pfs.project,
            pfs.repo,
            pfs.branch,
            pfs.glob,
            pfs.join_on,
            pfs.group_by,
            pfs.outer_join,
            pfs.empty_files,
            None if pfs.split is None else pfs.split.rule,
        )
    for child in node.children:
        yield from _leaves(child, numbers)


def _values(leaf: Leaf, text: str, matches: Matches) -> PackedTexts:
    if not text or not len(matches.paths):
        return PackedTexts.same("", len(matches.paths))
    template = compile_template(text, compile_glob(leaf.glob).groups)
    only = template.only_group
    if only is not None and only > 0:
        return matches.captures[only - 1]
    captures = zip(*matches.captures, strict=True) if matches.captures else repeat(())
    return PackedTexts.of([template.expand(path, each) for path, each in zip(matches.paths, captures, strict=False)])


@dataclass(frozen=True, slots=True, eq=False)
class _Keyed:
    """Files of one part of a join or group, sorted by key, leaf and match. `key`: its rank among all keys
    of the node."""

    leaf: Integers
    match: Integers
    key: Integers


class Planner:
    """Plans nodes of one input. chosen: for each leaf the positions in its matches to look at; None: all."""

    def __init__(
        self, leaves: Sequence[Leaf], matches: Sequence[Matches], chosen: Sequence[Integers] | None = None
    ) -> None:
        assert len(leaves) == len(matches), "each leaf has its matches"
        self.leaves = leaves
        self.warnings: list[str] = []
        self._matches = matches
        self._chosen = chosen

    def plan(self, node: Input, first: int = 0) -> DatumSet:
        """Plan one node, whose first leaf is number `first`."""
        if node.pfs is not None:
            files = np.arange(len(self._matches[first].paths)) if self._chosen is None else self._chosen[first]
            return DatumSet(np.arange(len(files) + 1), np.full(len(files), first), files)
        parts = [self.plan(child, start) for child, start in children(node, first)]
        names = self.names(node, first)
        match node.kind:
            case "union":
                return stack(parts)
            case "cross":
                self._warn_of_size(parts, names)
                return cross(parts, names)
            case "join":
                return self._join(parts, names)
            case _:
                return self._group(parts)

    def _warn_of_size(self, parts: Sequence[DatumSet], names: str) -> None:
        sizes = [len(part) for part in parts]
        if prod(sizes) >= CROSS_WARNING and sum(size > 1 for size in sizes) > 1:
            shape = " x ".join(f"{size:,}" for size in sizes)
            self.warnings.append(
                f"the cross of {names} makes {prod(sizes):,} datums ({shape}); a join, or a glob of / for one of them, makes fewer"
            )

    def names(self, node: Input, first: int) -> str:
        """The names of a node's leaves, for messages."""
        return ", ".join(leaf.name for leaf in self.leaves[first : first + leaf_count(node)])

    def _join(self, parts: Sequence[DatumSet], names: str) -> DatumSet:
        keyed, keys = self._by_key(parts, join_values)
        joined = self._join_keyed(keyed, len(keys), names)
        if not len(joined) and all(len(part) for part in parts):
            examples = ", ".join(repr(keys[int(part.key[0])]) for part in keyed)
            self.warnings.append(f"the join of {names} has no datum: no key is in all inputs (first keys: {examples})")
        return joined

    def _join_keyed(self, parts: Sequence[_Keyed], keys: int, names: str) -> DatumSet:
        outer = np.array([leaf.outer_join for leaf in self.leaves], dtype=bool)
        counts = [np.bincount(part.key, minlength=keys) for part in parts]
        complete = np.logical_and.reduce([each > 0 for each in counts])
        choices = [_choose(part, each, outer, complete) for part, each in zip(parts, counts, strict=True)]
        widths = [np.maximum(choice.counts, 1) for choice in choices]
        used = np.logical_or.reduce([choice.counts > 0 for choice in choices])
        _check_size(
            float(np.where(used, np.prod([width.astype(float) for width in widths], axis=0), 0).sum()), "join", names
        )
        rows = np.where(used, np.prod(widths, axis=0), 0)
        key = np.repeat(np.arange(keys), rows)
        within = np.arange(len(key)) - np.repeat(np.cumsum(rows) - rows, rows)
        columns: list[DatumSet] = []
        stride = np.ones(keys, dtype=np.int64)
        for choice, width in zip(reversed(choices), reversed(widths), strict=True):
            chosen = choice.starts[key] + (within // stride[key]) % width[key]
            present = choice.counts[key] > 0
            columns.append(DatumSet(_offsets(present), choice.leaf[chosen[present]], choice.match[chosen[present]]))
            stride = stride * width
        return _beside(columns[::-1])

    def _group(self, parts: Sequence[DatumSet]) -> DatumSet:
        (files,), keys = self._by_key([stack(parts)], group_values)
        return DatumSet(_offsets(np.bincount(files.key, minlength=len(keys))), files.leaf, files.match)

    def _by_key(
        self, parts: Sequence[DatumSet], values: Callable[[Leaf, Matches], PackedTexts]
    ) -> tuple[list[_Keyed], list[str]]:
        """The distinct files of each part with their keys as ranks, and the keys in order of appearance."""
        files = [_distinct(part.leaf, part.match) for part in parts]
        texts = [
            values(self.leaves[index], self._matches[index]).take(match[leaf == index])
            for leaf, match in files
            for index in np.flatnonzero(np.bincount(leaf)).tolist()
        ]
        encoded = PackedTexts.concat(texts).array.dictionary_encode()
        ranks = encoded.indices.to_numpy().astype(np.int64)
        keyed: list[_Keyed] = []
        for leaf, match in files:
            key, ranks = ranks[: len(leaf)], ranks[len(leaf) :]
            order = np.argsort(key, kind="stable")
            keyed.append(_Keyed(leaf[order], match[order], key[order]))
        return keyed, encoded.dictionary.to_pylist()

    def without_doubles(self, planned: DatumSet) -> DatumSet:
        """Each file of a datum once, where two leaves of one name matched it; InvalidInput where they read
        different repos."""
        names = {name: code for code, name in enumerate(sorted({leaf.name for leaf in self.leaves}))}
        if len(names) == len(self.leaves):
            return planned
        code = np.array([names[leaf.name] for leaf in self.leaves])[planned.leaf]
        datum = np.repeat(np.arange(len(planned)), np.diff(planned.offsets))
        spots, inverse, times = np.unique(datum * len(names) + code, return_inverse=True, return_counts=True)
        keep = np.ones(len(datum), dtype=bool)
        seen: dict[tuple[int, str], Leaf] = {}
        for position in np.flatnonzero(times[inverse] > 1).tolist():
            leaf = self.leaves[int(planned.leaf[position])]
            path = self._matches[leaf.index].paths[int(planned.match[position])]
            first = seen.setdefault((int(spots[inverse[position]]), path), leaf)
            if first.address != leaf.address:
                raise InvalidInput(
                    f"a datum would hold two files at /pfs/{leaf.name}{path}, of {first.address} and {leaf.address}; "
                    "give these inputs different names"
                )
            keep[position] = first is leaf
        kept = np.concatenate([[0], np.cumsum(keep)])
        return DatumSet(kept[planned.offsets], planned.leaf[keep], planned.match[keep])


# ---- columns
# -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The files of one part of a join that count: for key `k`, `counts[k]` of them from `starts[k]` on."""

    leaf: Integers
    match: Integers
    starts: Integers
    counts: Integers


def _choose(part: _Keyed, counts: Integers, outer: Flags, complete: Flags) -> _Choice:
    """All files of the keys that every part has, and of the other keys those of outer leaves."""
    chosen = outer[part.leaf]
    outer_counts = np.bincount(part.key[chosen], minlength=len(counts))
    starts = np.where(complete, np.cumsum(counts) - counts, len(part.leaf) + np.cumsum(outer_counts) - outer_counts)
    return _Choice(
        np.concatenate([part.leaf, part.leaf[chosen]]),
        np.concatenate([part.match, part.match[chosen]]),
        starts,
        np.where(complete, counts, outer_counts),
    )


def _check_size(datums: float, kind: str, names: str) -> None:
    if datums > DATUMS_MAX:
        raise LimitExceeded(
            f"the {kind} of {names} makes {datums:.3g} datums; at most {DATUMS_MAX:,} are allowed in one job. "
            "Narrow the globs, or let one datum hold more"
        )


def _offsets(lengths: NDArray[np.generic]) -> Integers:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _distinct(leaf: Integers, match: Integers) -> tuple[Integers, Integers]:
    """The distinct pairs, sorted."""
    span = int(match.max()) + 1 if len(match) else 1
    pairs = leaf * span + match
    if np.all(np.diff(pairs) > 0):
        return leaf, match
    leaf_sorted, match_sorted = np.divmod(np.unique(pairs), span)
    return leaf_sorted, match_sorted


def stack(parts: Sequence[DatumSet]) -> DatumSet:
    """The datums of all parts, one part after another."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return DatumSet(
        _offsets(lengths), np.concatenate([part.leaf for part in parts]), np.concatenate([part.match for part in parts])
    )


def cross(parts: Sequence[DatumSet], names: str) -> DatumSet:
    total = 1
    for part in parts:
        total *= len(part)
    _check_size(float(total), "cross", names)
    row = np.arange(total)
    columns: list[DatumSet] = []
    stride = 1
    for part in reversed(parts):
        columns.append(_take(part, (row // stride) % max(len(part), 1)))
        stride *= max(len(part), 1)
    return _beside(columns[::-1])


def _take(part: DatumSet, rows: Integers) -> DatumSet:
    lengths = np.diff(part.offsets)[rows]
    offsets = _offsets(lengths)
    flat = np.repeat(part.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return DatumSet(offsets, part.leaf[flat], part.match[flat])


def _beside(parts: Sequence[DatumSet]) -> DatumSet:
    """Parts of equally many rows as one: row `r` holds the files of row `r` of each part, in the order of
    the parts."""
    lengths = [np.diff(part.offsets) for part in parts]
    offsets = _offsets(np.sum(lengths, axis=0))
    leaf = np.empty(int(offsets[-1]), dtype=np.int64)
    match = np.empty(int(offsets[-1]), dtype=np.int64)
    start = offsets[:-1].copy()
    for part, length in zip(parts, lengths, strict=True):
        places = np.repeat(start - part.offsets[:-1], length) + np.arange(part.offsets[-1])
        leaf[places] = part.leaf
        match[places] = part.match
        start += length
    return DatumSet(offsets, leaf, match)
