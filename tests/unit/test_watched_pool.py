"""A pool as the fleet sees it, on a clock of the test: who counts, what failed, what is said of it; and what is needed of pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.runtime.autoscale import Decision, Demand
from paddock.runtime.engines.engine import WorkerId
from paddock.runtime.engines.network import AgentInfo
from paddock.runtime.engines.provisioner import Member, MemberState
from paddock.runtime.load import JobLoad, Load
from paddock.runtime.pool_needs import PoolNeed, Served, pool_needs
from paddock.runtime.watched_pool import (
    AWAY_SECONDS_MAX,
    JOIN_SECONDS,
    LOST_SECONDS,
    STEADY_SECONDS,
    Counts,
    WatchedPool,
)

POOL = "slurm-1"


def spec(name: str = "p", **fields: Any) -> PipelineSpec:
    return validate_spec(
        {
            "pipeline": name,
            "transform": {"cmd": ["true"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "engine": "slurm",
            **fields,
        }
    ).spec


def need(datums: int = 100, work: float = 1e6, most: int = 2, minimum: int = 0, cool: float = 60) -> PoolNeed:
    return PoolNeed(POOL, "slurm", spec(), ("default/p",), (), Demand(datums, work, most, minimum, cool))


def waiting(name: str, reason: str = "", *, retry: bool = True) -> Member:
    return Member(name, POOL, MemberState.WAITING, reason, retry)


def started(name: str) -> Member:
    return Member(name, POOL, MemberState.STARTED)


def ended(name: str, reason: str = "", *, retry: bool = True) -> Member:
    return Member(name, POOL, MemberState.ENDED, reason, retry)


def agent(name: str, *, retired: bool = False) -> AgentInfo:
    return AgentInfo(f"id-{name}", POOL, name, (WorkerId(hash(name)),), 0.0, retired)


def look(
    pool: WatchedPool,
    now: float,
    members: Sequence[Member],
    *joined: str,
    busy: Sequence[str] = (),
    idle_since: float | None = None,
) -> None:
    load = Load(
        (),
        frozenset(WorkerId(hash(name)) for name in busy),
        {WorkerId(hash(name)): now if idle_since is None else idle_since for name in joined if name not in busy},
    )
    pool.see(members, {name: agent(name) for name in joined}, load, now)


def test_starts_are_measured_and_counted() -> None:
    pool = WatchedPool(POOL)
    look(pool, 0, [])
    assert pool.decide(need(), 0) == Decision(start=2)
    look(pool, 1, [waiting("a"), waiting("b")])
    assert pool.decide(need(), 1) == Decision()
    look(pool, 5, [started("a"), waiting("b")])
    look(pool, 9, [started("a"), started("b")], "a", "b", busy=["a"])
    assert pool.start_seconds == 8
    assert pool.counts() == Counts(idle=1, busy=1)
    assert pool.reason(need()) == ""


def test_idle_members_are_retired_and_count_no_more() -> None:
    pool = WatchedPool(POOL)
    members = [started("a"), started("b")]
    look(pool, 0, members, "a", "b", busy=["a"], idle_since=-100)
    # There is work for one of them: the other is idle for long enough.
    assert pool.decide(need(1), 0) == Decision(retire=("b",))
    assert [each.host for each in pool.agents(["b"])] == ["b"]
    pool.see(members, {"a": agent("a"), "b": agent("b", retired=True)}, Load((), frozenset(), {}), 1)
    assert pool.decide(need(1), 1) == Decision()
    look(pool, 2, [started("a"), ended("b")], "a")
    assert pool.decide(need(0), 2) == Decision()
    assert pool.reason(need(0)) == ""
    assert pool.alive == {"a"}


def test_members_that_have_not_joined_are_cancelled_when_nothing_is_to_do_for_the_cool_down() -> None:
    pool = WatchedPool(POOL)
    look(pool, 0, [waiting("a")])
    assert pool.decide(need(1), 50) == Decision()
    assert pool.decide(need(0), 109) == Decision()
    assert pool.decide(need(0), 110) == Decision(cancel=("a",))
    # It counts no more, and that it ends is no failure.
    look(pool, 111, [ended("a", "it was cancelled")])
    assert pool.decide(need(1), 111) == Decision(start=1)


def test_failed_starts_count_once_a_look_and_one_is_tried_after_a_while() -> None:
    pool = WatchedPool(POOL)
    look(pool, 0, [ended("old", "of a server before")])
    assert pool.decide(need(), 0) == Decision(start=2)
    look(pool, 1, [ended("a", "no such image"), ended("b", "no such image")])
    assert pool.decide(need(), 1) == Decision()
    assert pool.reason(need()) == "no worker can start: no such image; it is tried again"
    assert pool.decide(need(), 2.5) == Decision()
    assert pool.decide(need(), 3) == Decision(start=1)
    look(pool, 4, [ended("c")])
    assert "ended before it had joined" in pool.reason(need())
    # Four seconds this time.
    assert pool.decide(need(), 7.5) == Decision()
    assert pool.decide(need(), 8) == Decision(start=1)
    look(pool, 9, [started("d")], "d")
    assert pool.decide(need(), 9) == Decision(start=1)
    look(pool, 9 + STEADY_SECONDS, [started("d")], "d")
    assert pool.decide(need(most=5), 20) == Decision(start=4)
    assert pool.reason(need()) == ""


def test_workers_that_run_well_do_not_hide_that_no_more_can_start() -> None:
    pool = WatchedPool(POOL)
    many = need(most=5)
    look(pool, 0, [started("a")], "a", busy=["a"])
    assert pool.decide(many, 0) == Decision(start=4)
    for now, starts in ((1, 0), (2, 0), (3, 1), (4, 0)):
        ends = [ended(f"b{now}", "the quota is used up")] if now in (1, 4) else []
        look(pool, now, [started("a"), *ends], "a", busy=["a"])
        assert pool.decide(many, now) == Decision(start=starts)
    assert pool.reason(many) == "1 worker runs, and no more can start: the quota is used up; it is tried again"
    look(pool, 9, [started("a"), started("c")], "a", "c", busy=["a", "c"])
    assert pool.decide(many, 9) == Decision(start=3)
    assert pool.reason(many) == ""


def test_what_no_repetition_helps_is_tried_seldom() -> None:
    pool = WatchedPool(POOL)
    pool.fail("partition gpu does not exist", retry=False, now=0)
    assert pool.decide(need(), 299) == Decision()
    assert pool.decide(need(), 300) == Decision(start=1)


def test_a_member_that_worked_and_ends_badly_is_no_failed_start() -> None:
    pool = WatchedPool(POOL)
    look(pool, 0, [started("a")], "a", busy=["a"])
    look(pool, 100, [ended("a", "its node failed")])
    assert pool.decide(need(), 100) == Decision(start=2)


def test_a_member_that_is_cut_off_is_waited_for_then_replaced_then_ended() -> None:
    pool = WatchedPool(POOL)
    look(pool, 0, [started("a")], "a", busy=["a"])
    look(pool, 1, [started("a")])
    one = need(most=1)
    assert pool.decide(one, LOST_SECONDS) == Decision()
    assert pool.decide(one, LOST_SECONDS + 1) == Decision(start=1)
    look(pool, 40, [started("a"), started("b")], "a", "b", busy=["a"])
    assert pool.decide(one, 40) == Decision()
    look(pool, 50, [started("a"), started("b")], "b", busy=["b"])
    assert pool.decide(one, 50 + AWAY_SECONDS_MAX) == Decision(cancel=("a",))


def test_a_member_that_runs_and_does_not_join_is_told_of_replaced_and_ended() -> None:
    pool = WatchedPool(POOL)
    one = need(most=1)
    look(pool, 0, [started("a")])
    look(pool, JOIN_SECONDS - 1, [started("a")])
    assert pool.reason(one) == ""
    assert pool.decide(one, JOIN_SECONDS - 1) == Decision()
    look(pool, JOIN_SECONDS, [started("a")])
    assert "--advertise" in pool.reason(one)
    assert pool.decide(one, JOIN_SECONDS) == Decision()
    assert pool.decide(one, JOIN_SECONDS + 2) == Decision(start=1)
    look(pool, JOIN_SECONDS + 3, [started("a"), started("b")], "b", busy=["b"])
    assert pool.reason(one) == ""
    assert pool.decide(one, AWAY_SECONDS_MAX) == Decision(cancel=("a",))
    # One that comes late counts all the same.
    other = WatchedPool(POOL)
    for now in (0, JOIN_SECONDS):
        look(other, now, [started("a")])
    look(other, JOIN_SECONDS + 1, [started("a")], "a", busy=["a"])
    assert other.decide(one, JOIN_SECONDS + 3) == Decision()


def test_the_worst_reason_is_told() -> None:
    pool = WatchedPool(POOL)
    waits = [
        waiting("a", "no node is free"),
        waiting("b", "no node is free"),
        waiting("c", "the image is being fetched"),
    ]
    look(pool, 0, waits)
    assert pool.reason(need(most=5)) == "no worker can start: no node is free"
    look(pool, 1, [*waits, waiting("d", "there is no node with 9 GPUs; ask for fewer", retry=False), started("e")], "e")
    assert (
        pool.reason(need(most=5)) == "1 worker runs, and no more can start: there is no node with 9 GPUs; ask for fewer"
    )
    pool.trouble = "the cluster can't be reached"
    assert "can't be reached" in pool.reason(need(most=5))
    # As many as are wanted have joined: that others wait is nobody's trouble.
    assert pool.reason(need(1)) == ""


# ---- what is needed ----------------------------------------------------------------------------------------


def job(name: str, pool: str, *, id: int = 1, waiting: int = 10, seconds: float | None = 2.0, **fields: Any) -> JobLoad:
    return JobLoad(id, id, spec(name, **fields), pool, waiting, 2, seconds)


def test_pools_are_those_of_all_pipelines_and_of_jobs_of_older_versions() -> None:
    served = [
        Served(1, spec("a", parallelism_spec={"minimum": 2, "cool_down": "90s"})),
        Served(2, spec("b", parallelism_spec={"constant": 4, "minimum": 3}), stopped=True),
        Served(3, spec("c", engine=None)),
        Served(4, spec("d", engine="local", pool="lab")),
    ]
    plain = pool_needs(served, [], engine="slurm", workers_max=16)
    (shared,) = [each for each in plain.values() if each.engine == "slurm"]
    assert shared.pipelines == ("default/a", "default/b", "default/c")
    # A pipeline that is stopped keeps no workers warm.
    assert shared.demand == Demand(0, 0.0, most=2, minimum=2, cool_down_seconds=90)
    assert plain["lab"].engine == "local"

    jobs = [job("b", shared.name, id=2, parallelism_spec={"constant": 4}), job("c", shared.name, id=3, seconds=None)]
    old = job("a", "slurm-of-an-older-version", id=1)
    found = pool_needs(served, [*jobs, old], engine="slurm", workers_max=16)
    # 12 datums each, of which one kind is measured; four workers for one pipeline, the server's most for the other.
    assert found[shared.name].demand == Demand(24, 24.0, most=20, minimum=2, cool_down_seconds=90)
    assert found[old.pool].jobs == (old,)
    assert found[old.pool].demand.most == 16


@pytest.mark.parametrize("minimum", [None, 3])
def test_a_minimum_above_the_servers_most_is_kept(minimum: int | None) -> None:
    served = [Served(1, spec(parallelism_spec={"minimum": minimum}))]
    (found,) = pool_needs(served, [], engine="local", workers_max=2).values()
    assert (found.demand.most, found.demand.minimum) == (minimum or 1, minimum or 0)
