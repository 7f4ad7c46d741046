"""How often each of many chunk digests is referred to, in 12 bytes a digest; digests are their first 64 bits (`digest_set`).

Two levels, so that a small change of a large multiset costs the change: a sorted base, which may come from a file, and sorted
differences to it, which are folded into a new base when they have grown.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from paddock.model.dataclass import dataclass
from paddock.storage.digest_set import Heads

Counts = npt.NDArray[np.int32]

_PENDING_MIN = 1 << 20
_FOLD_MIN = 1 << 16
_RANGE = 1 << 18
_FOLD_PART = 8
"""Differences are folded when they are more than this part of the base."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers by digest, sorted, each digest once."""

    heads: Heads
    counts: Counts
    file: str = ""
    """The file that it was read from, if any."""

    @classmethod
    def empty(cls) -> Tally:
        return cls(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int32))

    def of(self, some: Heads) -> Counts:
        """The number of each; 0 where there is none. In order they are found ten times as fast."""
        if not len(self.heads):
            return np.zeros(len(some), dtype=np.int32)
        places = np.searchsorted(self.heads, some)
        places[places == len(self.heads)] = 0
        return np.where(self.heads[places] == some, self.counts[places], np.int32(0))

    def plus(self, other: Tally) -> Tally:
        """The sums, without those that are 0. Takes the memory of the result, and of some ranges of digests besides."""
        most = len(self.heads) + len(other.heads)
        heads, counts = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.int32)
        end = 0
        for mine, theirs in self._ranges(other):
            part = self._part(mine)._plus(other._part(theirs))
            heads[end : end + len(part.heads)] = part.heads
            counts[end : end + len(part.heads)] = part.counts
            end += len(part.heads)
        if end < most:
            heads.resize(end, refcheck=False)
            counts.resize(end, refcheck=False)
        return Tally(heads, counts)

    def _ranges(self, other: Tally) -> Iterator[tuple[slice, slice]]:
        """Ranges of digests, as places in both."""
        starts = range(_RANGE, len(self.heads), _RANGE)
        mine = [0, *starts, len(self.heads)]
        theirs = [0, *np.searchsorted(other.heads, self.heads[_RANGE::_RANGE]).tolist(), len(other.heads)]
        for number in range(len(mine) - 1):
            yield slice(mine[number], mine[number + 1]), slice(theirs[number], theirs[number + 1])

    def _part(self, place: slice) -> Tally:
        return Tally(self.heads[place], self.counts[place])

    def _plus(self, other: Tally) -> Tally:
        places = np.searchsorted(self.heads, other.heads)
        known = np.zeros(len(places), dtype=bool)
        inside = places < len(self.heads)
        known[inside] = self.heads[places[inside]] == other.heads[inside]
        counts = self.counts.copy()
        counts[places[known]] += other.counts[known]
        heads = np.insert(self.heads, places[~known], other.heads[~known])
        counts = np.insert(counts, places[~known], other.counts[~known])
        kept = counts != 0
        return Tally(heads, counts) if kept.all() else Tally(heads[kept], counts[kept])


class DigestCounts:
    """A multiset that grows and shrinks. A number below 0 says that more was taken out than came in: the caller's error."""

    def __init__(self, base: Tally | None = None, changes: Tally | None = None) -> None:
        self.base = Tally.empty() if base is None else base
        self._changes = Tally.empty() if changes is None else changes
        self._pending: list[tuple[Heads, int]] = []
        self._pending_count = 0

    def add(self, some: Heads, step: int = 1) -> None:
        """Count each of `some` once more, or with step -1 once less. Keeps `some`."""
        self._pending.append((some, step))
        self._pending_count += len(some)
        if self._pending_count >= max(_PENDING_MIN, len(self.base.heads) // 8):
            self._settle()

    def of(self, some: Heads) -> Counts:
        """How often each is referred to."""
        self._settle()
        return self.base.of(some) + self._changes.of(some)

    def contains(self, some: Heads) -> npt.NDArray[np.bool_]:
        return np.asarray(self.of(some) > 0)

    def values(self) -> Heads:
        """All that are referred to, sorted. Folds the differences into the base."""
        self._settle()
        self._fold()
        return self.base.heads

    def levels(self) -> tuple[Tally, Tally]:
        """The base and the differences to it, as they are to be kept: the base is the one given where little changed."""
        self._settle()
        return self.base, self._changes

    def _settle(self) -> None:
        if not self._pending:
            return
        self._changes = self._changes.plus(_summed(self._pending))
        self._pending.clear()
        self._pending_count = 0
        if len(self._changes.heads) > max(_FOLD_MIN, len(self.base.heads) // _FOLD_PART):
            self._fold()

    def _fold(self) -> None:
        if len(self._changes.heads):
            changes, self._changes = self._changes, Tally.empty()
            self.base = self.base.plus(changes)


def net(some: list[tuple[Heads, int]]) -> Tally:
    """What many steps come to, without those that cancel out."""
    return Tally.empty().plus(_summed(some))


def _summed(some: list[tuple[Heads, int]]) -> Tally:
    """The sum of the steps of each digest."""
    together = np.concatenate([heads for heads, _ in some])
    if all(step == 1 for _, step in some):
        together.sort()
        if (together[1:] != together[:-1]).all():
            return Tally(together, np.ones(len(together), dtype=np.int32))
        starts = _starts(together)
        return Tally(together[starts], np.diff(np.append(starts, len(together))).astype(np.int32))
    steps = np.concatenate([np.full(len(heads), step, dtype=np.int32) for heads, step in some])
    order = np.argsort(together)
    together = together[order]
    starts = _starts(together)
    sums = np.add.reduceat(steps[order], starts) if len(starts) else steps
    return Tally(together[starts], sums.astype(np.int32))


def _starts(ordered: Heads) -> npt.NDArray[np.intp]:
    """Where each value of a sorted column begins."""
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.flatnonzero(first)
