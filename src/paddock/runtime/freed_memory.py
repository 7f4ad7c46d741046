"""Gives memory that was freed back to the system: the plan and the end of a large job free hundreds of megabytes in many pieces."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import pyarrow as pa

from paddock.storage.tables import Tables

DATUMS_MIN = 100_000
"""Below so many datums there is too little to give back."""


def release_freed(datums: int, tables: Tables | None = None) -> None:
    """Have `tables` let go of decoded segments, and Arrow's pool and the C library return what they hold free. Some 10 ms where there is much; nothing for few datums."""
    if datums < DATUMS_MIN:
        return
    if tables is not None:
        tables.forget_segments()
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The function of the GNU C library; others have none, and return what is freed by themselves."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
