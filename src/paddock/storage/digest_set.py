"""Sets of many chunk digests in 8 bytes each: the first 64 bits stand for a digest.

Two of ten million digests share them with a chance of 3 in a million; a set then contains one that was not added. That is
the safe side where the set says what is in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paddock.storage.objects import Bytes

Heads = npt.NDArray[np.uint64]
"""The first 64 bits of digests, as they sort."""

_PENDING_MIN = 1 << 20


def heads(digests: Bytes) -> Heads:
    """Of joined 32-byte digests."""
    return np.frombuffer(digests, dtype=">u8")[::4].astype(np.uint64)


def heads_of(digests: Sequence[bytes]) -> Heads:
    return heads(b"".join(digests))


class DigestSet:
    """A growing set. Costs 8 bytes a digest, and for a moment four times that while additions are merged."""

    def __init__(self) -> None:
        self._sorted: Heads = np.empty(0, dtype=np.uint64)
        self._pending: list[Heads] = []
        self._pending_count = 0

    def add(self, some: Heads) -> None:
        self._pending.append(some)
        self._pending_count += len(some)
        if self._pending_count >= max(_PENDING_MIN, len(self._sorted) // 2):
            self._merge()

    def values(self) -> Heads:
        """All members, sorted."""
        self._merge()
        return self._sorted

    def contains(self, some: Heads) -> npt.NDArray[np.bool_]:
        """For each whether it is a member."""
        self._merge()
        return member_of(some, self._sorted)

    def _merge(self) -> None:
        if self._pending:
            together = np.concatenate([self._sorted, *self._pending])
            self._pending.clear()
            self._pending_count = 0
            self._sorted = unique(together)


def unique(some: Heads) -> Heads:
    """Sorted, each once; sorts `some` in place. (Sorting is four times as fast here as the hashing of `np.unique`.)"""
    some.sort()
    keep = np.ones(len(some), dtype=bool)
    keep[1:] = some[1:] != some[:-1]
    return some[keep]


def member_of(some: Heads, ordered: Heads) -> npt.NDArray[np.bool_]:
    """For each whether it is among the sorted ones."""
    if not len(ordered):
        return np.zeros(len(some), dtype=bool)
    places = np.searchsorted(ordered, some)
    places[places == len(ordered)] = 0
    return np.asarray(ordered[places] == some)
