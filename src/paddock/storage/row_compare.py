"""Which rows of two sorted tables differ, by columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.storage.columnar import flag_array, number_array, single_array


def differing(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of `old` that `new` does not have alike, and the other way round. Keys are unique in each, and sorted.

    Rows at the start, and at the end, whose keys agree place by place are compared where they are; only what lies between is
    looked up by key.
    """
    if not old.num_rows or not new.num_rows:
        return old, new
    old, new = old.combine_chunks(), new.combine_chunks()
    head = _alike_keys(old, new)
    shorter = min(old.num_rows, new.num_rows) - head
    tail = _alike_keys(old.slice(old.num_rows - shorter), new.slice(new.num_rows - shorter), from_end=True)
    pairs = [
        _unequal(old.slice(0, head), new.slice(0, head)),
        _by_key(old.slice(head, old.num_rows - head - tail), new.slice(head, new.num_rows - head - tail)),
        _unequal(old.slice(old.num_rows - tail), new.slice(new.num_rows - tail)),
    ]
    olds, news = zip(*pairs, strict=True)
    return pa.concat_tables(olds), pa.concat_tables(news)


def _alike_keys(old: pa.Table, new: pa.Table, *, from_end: bool = False) -> int:
    """How many keys agree one after the other, from the start or from the end; at the end the tables must be of one length."""
    rows = min(old.num_rows, new.num_rows)
    if not rows:
        return 0
    same = _equal(single_array(old.column(0).slice(0, rows)), single_array(new.column(0).slice(0, rows)))
    other = np.flatnonzero(~same[::-1] if from_end else ~same)
    return int(other[0]) if len(other) else rows


def _unequal(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that differ between tables of equal keys."""
    differ = np.zeros(old.num_rows, dtype=bool)
    for number in range(1, old.num_columns):
        differ |= ~_equal(single_array(old.column(number)), single_array(new.column(number)))
    chosen = number_array(np.flatnonzero(differ))
    return old.take(chosen), new.take(chosen)


def _by_key(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    if not old.num_rows or not new.num_rows:
        return old, new
    places = pc.index_in(single_array(new.column(0)), value_set=single_array(old.column(0)))
    new_rows = np.flatnonzero(pc.is_valid(places).to_numpy(zero_copy_only=False))
    old_rows = places.drop_null().to_numpy()
    equal = np.ones(len(new_rows), dtype=bool)
    for number in range(1, old.num_columns):
        equal &= _equal(
            single_array(old.column(number)).take(number_array(old_rows)),
            single_array(new.column(number)).take(number_array(new_rows)),
        )
    return _without(old, old_rows[equal]), _without(new, new_rows[equal])


def _without(table: pa.Table, rows: npt.NDArray[Any]) -> pa.Table:
    keep = np.ones(table.num_rows, dtype=bool)
    keep[rows] = False
    return table.filter(flag_array(keep))


def _equal(old: pa.Array, new: pa.Array) -> npt.NDArray[np.bool_]:
    if old.equals(new):  # as most columns are in most segments, and told from their bytes
        return np.ones(len(old), dtype=bool)
    if not pa.types.is_list(old.type):
        return np.asarray(pc.equal(old, new).to_numpy(zero_copy_only=False), dtype=bool)
    equal = np.asarray(
        pc.equal(pc.list_value_length(old), pc.list_value_length(new)).to_numpy(zero_copy_only=False),
        dtype=bool,
    )
    alike = number_array(np.flatnonzero(equal))
    old, new = old.take(alike), new.take(alike)
    lengths = pc.list_value_length(old).to_numpy()
    unequal_items = ~_equal(pc.list_flatten(old), pc.list_flatten(new))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    equal[np.flatnonzero(equal)[np.unique(owners[unequal_items])]] = False
    return equal
