"""Byte strings of one width in one piece: an id takes 16 bytes, where a list of `bytes` takes 57."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class PackedBytes(Sequence[bytes]):
    """Reads like a list of `bytes`; never changes."""

    __slots__ = ("_data", "_width")

    def __init__(self, data: bytes, width: int) -> None:
        assert len(data) % width == 0, "whole strings only"
        self._data = data
        self._width = width

    @classmethod
    def of(cls, values: Iterable[bytes], width: int) -> PackedBytes:
        return cls(b"".join(values), width)

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

    def array(self) -> pa.Array:
        """The same as an Arrow array, without a copy."""
        return pa.Array.from_buffers(pa.binary(self._width), len(self), [None, pa.py_buffer(self._data)])

    def take(self, positions: npt.NDArray[Any]) -> PackedBytes:
        rows = np.frombuffer(self._data, np.uint8).reshape(-1, self._width)
        return PackedBytes(rows[positions].tobytes(), self._width)
