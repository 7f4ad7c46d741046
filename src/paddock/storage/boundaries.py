"""Which keys of a column end a segment; `cuts` says by what rule.

M, the multiplier, is odd, so it has an inverse, and the sums of all keys come from one running sum over their joined bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paddock.storage.cuts import BOUNDARY_BITS, MIX_1, MIX_2, MULTIPLIER, SHIFT

_INVERSE = pow(MULTIPLIER, -1, 1 << 64)
_BLOCK_BYTES = 1 << 15
_SHIFT = np.uint64(SHIFT)
_MIX_1 = np.uint64(MIX_1)
_MIX_2 = np.uint64(MIX_2)

Hashes = npt.NDArray[np.uint64]


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


class _Tables:
    """Powers of M and of its inverse, grown as longer keys are met."""

    powers = _powers(MULTIPLIER, _BLOCK_BYTES + 1)
    inverses = _powers(_INVERSE, _BLOCK_BYTES + 1)

    @classmethod
    def reach(cls, count: int) -> tuple[Hashes, Hashes]:
        if count > len(cls.powers):
            cls.inverses = _powers(_INVERSE, 2 * count)
            cls.powers = _powers(MULTIPLIER, 2 * count)
        return cls.powers, cls.inverses


def boundaries(
    offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8], bits: int = BOUNDARY_BITS
) -> npt.NDArray[np.int64]:
    """Indices of the keys that end a segment. Key i is `data[offsets[i]:offsets[i + 1]]`. About 2 ns a byte."""
    mask = np.uint64((1 << bits) - 1)
    return np.flatnonzero((key_hashes(offsets, data) & mask) == 0)


def key_hashes(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> Hashes:
    """The hash of each key."""
    rows = len(offsets) - 1
    hashes = np.empty(rows, dtype=np.uint64)
    start = 0
    while start < rows:
        # Blocks stay in the processor's cache; a key longer than one is a block of its own.
        end = int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, side="right")) - 1
        end = min(max(end, start + 1), rows)
        first, last = int(offsets[start]), int(offsets[end])
        hashes[start:end] = _sums(offsets[start : end + 1] - first, data[first:last])
        start = end
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_1
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_2
    hashes ^= hashes >> _SHIFT
    return hashes


def _sums(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> Hashes:
    powers, inverses = _Tables.reach(len(data) + 1)
    running = np.zeros(len(data) + 1, dtype=np.uint64)
    terms = data.astype(np.uint64)
    terms += np.uint64(1)
    terms *= powers[: len(data)]
    np.cumsum(terms, out=running[1:])
    sums: Hashes = running[offsets[1:]] - running[offsets[:-1]]
    sums *= inverses[offsets[:-1]]
    return sums
