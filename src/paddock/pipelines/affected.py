"""Which datums of an input a change of its files reaches, without a look at the others.

What a change reaches, node by node:

    pfs     the datums of the matches that changed
    union   those that it reaches in any of its inputs
    cross   those with a datum that it reaches in one of its inputs: so many are new or gone in any case
    join    all datums of a key that a changed match has
    group   the same

So the datums before and after a change can be compared by planning these few on either side. Exact where
`traceable` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from paddock.model.globs import compile_glob, compile_template
from paddock.model.packed import PackedTexts
from paddock.pipelines.inputs import (
    DatumSet,
    Integers,
    Leaf,
    Matches,
    Planner,
    children,
    cross,
    group_values,
    join_values,
    leaf_count,
    leaves,
    stack,
)
from paddock.pipelines.models import Input

KEYED = ("join", "group")
NO_DATUMS = DatumSet(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def traceable(node: Input) -> bool:
    """Whether the datums that a change reaches can be told from the changed matches and their keys.

    Not where a join or group holds other nodes than pfs and unions of them (whether a file counts then hangs on files with other
    keys), and not where, beside joins, groups and crosses, two leaves read one branch under one name (one datum may then come about
    in two ways).
    """
    if not all(_flat(child) for keyed in _keyed_nodes(node) for child in keyed.children):
        return False
    places = [(leaf.name, leaf.project, leaf.repo, leaf.branch) for leaf in leaves(node)]
    return _flat(node) or len(set(places)) == len(places)


def whole_leaves(node: Input, changed: Sequence[bool]) -> list[bool]:
    """For each leaf, whether all its matches are needed: a cross combines them with what changed beside them."""
    whole = [False] * leaf_count(node)
    _mark_whole(node, 0, changed, whole)
    return whole


def touched_keys(node: Input, changes: Sequence[Sequence[Matches]]) -> list[frozenset[str] | None]:
    """For each leaf below a join or group, the keys that changed matches of any of that node's leaves have; else None.

    changes: for each leaf, the changed matches as they were and as they are.
    """
    found: list[frozenset[str] | None] = [None] * leaf_count(node)
    _collect_keys(node, 0, leaves(node), changes, found)
    return found


def keys_of(node: Input, matches: Sequence[Matches]) -> list[PackedTexts | None]:
    """For each leaf below a join or group, the key of each of its matches; None for other leaves."""
    kinds = keyed_by(node)
    return [
        None if kind is None else (join_values if kind == "join" else group_values)(leaf, found)
        for kind, leaf, found in zip(kinds, leaves(node), matches, strict=True)
    ]


def keyed_by(node: Input, inside: str | None = None) -> list[str | None]:
    """For each leaf, `join` or `group` where it lies below one, else None."""
    if node.pfs is not None:
        return [inside]
    kind = node.kind if node.kind in KEYED else inside
    return [each for child in node.children for each in keyed_by(child, kind)]


def key_group(leaf: Leaf, kind: str) -> int | None:
    """The one capture of the leaf's glob that is its key; None where the key is made in another way."""
    template = compile_template(leaf.join_on if kind == "join" else leaf.group_by, compile_glob(leaf.glob).groups)
    return template.only_group or None


def affected_datums(node: Input, matches: Sequence[Matches], touched: Sequence[Integers]) -> DatumSet:
    """The datums that a change reaches, on one side of it.

    matches: of each leaf, all where `whole_leaves` asks for them, else at least the touched ones. touched: of each leaf the positions
    (ascending) of the changed matches; below a join or group, of all matches with a touched key. Cost: in proportion to the answer.
    """
    found = leaves(node)
    whole, part = Planner(found, matches), Planner(found, matches, touched)
    return whole.without_doubles(_affected(node, 0, whole, part, touched))


def _affected(node: Input, first: int, whole: Planner, part: Planner, touched: Sequence[Integers]) -> DatumSet:
    if node.kind == "union":
        return stack([_affected(child, start, whole, part, touched) for child, start in children(node, first)])
    if node.kind != "cross":
        return part.plan(node, first)
    spans = [(child, start, start + leaf_count(child)) for child, start in children(node, first)]
    found = [NO_DATUMS]
    for _, changed, end in spans:
        if any(len(each) for each in touched[changed:end]):
            parts = [
                _affected(child, start, whole, part, touched) if start == changed else whole.plan(child, start)
                for child, start, _ in spans
            ]
            found.append(cross(parts, whole.names(node, first)))
    return stack(found)


def _flat(node: Input) -> bool:
    """Whether it is a `pfs` input or unions of such."""
    return node.pfs is not None or (node.kind == "union" and all(map(_flat, node.children)))


def _keyed_nodes(node: Input) -> Iterator[Input]:
    if node.kind in KEYED:
        yield node
    for child in node.children:
        yield from _keyed_nodes(child)


def _mark_whole(node: Input, first: int, changed: Sequence[bool], whole: list[bool]) -> None:
    spans = [(child, start, start + leaf_count(child)) for child, start in children(node, first)]
    for child, start, end in spans:
        _mark_whole(child, start, changed, whole)
        if node.kind == "cross" and any(changed[first:start]) | any(changed[end : first + leaf_count(node)]):
            whole[start:end] = [True] * (end - start)


def _collect_keys(
    node: Input,
    first: int,
    found: Sequence[Leaf],
    changes: Sequence[Sequence[Matches]],
    keys: list[frozenset[str] | None],
) -> None:
    if node.kind not in KEYED:
        for child, start in children(node, first):
            _collect_keys(child, start, found, changes, keys)
        return
    values = join_values if node.kind == "join" else group_values
    span = range(first, first + leaf_count(node))
    touched = frozenset(key for leaf in span for side in changes[leaf] for key in values(found[leaf], side))
    for leaf in span:
        keys[leaf] = touched
