"""Sets of many chunk digests in 8 bytes each: the first 64 bits stand for a digest.

Two of ten million digests share them with a chance of 3 in a million; a set then contains one that was not added. That is
the safe side where the set says what is in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paddock.storage.objects import Bytes

_BLOCK = 1 << 18

Heads = npt.NDArray[np.uint64]
"""The first 64 bits of digests, as they sort."""


def heads(digests: Bytes) -> Heads:
    """Of joined 32-byte digests."""
    return np.frombuffer(digests, dtype=">u8")[::4].astype(np.uint64)


def heads_of(digests: Sequence[bytes]) -> Heads:
    return heads(b"".join(digests))


def unique(some: Heads) -> Heads:
    """Sorted, each once; sorts `some` in place. (Sorting is four times as fast here as the hashing of `np.unique`.)"""
    some.sort()
    keep = np.ones(len(some), dtype=bool)
    keep[1:] = some[1:] != some[:-1]
    return some[keep]


def member_of(some: Heads, ordered: Heads) -> npt.NDArray[np.bool_]:
    """For each whether it is among the sorted ones. Takes a byte each, and what a block of them needs."""
    found = np.zeros(len(some), dtype=bool)
    if not len(ordered):
        return found
    for start in range(0, len(some), _BLOCK):
        block = some[start : start + _BLOCK]
        places = np.searchsorted(ordered, block)
        places[places == len(ordered)] = 0
        found[start : start + _BLOCK] = ordered[places] == block
    return found
