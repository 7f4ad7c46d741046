"""How many members a pool should have: pure decisions from what there is to do and who is there (design note 032).

Nothing here knows a clock, an engine or a member's process; `runtime.fleet` looks, asks, and does what was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from paddock.model.dataclass import dataclass

START_SECONDS = 10.0
"""Taken for how long a member takes to start, until one has been measured."""
START_SECONDS_MIN = 1.0
START_SECONDS_MAX = 600.0
"""Measured times are taken for no less and no more: a queue of hours is no reason to start one worker only."""
AT_ONCE_MAX = 50
"""Members that are started in one round: the call is done before the next pool waits for long."""
BACKOFF_SECONDS = 2.0
BACKOFF_SECONDS_MAX = 300.0


class Phase(Enum):
    STARTING = auto()
    """Asked for, and not joined yet."""
    IDLE = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class MemberNow:
    """since: when it became idle, or, of one that starts, when it was last wanted; of a busy one it says nothing."""

    name: str
    phase: Phase
    since: float


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool is to do. datums: that wait or run, of all its jobs. work_seconds: of a worker, that they cost as far as is known.

    most: members that its pipelines may have together. minimum: those that stay without work.
    """

    datums: int = 0
    work_seconds: float = 0.0
    most: int = 1
    minimum: int = 0
    cool_down_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Decision:
    """start: so many more. retire: these that have joined, and are idle. cancel: these that have not joined."""

    start: int = 0
    retire: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()


def wanted(demand: Demand, start_seconds: float) -> int:
    """Members that the work is worth: one as soon as there is any, and as many as stay busy for longer than it takes to start them."""
    if not demand.datums:
        return min(demand.minimum, demand.most)
    start_seconds = min(max(start_seconds, START_SECONDS_MIN), START_SECONDS_MAX)
    useful = max(1, int(demand.work_seconds / start_seconds))
    return min(max(min(useful, demand.datums), demand.minimum), demand.most)


def decide(
    demand: Demand, members: Sequence[MemberNow], *, start_seconds: float, now: float, failing: bool
) -> Decision:
    """What to do now. A busy member is never chosen; one that idles or starts, when it was not wanted for the whole cool-down.

    members: those that are there or will be, without those on their way out. failing: the last start failed: one is tried at a
    time.
    """
    target = wanted(demand, start_seconds)
    missing = target - len(members)
    if missing > 0:
        if failing:
            missing = 0 if any(member.phase is Phase.STARTING for member in members) else 1
        return Decision(start=min(missing, AT_ONCE_MAX))
    over = [
        member
        for member in members
        if member.phase is not Phase.BUSY and now - member.since >= demand.cool_down_seconds
    ]
    # Those that have not started first: they have nothing in their caches. Then those that idle longest.
    over.sort(key=lambda member: (member.phase is not Phase.STARTING, member.since, member.name))
    chosen = over[:-missing] if missing else []
    return Decision(
        retire=tuple(member.name for member in chosen if member.phase is Phase.IDLE),
        cancel=tuple(member.name for member in chosen if member.phase is Phase.STARTING),
    )


@dataclass(frozen=True, slots=True)
class Backoff:
    """When members of a pool may be started again after starts that failed: at once, then after 2, 4, 8 s, at most 5 minutes."""

    failures: int = 0
    until: float = 0.0

    def failed(self, now: float, *, retry: bool) -> Backoff:
        """retry: whether trying again may help at all; if not, it is tried as seldom as can be."""
        seconds = min(BACKOFF_SECONDS * 2.0 ** min(self.failures, 30), BACKOFF_SECONDS_MAX)
        return Backoff(self.failures + 1, now + (seconds if retry else BACKOFF_SECONDS_MAX))

    def holds(self, now: float) -> bool:
        return now < self.until
