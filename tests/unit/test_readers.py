"""Who has read which files: what is remembered of the newest jobs."""

from __future__ import annotations

import numpy as np
import pytest

from paddock.model.packed import PackedBytes
from paddock.runtime import placement
from paddock.runtime.placement import Readers


def files(*numbers: int) -> np.ndarray:
    return PackedBytes.of((number.to_bytes(32, "little") for number in numbers), 32).heads()


def machines(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_who_read_a_file_last_has_it() -> None:
    readers = Readers()
    assert not readers
    assert readers.of(files(1, 2)).tolist() == [-1, -1]
    readers.note(files(3, 1, 2), machines(0, 1, 2))
    assert readers
    assert readers.of(files(0, 1, 2, 3, 4)).tolist() == [-1, 1, 2, 0, -1]
    readers.note(files(2, 9), machines(0, 0))
    assert readers.of(files(9, 3, 2, 1)).tolist() == [0, 0, 0, 1]
    assert readers.of(files()).tolist() == []


def test_old_jobs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "READ_MAX", 4)
    readers = Readers()
    readers.note(files(1, 2), machines(0, 0))
    readers.note(files(3, 4), machines(0, 0))
    assert readers.of(files(1, 4)).tolist() == [0, 0]
    readers.note(files(5), machines(1))
    assert readers.of(files(1, 4, 5)).tolist() == [-1, 0, 1]
    readers.note(files(*range(10, 20)), machines(*range(10)))
    assert readers.of(files(5, 10, 13, 14)).tolist() == [-1, 0, 3, -1]
    for number in range(20):
        readers.note(files(number), machines(number))
    assert readers.of(files(1, 18)).tolist() == [-1, 18]
