"""Packed columns read like the lists that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from paddock.model.packed import PackedBytes, PackedTexts

TEXTS = ["/a", "", "/é/b", "/a"]
DIGESTS = [b"aa", b"bb", b"cc", b"aa"]


def test_they_read_like_lists() -> None:
    texts, digests = PackedTexts.of(TEXTS), PackedBytes.of(DIGESTS, 2)
    assert (list(texts), list(digests)) == (TEXTS, DIGESTS)
    assert (texts[2], texts[-1], texts[1:3]) == (TEXTS[2], TEXTS[-1], TEXTS[1:3])
    assert (digests[2], digests[-1], digests[1:3]) == (DIGESTS[2], DIGESTS[-1], DIGESTS[1:3])
    assert (len(texts), len(digests)) == (4, 4)
    for column in (texts, digests):
        with pytest.raises(IndexError):
            column[4]
    assert digests.digits().to_pylist() == [each.hex() for each in DIGESTS]


def test_one_is_taken_for_each_position() -> None:
    positions = np.array([3, 0, 0, 2])
    assert list(PackedTexts.of(TEXTS).take(positions)) == [TEXTS[at] for at in positions]
    assert list(PackedBytes.of(DIGESTS, 2).take(positions)) == [DIGESTS[at] for at in positions]


@pytest.mark.parametrize("numbers", [[0, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0], []])
def test_what_is_gathered_of_several_columns_stays_in_the_order_of_asking(numbers: list[int]) -> None:
    wanted, positions = np.array(numbers, np.int64), np.array([3, 2, 0, 1][: len(numbers)], np.int64)
    texts = [PackedTexts.of(TEXTS), PackedTexts.of([text + "x" for text in TEXTS])]
    digests = [PackedBytes.of(DIGESTS, 2), PackedBytes.of([each[::-1].upper() for each in DIGESTS], 2)]
    pairs = list(zip(wanted.tolist(), positions.tolist(), strict=True))
    assert list(PackedTexts.gather(texts, wanted, positions)) == [texts[number][at] for number, at in pairs]
    assert list(PackedBytes.gather(digests, wanted, positions, 2)) == [digests[number][at] for number, at in pairs]
