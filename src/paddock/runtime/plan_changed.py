"""A plan from what changed in the inputs since the base. Its cost follows the change, not the datums.

The trees of the base's input commits are compared with those of the job's; the matches that differ are mapped to the datums that
they reach (`pipelines.affected`), once as the input was and once as it is. What only the first has is dropped, what the second has
is looked up in the base by name, and all else is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.packed import PackedTexts
from paddock.pipelines.affected import (
    affected_datums,
    key_group,
    keyed_by,
    keys_of,
    touched_keys,
    traceable,
    whole_leaves,
)
from paddock.pipelines.inputs import DATUMS_MAX, Leaf
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan import Integers, Plan
from paddock.runtime.plan_request import Base, PlanRequest, place_of
from paddock.runtime.plan_whole import Datums, make_plan, name_datums, removed_results
from paddock.storage.columnar import single_array
from paddock.storage.match_changes import MatchChanges, with_changes
from paddock.storage.matching import Matches
from paddock.storage.trees import Trees

SHARE_MAX = 8
"""With more than one file in so many changed, planning everything costs less."""
ROWS_MIN = 1000
"""Changes of so few files are always traced."""
ROWS_FOR_A_KEY = 500
"""Finding the matches of one key costs about as much as looking at so many matches in a row."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The inputs on both sides of the change: for each leaf the matches at hand, and the positions in them that it touches."""

    old: Sequence[Matches]
    new: Sequence[Matches]
    old_touched: Sequence[Integers]
    new_touched: Sequence[Integers]


def plan_changed(leaf_matches: LeafMatches, request: PlanRequest) -> Plan | None:
    """The plan, equal to that of `plan_whole`; None where the rule does not apply or would cost more."""
    base = request.base
    if base is None or not _applies(request, base):
        return None
    trees = leaf_matches.trees
    changes = _changes(leaf_matches, request, base)
    if changes is None:
        return None
    sides = _sides(leaf_matches, request, changes)
    old = _reached(request, sides.old, sides.old_touched)
    new = _reached(request, sides.new, sides.new_touched)
    plan = _compare(trees, request, base, old, new, sides.new)
    return plan if plan.kept and plan.total <= DATUMS_MAX else None


def _applies(request: PlanRequest, base: Base) -> bool:
    """Whether only the content of the inputs may differ from the base."""
    return (
        request.reuse
        and not request.whole
        and base.settled
        and base.transform == request.transform
        and base.input == request.spec.input
        and all(place_of(leaf) in base.inputs for leaf in request.leaves)
        and traceable(request.spec.input)
    )


def _changes(leaf_matches: LeafMatches, request: PlanRequest, base: Base) -> list[MatchChanges] | None:
    trees = leaf_matches.trees
    found = []
    for leaf in request.leaves:
        old, new = base.inputs[place_of(leaf)], request.commit_of(leaf).tree
        rows = max(trees.totals(old)[0], trees.totals(new)[0])
        rows_max = max(ROWS_MIN, rows // SHARE_MAX)
        changes = leaf_matches.changes(leaf, old, new, rows_max=rows_max)
        if changes is None:
            return None
        found.append(changes)
    return found


def _sides(leaf_matches: LeafMatches, request: PlanRequest, changes: Sequence[MatchChanges]) -> _Sides:
    node = request.spec.input
    whole = whole_leaves(node, [bool(each) for each in changes])
    keys = touched_keys(node, [(each.old, each.new) for each in changes])
    kinds = keyed_by(node)
    new = [
        _matches(leaf_matches, leaf, request.commit_of(leaf).tree, change, needs, kind, touched)
        for leaf, change, needs, kind, touched in zip(request.leaves, changes, whole, kinds, keys, strict=True)
    ]
    old = [with_changes(matches, change) for matches, change in zip(new, changes, strict=True)]

    def touched_in(matches: Sequence[Matches], changed: Sequence[Matches]) -> list[Integers]:
        return [
            _touched(found, values, wanted, some)
            for found, values, wanted, some in zip(matches, keys_of(node, matches), keys, changed, strict=True)
        ]

    return _Sides(
        old,
        new,
        touched_in(old, [each.old for each in changes]),
        touched_in(new, [each.new for each in changes]),
    )


def _matches(
    leaf_matches: LeafMatches,
    leaf: Leaf,
    tree: Digest,
    changes: MatchChanges,
    whole: bool,
    kind: str | None,
    keys: frozenset[str] | None,
) -> Matches:
    """The leaf's matches in the new tree, as many of them as are needed, or more."""
    if not whole:
        if kind is None or keys is None:
            return changes.new
        if not keys:
            return Matches()
        group = key_group(leaf, kind)
        if group is not None and len(keys) * ROWS_FOR_A_KEY <= leaf_matches.trees.totals(tree)[0] + ROWS_FOR_A_KEY:
            found = leaf_matches.captured(leaf, tree, keys, group=group)
            if found is not None:
                return found
    return leaf_matches.all(leaf, tree)


def _touched(matches: Matches, values: PackedTexts | None, keys: frozenset[str] | None, changed: Matches) -> Integers:
    if values is not None and keys is not None:
        touched = pc.is_in(values.array, value_set=pa.array(sorted(keys), pa.string()))
        return np.flatnonzero(touched.to_numpy(zero_copy_only=False))
    if len(matches) == len(changed):
        return np.arange(len(matches))
    places = pc.index_in(changed.paths.array, value_set=matches.paths.array)
    return np.sort(places.to_numpy().astype(np.int64))


def _reached(request: PlanRequest, matches: Sequence[Matches], touched: Sequence[Integers]) -> Datums:
    return name_datums(
        affected_datums(request.spec.input, matches, touched), request.leaves, matches, request.transform
    )


def _compare(
    trees: Trees, request: PlanRequest, base: Base, old: Datums, new: Datums, matches: Sequence[Matches]
) -> Plan:
    """Of the datums reached: drop those that are no more, keep those with the same key, run the others."""
    before, after = old.names, new.names
    gone = before.filter(pc.invert(pc.is_in(before, value_set=after)))
    rows = trees.tables.lookup(DATUMS, base.datums, pa.concat_arrays([gone, after]))
    names = single_array(rows.column("name"))
    places = pc.index_in(names, value_set=after).to_pylist()
    columns = (rows.column(name).to_pylist() for name in ("key", "success"))
    same = [
        place is not None and bool(success) and new.keys[place] == key
        for place, key, success in zip(places, *columns, strict=True)
    ]
    kept = np.zeros(len(new), dtype=bool)
    kept[[place for place in compress(places, same) if place is not None]] = True
    commits = [request.commit_of(leaf) for leaf in request.leaves]
    plan = make_plan(trees, request.leaves, commits, matches, new.take(np.flatnonzero(~kept)))
    plan.kept = trees.tables.root(DATUMS, base.datums).rows - same.count(False)
    plan.base_datums, plan.base_tree = base.datums, base.tree
    plan.dropped = names.filter(pc.is_in(names, value_set=gone)).to_pylist()
    plan.removed = removed_results([rows.filter(pa.array([not each for each in same], pa.bool_()))])
    return plan
