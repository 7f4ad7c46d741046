"""What may be computed early, and how a later plan takes over what an earlier one has handed out."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.pipelines.spec import validate_spec
from paddock.runtime.dispatch import NOWHERE, BatchRule, Dispatch, LeaseId
from paddock.runtime.early_work import flows

LEASE = LeaseId("a")


def leaf(name: str, **fields: Any) -> dict[str, Any]:
    return {"pfs": {"repo": name, "glob": "/(*)", **fields}}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (leaf("a"), True),
        ({"cross": [leaf("a"), {"union": [leaf("b"), leaf("c")]}]}, True),
        ({"join": [leaf("a", join_on="$1"), leaf("b", join_on="$1")]}, True),
        ({"join": [leaf("a", join_on="$1", outer_join=True), leaf("b", join_on="$1")]}, False),
        ({"group": [leaf("a", group_by="$1"), leaf("b", group_by="$1")]}, False),
        ({"cross": [leaf("c"), {"group": [leaf("a", group_by="$1")]}]}, False),
    ],
)
def test_an_input_flows_where_more_files_make_more_datums_and_change_none(node: Any, expected: bool) -> None:
    spec = {"pipeline": {"name": "p"}, "transform": {"cmd": ["true"]}, "input": node}
    assert flows(validate_spec(spec).spec) is expected
    assert not flows(validate_spec({**spec, "flow": False}).spec)


def dispatch(waiting: list[int]) -> Dispatch:
    return Dispatch(waiting, input_bytes=[1] * len(waiting), rule=BatchRule(number=3))


def test_a_lease_goes_on_under_the_positions_of_the_new_plan() -> None:
    old, new = dispatch([0, 1, 2]), dispatch([5])
    lease = old.carve(LEASE, workers=1, now=0.0, lease_seconds=10.0)
    assert lease is not None
    assert lease.datums == (0, 1, 2)
    new.adopt(lease, [7, NOWHERE, 9])
    assert new.remaining == 1
    assert not new.idle
    assert new.acceptable(LEASE, [7, NOWHERE, 9]) == [7, 9]
    assert new.report(LEASE, [NOWHERE, 7], seconds=0.1, final=False, now=1.0) == [7]
    assert not new.lose(LEASE, died=True)
    assert sorted(new.waiting()) == [5, 9]


def test_a_lease_ends_whose_other_datums_are_not_wanted() -> None:
    old, new = dispatch([0, 1, 2]), dispatch([])
    lease = old.carve(LEASE, workers=1, now=0.0, lease_seconds=10.0)
    assert lease is not None
    new.adopt(lease, [NOWHERE, 3, NOWHERE])
    assert new.report(LEASE, [NOWHERE, 3, NOWHERE], seconds=0.1, final=True, now=1.0) == [3]
    assert new.idle


def test_nothing_that_is_not_wanted_is_taken_over_from_a_lease() -> None:
    old, new = dispatch([0, 1, 2]), dispatch([])
    lease = old.carve(LEASE, workers=1, now=0.0, lease_seconds=100.0)
    assert lease is not None
    new.adopt(lease, [3, NOWHERE, 4])
    assert [rescue.datums for rescue in new.rescues(now=50.0, most=2)] == [(4,)]
