"""Which datums go to a worker next: sizes, order, leases, deaths; and by property, that nothing is lost or doubled."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.dispatch import (
    BATCH_DATUMS_MAX,
    BATCHES_PER_SECOND,
    DEATHS_MAX,
    PROBE_DATUMS,
    BatchRule,
    Dispatch,
    Lease,
    LeaseId,
)


def make(count: int, *, rule: BatchRule | None = None, sizes: list[int] | None = None) -> Dispatch:
    return Dispatch(range(count), input_bytes=sizes or [1] * count, rule=rule or BatchRule())


def carve(dispatch: Dispatch, name: str, *, workers: int = 2, now: float = 0.0) -> Lease:
    lease = dispatch.carve(LeaseId(name), workers=workers, now=now, lease_seconds=30)
    assert lease is not None
    return lease


def test_first_batches_probe_and_later_ones_follow_the_measured_cost() -> None:
    dispatch = make(1000)
    first = carve(dispatch, "a")
    assert len(first.datums) == PROBE_DATUMS
    dispatch.report(first.id, first.datums, seconds=0.01 * PROBE_DATUMS, final=True)
    assert len(carve(dispatch, "b").datums) == 100


def test_batches_never_exceed_half_an_even_share_of_what_is_left() -> None:
    dispatch = make(100)
    first = carve(dispatch, "a", workers=5)
    dispatch.report(first.id, first.datums, seconds=1e-6, final=True)
    assert len(carve(dispatch, "b", workers=5).datums) == (100 - PROBE_DATUMS) // 10


def test_batches_have_an_upper_limit() -> None:
    dispatch = make(100_000)
    first = carve(dispatch, "a")
    dispatch.report(first.id, first.datums, seconds=1e-9, final=True)
    assert len(carve(dispatch, "b").datums) == BATCH_DATUMS_MAX


def test_long_batches_differ_so_that_workers_do_not_ask_all_at_once() -> None:
    dispatch = make(1_000_000)
    first = carve(dispatch, "a")
    dispatch.report(first.id, first.datums, seconds=0.01 * PROBE_DATUMS, final=True)
    few = {len(carve(dispatch, f"few {number}", workers=BATCHES_PER_SECOND).datums) for number in range(100)}
    many = [len(carve(dispatch, f"many {number}", workers=3 * BATCHES_PER_SECOND).datums) for number in range(100)]
    assert few == {100}
    assert len(set(many)) > 50
    assert 225 <= min(many) < 232
    assert 368 < max(many) <= 375
    assert abs(sum(many) / len(many) - 300) < 5


def test_large_inputs_go_first() -> None:
    assert carve(make(3, sizes=[1 << 20, 9 << 20, 5 << 20]), "a", workers=1).datums[0] == 1


def test_inputs_of_about_the_same_size_go_in_the_order_of_the_plan() -> None:
    assert carve(make(4, sizes=[100, 900, 500, 1 << 20]), "a", workers=1).datums == (3, 0)
    assert make(4, sizes=[100, 900, 500, 700]).waiting() == [0, 1, 2, 3]


def test_a_number_or_a_size_in_the_spec_decides() -> None:
    assert len(carve(make(10, rule=BatchRule(number=3)), "a").datums) == 3
    assert carve(
        make(4, rule=BatchRule(size_bytes=10 << 20), sizes=[6 << 20, 5 << 20, 4 << 20, 20 << 20]), "a"
    ).datums == (3,)
    assert carve(make(3, rule=BatchRule(size_bytes=10), sizes=[6, 4, 4]), "a").datums == (0, 1)


def test_a_void_lease_accepts_nothing() -> None:
    dispatch = make(4)
    lease = carve(dispatch, "a", workers=1)
    dispatch.lose(lease.id, died=False)
    assert dispatch.report(lease.id, lease.datums, seconds=1, final=True) is None
    assert dispatch.remaining == 4


def test_a_datum_reported_twice_counts_once() -> None:
    dispatch = make(4)
    lease = carve(dispatch, "a", workers=1)
    assert dispatch.report(lease.id, lease.datums[:1], seconds=1, final=False) == [lease.datums[0]]
    assert dispatch.report(lease.id, lease.datums, seconds=1, final=True) == list(lease.datums[1:])


def test_what_a_final_report_leaves_out_waits_again() -> None:
    dispatch = make(2, rule=BatchRule(number=2))
    lease = carve(dispatch, "a")
    dispatch.report(lease.id, lease.datums[:1], seconds=1, final=True)
    assert carve(dispatch, "b").datums == lease.datums[1:]


def test_a_datum_that_kills_its_worker_again_and_again_is_given_up_and_its_neighbours_are_not() -> None:
    dispatch = make(3, rule=BatchRule(number=3))
    assert not dispatch.lose(carve(dispatch, "all").id, died=True)
    doomed: list[int] = []
    for attempt in range(DEATHS_MAX + 2):
        lease = carve(dispatch, f"{attempt}")
        if lease.datums == (0,):
            doomed += dispatch.lose(lease.id, died=True)
        else:
            dispatch.report(lease.id, lease.datums, seconds=1, final=True)
    assert doomed == [0]
    assert dispatch.idle


def test_leases_live_on_by_heartbeats_and_end_without() -> None:
    dispatch = make(2, rule=BatchRule(number=1))
    kept, silent = carve(dispatch, "kept"), carve(dispatch, "silent")
    assert dispatch.renew(kept.id, now=20, lease_seconds=30)
    assert [lease.id for lease in dispatch.expired(31)] == [silent.id]
    assert not dispatch.renew(LeaseId("unknown"), now=20, lease_seconds=30)


@given(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=200), st.integers(1, 5))
def test_every_datum_is_accepted_once_whatever_workers_do(
    count: int, events: list[tuple[int, int]], workers: int
) -> None:
    dispatch = make(count)
    held: list[Lease] = []
    accepted: list[int] = []
    for number, (what, choice) in enumerate(events):
        if what == 0 or not held:
            lease = dispatch.carve(LeaseId(str(number)), workers=workers, now=number, lease_seconds=5)
            held += [lease] if lease is not None else []
            continue
        lease = held[choice % len(held)]
        if what == 1:
            held.remove(lease)
            accepted += dispatch.report(lease.id, lease.datums, seconds=1, final=True) or []
        elif what == 2:
            accepted += dispatch.report(lease.id, lease.datums[:choice], seconds=1, final=False) or []
        else:
            held.remove(lease)
            accepted += dispatch.lose(lease.id, died=choice % 2 == 0)
    for lease in held:
        accepted += dispatch.report(lease.id, lease.datums, seconds=1, final=True) or []
    while not dispatch.idle:
        lease = carve(dispatch, f"last {len(accepted)}", workers=workers)
        accepted += dispatch.report(lease.id, lease.datums, seconds=1, final=True) or []
    assert sorted(accepted) == list(range(count))


def test_datums_not_begun_are_taken_over_and_the_first_result_wins() -> None:
    dispatch = make(4, rule=BatchRule(number=4))
    slow = carve(dispatch, "slow")
    dispatch.renew(slow.id, now=1, lease_seconds=30, done=1, running_seconds=0.5)
    (rescue,) = dispatch.rescues(now=5, most=3)
    assert (rescue.victim, rescue.datums, rescue.keep) == (slow.id, (3,), 3)
    thief = dispatch.take_over(rescue, LeaseId("thief"), now=5, lease_seconds=30)
    assert dispatch.report(thief.id, thief.datums, seconds=1, final=True) == [3]
    assert dispatch.report(slow.id, slow.datums, seconds=4, final=True) == [0, 1, 2]
    assert dispatch.idle


def test_what_a_thief_loses_waits_once_the_holder_ends_without_it() -> None:
    dispatch = make(2, rule=BatchRule(number=2))
    holder = carve(dispatch, "holder")
    (rescue,) = dispatch.rescues(now=5, most=1)
    thief = dispatch.take_over(rescue, LeaseId("thief"), now=5, lease_seconds=30)
    assert not dispatch.lose(thief.id, died=True)
    assert dispatch.remaining == 0
    dispatch.report(holder.id, (0,), seconds=1, final=True)
    assert dispatch.waiting() == [1]


def test_a_straggler_runs_twice_and_the_loser_is_void() -> None:
    dispatch = make(1)
    lost = carve(dispatch, "lost")
    assert not dispatch.rescues(now=2, most=1)
    (rescue,) = dispatch.rescues(now=9, most=1)
    assert (rescue.datums, rescue.keep) == ((0,), None)
    winner = dispatch.take_over(rescue, LeaseId("winner"), now=9, lease_seconds=30)
    assert not dispatch.rescues(now=99, most=1), "two runs of a datum are enough"
    assert dispatch.report(winner.id, (0,), seconds=1, final=True) == [0]
    assert dispatch.drop_needless() == [lost.id]
    assert dispatch.report(lost.id, (0,), seconds=9, final=True) is None
    assert dispatch.idle


def test_seconds_that_cannot_be_are_not_believed() -> None:
    for lie in (float("nan"), float("inf"), -1.0):
        dispatch = make(100)
        lease = carve(dispatch, "a")
        dispatch.report(lease.id, lease.datums, seconds=lie, final=True, now=1)
        assert dispatch.seconds_per_datum() is None
    dispatch = make(100)
    lease = carve(dispatch, "a")
    dispatch.report(lease.id, lease.datums, seconds=1e9, final=True, now=4)
    assert dispatch.seconds_per_datum() == 4 / PROBE_DATUMS


def test_a_number_and_a_size_both_hold() -> None:
    both = BatchRule(number=2, size_bytes=100)
    assert len(carve(make(9, rule=both), "a").datums) == 2


def test_datums_that_are_best_run_here_come_forward_among_those_that_cost_alike() -> None:
    seconds = np.array([9.0, 1.0, 1.2, 1.1, 0.9, 0.1, 0.1])
    rule = BatchRule(number=2, size_bytes=20)
    dispatch = Dispatch(range(7), input_bytes=[10] * 7, rule=rule, seconds=seconds)
    batches = []
    for name, mine in (("a", [4, 5]), ("b", [4, 5]), ("c", [6]), ("d", [])):
        dispatch.bring_forward(lambda positions, mine=mine: np.where(np.isin(positions, mine), 0, 1))
        batches.append(carve(dispatch, name).datums)
    # The first lasts nine times as long, so it goes first, whoever asks.
    assert batches == [(0, 2), (4, 3), (1, 5), (6,)]
    assert dispatch.remaining == 0


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 9), st.booleans())
def test_whatever_comes_forward_each_datum_is_handed_out_once(ranks: list[int], number: int, known: bool) -> None:
    seconds = np.linspace(1.0, 3.0, len(ranks)) if known else None
    rule = BatchRule(number=number, size_bytes=5 * number)
    dispatch = Dispatch(range(len(ranks)), input_bytes=[5] * len(ranks), rule=rule, seconds=seconds)
    given_out: list[int] = []
    while dispatch.remaining:
        dispatch.bring_forward(lambda positions: np.array(ranks)[positions])
        given_out += carve(dispatch, str(len(given_out))).datums
    assert sorted(given_out) == list(range(len(ranks)))
