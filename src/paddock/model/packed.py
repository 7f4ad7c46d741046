"""Columns in one piece that read like lists: an id takes 16 bytes, where a list of `bytes` takes 57, and a path its own length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_BLOCK = 8192

Integers = npt.NDArray[np.int64]


class PackedBytes(Sequence[bytes]):
    """Byte strings of one width. Reads like a list of `bytes`; never changes."""

    __slots__ = ("_data", "_width")

    def __init__(self, data: bytes, width: int) -> None:
        assert len(data) % width == 0, "whole strings only"
        self._data = data
        self._width = width

    @classmethod
    def of(cls, values: Iterable[bytes], width: int) -> PackedBytes:
        return cls(b"".join(values), width)

    @classmethod
    def concat(cls, parts: Iterable[PackedBytes], width: int) -> PackedBytes:
        found = [part._data for part in parts]
        return cls(found[0] if len(found) == 1 else b"".join(found), width)

    def __len__(self) -> int:
        return len(self._data) // self._width

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[bytes]: ...
    def __getitem__(self, position: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        start = position % len(self) * self._width
        return self._data[start : start + self._width]

    def heads(self) -> npt.NDArray[np.uint64]:
        """The first eight bytes of each, which tell digests apart well enough for a guess."""
        rows = np.frombuffer(self._data, np.uint8).reshape(-1, self._width)
        return np.ascontiguousarray(rows[:, :8]).view(np.uint64).reshape(-1)

    def array(self) -> pa.Array:
        """The same as an Arrow array, without a copy."""
        return pa.Array.from_buffers(pa.binary(self._width), len(self), [None, pa.py_buffer(self._data)])

    def digits(self) -> pa.Array:
        """The same in hex digits, as an Arrow array of text."""
        digits = pa.py_buffer(self._data.hex().encode())
        array = pa.Array.from_buffers(pa.binary(2 * self._width), len(self), [None, digits])
        return array.cast(pa.binary()).cast(pa.string())

    def take(self, positions: npt.NDArray[Any]) -> PackedBytes:
        rows = np.frombuffer(self._data, np.uint8).reshape(-1, self._width)
        return PackedBytes(rows[positions].tobytes(), self._width)

    @classmethod
    def gather(cls, columns: Sequence[PackedBytes], numbers: Integers, positions: Integers, width: int) -> PackedBytes:
        """For each pair the string at a position of the column of that number."""
        picked, places = _picked(columns, numbers, positions)
        found = cls.concat(picked, width)
        return found if places is None else found.take(places)


class PackedTexts(Sequence[str]):
    """Texts over an Arrow array without nulls. Reads like a list of `str`, a text in some 0.3 µs; never changes."""

    __slots__ = ("array",)

    def __init__(self, array: pa.Array) -> None:
        assert array.type == pa.string(), "texts only"
        assert not array.null_count, "each is a text"
        self.array = array

    @classmethod
    def of(cls, values: Iterable[str]) -> PackedTexts:
        return cls(pa.array(values, pa.string()))

    @classmethod
    def same(cls, text: str, count: int) -> PackedTexts:
        """One text, so many times."""
        return cls(pa.repeat(pa.scalar(text, pa.string()), count))

    @classmethod
    def concat(cls, parts: Iterable[PackedTexts]) -> PackedTexts:
        found = [part.array for part in parts]
        return cls(found[0] if len(found) == 1 else pa.concat_arrays([pa.array([], pa.string()), *found]))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[str]: ...
    def __getitem__(self, position: int | slice) -> str | Sequence[str]:
        found = self.array[position]
        texts: str | Sequence[str] = found.to_pylist() if isinstance(position, slice) else found.as_py()
        return texts

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            yield from self.array[first : first + _BLOCK].to_pylist()

    def take(self, positions: npt.NDArray[Any]) -> PackedTexts:
        return PackedTexts(self.array.take(pa.array(positions, pa.int64())))

    @classmethod
    def gather(cls, columns: Sequence[PackedTexts], numbers: Integers, positions: Integers) -> PackedTexts:
        """For each pair the text at a position of the column of that number."""
        picked, places = _picked(columns, numbers, positions)
        found = cls.concat(picked)
        return found if places is None else found.take(places)


P = TypeVar("P", PackedBytes, PackedTexts)


def _picked(columns: Sequence[P], numbers: Integers, positions: Integers) -> tuple[list[P], Integers | None]:
    """What is wanted of each column, one column after another, and where in that each pair is; None: in order."""
    present = np.flatnonzero(np.bincount(numbers, minlength=1)).tolist()
    if len(present) == 1:
        return [columns[present[0]].take(positions)], None
    places = np.empty(len(numbers), np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return [columns[number].take(positions[numbers == number]) for number in present], places
