"""The scaling policy: what holds for any pool at any moment, and how a pool fares over time on a simulated clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.runtime.autoscale import (
    AT_ONCE_MAX,
    BACKOFF_SECONDS_MAX,
    Backoff,
    Decision,
    Demand,
    MemberNow,
    Phase,
    decide,
    wanted,
)

NOW = 1000.0

demands = st.builds(
    lambda datums, seconds, most, minimum, cool: Demand(datums, seconds, most, min(minimum, most), cool),
    st.integers(0, 10_000),
    st.floats(0, 1e6),
    st.integers(1, 70),
    st.integers(0, 5),
    st.floats(0.1, 600),
)
pools = st.lists(st.tuples(st.sampled_from(Phase), st.floats(0, NOW)), max_size=60).map(
    lambda rows: [MemberNow(f"m{index}", phase, since) for index, (phase, since) in enumerate(rows)]
)
starts = st.floats(0, 1e4)


@given(demands, pools, starts, st.booleans())
def test_no_busy_member_is_chosen_and_no_more_are_had_than_wanted(
    demand: Demand, members: list[MemberNow], start_seconds: float, failing: bool
) -> None:
    decision = decide(demand, members, start_seconds=start_seconds, now=NOW, failing=failing)
    target = wanted(demand, start_seconds)
    by_name = {member.name: member for member in members}
    gone = [*decision.retire, *decision.cancel]
    assert len(set(gone)) == len(gone)
    assert all(by_name[name].phase is Phase.IDLE for name in decision.retire)
    assert all(by_name[name].phase is Phase.STARTING for name in decision.cancel)
    assert all(NOW - by_name[name].since >= demand.cool_down_seconds for name in gone)
    # Nothing is started and ended in one breath; what is started reaches the target, what is ended leaves it.
    assert not (decision.start and gone)
    assert 0 <= decision.start <= AT_ONCE_MAX
    if decision.start:
        assert len(members) + decision.start <= target <= demand.most
    if gone:
        assert len(members) - len(gone) >= target >= demand.minimum
    if failing:
        starting = sum(member.phase is Phase.STARTING for member in members)
        assert decision.start + starting <= max(1, starting)


@given(demands, starts)
def test_work_has_a_worker_and_none_has_the_minimum(demand: Demand, start_seconds: float) -> None:
    target = wanted(demand, start_seconds)
    assert demand.minimum <= target <= demand.most
    if demand.datums:
        assert 1 <= target <= max(demand.datums, demand.minimum)
    else:
        assert target == demand.minimum


@settings(max_examples=50)
@given(demands, starts, st.integers(0, 50))
def test_under_a_constant_load_a_pool_comes_to_rest(demand: Demand, start_seconds: float, others: int) -> None:
    """From whatever number of idle members: started once, ended once, and then nothing more, ever."""
    members = [MemberNow(f"m{index}", Phase.IDLE, NOW) for index in range(others)]
    now, number = NOW, others
    changes = 0
    for _ in range(20):
        now += demand.cool_down_seconds + 1
        decision = decide(demand, members, start_seconds=start_seconds, now=now, failing=False)
        if decision == Decision():
            break
        changes += 1
        gone = {*decision.retire, *decision.cancel}
        members = [member for member in members if member.name not in gone]
        members += [MemberNow(f"m{number + index}", Phase.IDLE, now) for index in range(decision.start)]
        number += decision.start
    assert len(members) == wanted(demand, start_seconds)
    assert changes <= math.ceil(demand.most / AT_ONCE_MAX) + 1
    for _ in range(3):
        now += demand.cool_down_seconds + 1
        assert decide(demand, members, start_seconds=start_seconds, now=now, failing=False) == Decision()


@dataclass
class Simulated:
    """A pool over time: members take `start_seconds` to join, and each works off the datums that there are, one at a time."""

    datum_seconds: float
    demand: Callable[[int, float], Demand]
    start_seconds: float = 10.0
    now: float = 0.0
    datums: int = 0
    number: int = 0
    measured: bool = False
    joins: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    wanted_at: float = 0.0
    started: int = 0
    ended: int = 0
    most_seen: int = 0

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        for name in [name for name, at in self.joins.items() if at <= self.now]:
            del self.joins[name]
            self.idle[name] = self.now
        for name in [name for name, until in self.busy.items() if until <= self.now]:
            del self.busy[name]
            self.idle[name] = self.now
            self.measured = True
        for name in [*self.idle][: self.datums]:
            del self.idle[name]
            self.datums -= 1
            self.busy[name] = self.now + self.datum_seconds
        datums = self.datums + len(self.busy)
        if datums:
            self.wanted_at = self.now
        members = [MemberNow(name, Phase.BUSY, self.now) for name in self.busy]
        members += [MemberNow(name, Phase.IDLE, since) for name, since in self.idle.items()]
        members += [MemberNow(name, Phase.STARTING, self.wanted_at) for name in self.joins]
        work = datums * self.datum_seconds if self.measured else 0.0
        decision = decide(
            self.demand(datums, work), members, start_seconds=self.start_seconds, now=self.now, failing=False
        )
        for name in decision.retire:
            del self.idle[name]
        for name in decision.cancel:
            del self.joins[name]
        for _ in range(decision.start):
            self.joins[f"m{self.number}"] = self.now + self.start_seconds
            self.number += 1
        self.started += decision.start
        self.ended += len(decision.retire) + len(decision.cancel)
        self.most_seen = max(self.most_seen, self.members)

    @property
    def members(self) -> int:
        return len(self.joins) + len(self.busy) + len(self.idle)


def test_from_nothing_to_one_to_many_and_back() -> None:
    pool = Simulated(5.0, lambda datums, work: Demand(datums, work, most=16, cool_down_seconds=60))
    for _ in range(30):
        pool.step()
    assert pool.started == 0
    pool.datums = 400
    pool.step()
    assert pool.members == 1
    while pool.datums or pool.busy:
        pool.step()
        assert pool.now < 1000
    # 400 datums of 5 s by 16 workers take 125 s, and two starts of 10 s and the first datum come before it.
    assert pool.most_seen == pool.started == 16
    assert pool.now - 30 < 165
    assert pool.ended == 0
    for _ in range(61):
        pool.step()
    assert (pool.members, pool.ended) == (0, 16)


def test_a_minimum_stays_and_a_trickle_starts_nothing_anew() -> None:
    pool = Simulated(2.0, lambda datums, work: Demand(datums, work, most=8, minimum=1, cool_down_seconds=60))
    pool.step()
    assert pool.members == 1
    # A datum every 20 s for an hour: the one that is there takes them all, and none comes or goes.
    for second in range(3600):
        pool.datums += second % 20 == 0
        pool.step()
    assert (pool.started, pool.ended, pool.members) == (1, 0, 1)


def test_bursts_within_the_cool_down_find_their_workers_again() -> None:
    pool = Simulated(4.0, lambda datums, work: Demand(datums, work, most=8, cool_down_seconds=60), start_seconds=5.0)
    for second in range(3600):
        pool.datums += 100 if second % 90 == 0 else 0
        pool.step()
    # 100 datums of 4 s take 8 workers 50 s, so each idles for 40 s between two bursts: none is ever ended.
    assert (pool.started, pool.ended) == (8, 0)


def test_short_work_starts_no_more_than_pay() -> None:
    pool = Simulated(0.1, lambda datums, work: Demand(datums, work, most=100, cool_down_seconds=60))
    pool.datums = 200
    for _ in range(500):
        pool.step(0.1)
    assert (pool.datums, pool.started) == (0, 1)


def test_failed_starts_are_repeated_ever_later() -> None:
    now, waits = 0.0, []
    backoff = Backoff()
    assert not backoff.holds(now)
    for _ in range(10):
        backoff = backoff.failed(now, retry=True)
        waits.append(backoff.until - now)
        assert backoff.holds(now)
        now = backoff.until
        assert not backoff.holds(now)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == BACKOFF_SECONDS_MAX
    assert Backoff().failed(0.0, retry=False).until == BACKOFF_SECONDS_MAX
