"""A plan of all datums of an input, compared with the base's. About 3 µs a datum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes
from paddock.pipelines.inputs import DatumSet, Leaf, plan_datums
from paddock.pipelines.keys import datum_ids_and_keys, sort_names
from paddock.runtime.freed_memory import release_freed
from paddock.runtime.job_tables import DATUMS, NO_BATCH
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan import KEPT, RUN, InputCommit, Integers, Plan, ResultPlaces
from paddock.runtime.plan_request import Base, PlanRequest
from paddock.storage.columnar import bisect_key, single_array
from paddock.storage.matching import Matches
from paddock.storage.trees import Trees

NAMES_COMPARED = 1 << 16


@dataclass(frozen=True, slots=True)
class Datums:
    """Datums with their names, sorted by sort name, each once."""

    datum_set: DatumSet
    matches: Sequence[Matches]
    ids: PackedBytes
    keys: PackedBytes

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> pa.Array:
        """All sort names; made anew."""
        return self.names_of(np.arange(len(self)))

    def names_of(self, positions: Integers) -> pa.Array:
        return sort_names(self.datum_set, self.matches, self.ids, positions)

    def take(self, positions: Integers) -> Datums:
        datum_set = reorder(self.datum_set, positions)
        return Datums(datum_set, self.matches, self.ids.take(positions), self.keys.take(positions))


def plan_whole(leaf_matches: LeafMatches, request: PlanRequest) -> Plan:
    """Plan without a look at what changed. Datums that the base has under the same name and key, with a good result, are kept."""
    leaves = request.leaves
    commits = [request.commit_of(leaf) for leaf in leaves]
    trees = leaf_matches.trees
    matches = [leaf_matches.all(leaf, commit.tree) for leaf, commit in zip(leaves, commits, strict=True)]
    release_freed(sum(map(len, matches)), trees.tables)
    datums = name_datums(plan_datums(request.spec.input, matches), leaves, matches, request.transform)
    release_freed(len(datums))
    if request.base is not None:
        compared = _compare(trees, datums, request.base, reuse=request.reuse)
        if compared.kept.any():
            return _partial(trees, request, request.base, (leaves, commits, matches), datums, compared)
    return make_plan(trees, leaves, commits, matches, datums)


def name_datums(datum_set: DatumSet, leaves: Sequence[Leaf], matches: Sequence[Matches], transform: Digest) -> Datums:
    """The datums in order of their sort names, each once (two siblings of a union may match the same file)."""
    datums = Datums(datum_set, matches, *datum_ids_and_keys(datum_set, leaves, matches, transform))
    if _in_order(datums):
        return datums
    names = datums.names
    order = pc.sort_indices(names)  # stable
    ordered = names.take(order)
    first = np.ones(len(names), dtype=bool)
    first[1:] = pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False)
    return datums.take(order.to_numpy()[first].astype(np.int64))


def _in_order(datums: Datums) -> bool:
    """Whether each sort name is above the one before. Looks at some at a time, so that their texts take little memory."""
    for first in range(0, len(datums) - 1, NAMES_COMPARED):
        names = datums.names_of(np.arange(first, min(first + NAMES_COMPARED + 1, len(datums))))
        if not pc.all(pc.less(names[:-1], names[1:])).as_py():
            return False
    return True


def make_plan(
    trees: Trees,
    leaves: Sequence[Leaf],
    commits: Sequence[InputCommit],
    matches: Sequence[Matches],
    datums: Datums,
) -> Plan:
    """A plan in which all these datums run, from nothing."""
    count = len(datums)
    return Plan(
        leaves=leaves,
        inputs=commits,
        matches=matches,
        datum_set=datums.datum_set,
        ids=datums.ids,
        keys=datums.keys,
        actions=np.full(count, RUN, np.uint8),
        results=ResultPlaces(count),
        successes=np.zeros(count, dtype=bool),
        base_datums=trees.tables.empty(DATUMS),
        base_tree=trees.empty(),
    )


def removed_results(rows: Sequence[pa.Table]) -> dict[bytes, Integers]:
    """The results that rows of a datums table name: batch to ordinals, ascending."""
    found: dict[bytes, list[Integers]] = {}
    for table in rows:
        encoded = single_array(table.column("batch")).dictionary_encode()
        numbers, ordinals = encoded.indices.to_numpy(), single_array(table.column("ordinal")).to_numpy()
        for number, batch in enumerate(encoded.dictionary.to_pylist()):
            if batch != NO_BATCH:
                found.setdefault(batch, []).append(ordinals[numbers == number].astype(np.int64))
    return {batch: np.sort(np.concatenate(parts)) for batch, parts in found.items()}


@dataclass(slots=True)
class _Compared:
    """How datums fare against the base. kept: by position. Of the base: the rows of the others, the rows kept, names that are gone."""

    kept: npt.NDArray[np.bool_]
    kept_rows: list[tuple[Integers, pa.Table]]
    lost_rows: list[pa.Table]
    dropped: list[str]


def _compare(trees: Trees, datums: Datums, base: Base, *, reuse: bool) -> _Compared:
    compared = _Compared(np.zeros(len(datums), dtype=bool), [], [], [])
    keys, planned = datums.keys.array(), datums.names
    for rows in trees.tables.scan(DATUMS, base.datums):
        names = single_array(rows.column("name"))
        first, last = bisect_key(planned, names[0].as_py()), bisect_key(planned, names[-1].as_py() + "\0")
        places = pc.add(pc.index_in(names, value_set=planned[first:last]), first)
        present = places.is_valid().to_numpy(zero_copy_only=False)
        same = np.zeros(rows.num_rows, dtype=bool)
        if reuse and present.any():
            equal = pc.equal(keys.take(places), single_array(rows.column("key"))).fill_null(False)
            good = pc.equal(rows.column("success"), 1).to_numpy()
            same = equal.to_numpy(zero_copy_only=False) & good
        positions = places.filter(pa.array(same)).to_numpy().astype(np.int64)
        compared.kept[positions] = True
        compared.kept_rows.append((positions, rows.filter(pa.array(same))))
        compared.lost_rows.append(rows.filter(pa.array(~same)))
        compared.dropped += rows.column("name").filter(pa.array(~present)).to_pylist()
    return compared


def _partial(
    trees: Trees,
    request: PlanRequest,
    base: Base,
    inputs: tuple[Sequence[Leaf], Sequence[InputCommit], Sequence[Matches]],
    datums: Datums,
    compared: _Compared,
) -> Plan:
    """A plan on top of the base. Kept datums stay out of it, unless they are asked for, or their rows must be written
    anew since the leaves changed."""
    same_rows = base.input == request.spec.input and not request.whole
    chosen = np.flatnonzero(~compared.kept) if same_rows else np.arange(len(datums))
    plan = make_plan(trees, *inputs, datums.take(chosen) if same_rows else datums)
    if same_rows:
        plan.kept = len(datums) - len(chosen)
    else:
        for positions, rows in compared.kept_rows:
            columns = (rows.column(name).to_pylist() for name in ("batch", "ordinal", "job"))
            for position, batch, ordinal, job in zip(positions.tolist(), *columns, strict=True):
                plan.reuse(position, KEPT, batch, ordinal, job)
    plan.base_datums, plan.base_tree = base.datums, base.tree
    plan.dropped = compared.dropped
    plan.removed = removed_results(compared.lost_rows)
    return plan


def reorder(datum_set: DatumSet, order: Integers) -> DatumSet:
    """The datums at `order`, in that order."""
    starts, ends = datum_set.offsets[:-1][order], datum_set.offsets[1:][order]
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return DatumSet(offsets, datum_set.leaf[flat], datum_set.match[flat])
