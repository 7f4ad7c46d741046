"""Which rows of two sorted tables differ, by columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.storage.columnar import single_array


def differing(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of `old` that `new` does not have alike, and the other way round. Keys are unique in each."""
    if not old.num_rows or not new.num_rows:
        return old, new
    old, new = old.combine_chunks(), new.combine_chunks()
    places = pc.index_in(single_array(new.column(0)), value_set=single_array(old.column(0)))
    in_old = pc.is_valid(places)
    new_rows = np.flatnonzero(in_old.to_numpy(zero_copy_only=False))
    old_rows = places.drop_null().to_numpy()
    equal = np.ones(len(new_rows), dtype=bool)
    for number in range(1, old.num_columns):
        equal &= _equal(
            single_array(old.column(number)).take(pa.array(old_rows)),
            single_array(new.column(number)).take(pa.array(new_rows)),
        )
    return _without(old, old_rows[equal]), _without(new, new_rows[equal])


def _without(table: pa.Table, rows: npt.NDArray[Any]) -> pa.Table:
    keep = np.ones(table.num_rows, dtype=bool)
    keep[rows] = False
    return table.filter(pa.array(keep))


def _equal(old: pa.Array, new: pa.Array) -> npt.NDArray[np.bool_]:
    if not pa.types.is_list(old.type):
        return np.asarray(pc.equal(old, new).to_numpy(zero_copy_only=False), dtype=bool)
    equal = np.asarray(
        pc.equal(pc.list_value_length(old), pc.list_value_length(new)).to_numpy(zero_copy_only=False),
        dtype=bool,
    )
    alike = pa.array(np.flatnonzero(equal))
    old, new = old.take(alike), new.take(alike)
    lengths = pc.list_value_length(old).to_numpy()
    unequal_items = ~_equal(pc.list_flatten(old), pc.list_flatten(new))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    equal[np.flatnonzero(equal)[np.unique(owners[unequal_items])]] = False
    return equal
