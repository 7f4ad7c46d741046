"""Results carried over a change of code or command, where an update asked for it (design note 025).

A version of a pipeline names the transforms whose results it carries on. A datum without a result of its own transform gets the
result of the newest of those under which its files have one. The datums table then has the datum's own key beside a result
that was made under another: that is how a carried result is told from others for ever. It never enters the cache of the
transform that carries it, so another pipeline with that transform computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow.compute as pc

from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog.database import Transaction
from paddock.catalog.pipelines import PipelineRow
from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes
from paddock.pipelines.keys import datum_ids_and_keys
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.plan import CARRIED, RUN, Integers, Plan
from paddock.runtime.plan_request import Base
from paddock.runtime.plan_whole import reorder
from paddock.storage.trees import Trees

CARRIES_MAX = 16
"""Transforms of earlier versions that a datum is looked up under, at most: each costs a look-up of what is to run."""

FindResults = Callable[[Sequence[bytes]], Mapping[bytes, tuple[bytes, int, bytes]]]
"""Looks kept results up by datum key: (batch, ordinal, job) of each key that has one."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A transform whose results count too. found: looks its kept results up by datum key."""

    transform: Digest
    found: FindResults


def carried_transforms(tx: Transaction, row: PipelineRow, transform: str, keep_results: bool) -> str:
    """`PipelineVersionRow.carries` of a new version with this transform (hex) after the present one of a pipeline."""
    present = pipelines_sql.version(tx, row.id, row.version)
    assert present is not None, f"pipeline {row} has its version {row.version}"
    if present.transform != transform and not keep_results:
        return ""
    found = dict.fromkeys([present.transform, *present.carries.split()])
    return " ".join([each for each in found if each != transform][:CARRIES_MAX])


def carry(trees: Trees, plan: Plan, base: Base | None, carried: Carried) -> None:
    """Give datums of the plan that are to run the results that the transform left for equal files, in the base or in the cache."""
    wanted = np.flatnonzero(plan.actions == RUN)
    if not len(wanted):
        return
    datum_set = reorder(plan.datum_set, wanted)
    keys = datum_ids_and_keys(datum_set, plan.leaves, plan.matches, carried.transform).keys
    if base is not None and base.transform == carried.transform:
        _from_base(trees, plan, base, wanted, keys)
    results = carried.found(keys)
    for position, key in zip(wanted.tolist(), keys, strict=True) if results else ():
        result = results.get(key)
        if result is not None and plan.actions[position] == RUN:
            plan.reuse(position, CARRIED, *result)


def _from_base(trees: Trees, plan: Plan, base: Base, wanted: Integers, keys: PackedBytes) -> None:
    names = plan.names(wanted)
    rows = trees.tables.lookup(DATUMS, base.datums, names)
    rows = rows.filter(pc.equal(rows.column("success"), 1))
    places = pc.index_in(rows.column("name"), value_set=names).to_pylist()
    columns = (rows.column(name).to_pylist() for name in ("key", "batch", "ordinal", "job"))
    for place, key, batch, ordinal, job in zip(places, *columns, strict=True):
        if keys[place] == key:
            plan.reuse(int(wanted[place]), CARRIED, batch, ordinal, job)
