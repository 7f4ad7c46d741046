"""What the fleet knows of one pool: its members as it saw them, how their starts went, and what is wrong. No I/O, no clock.

All of it can be seen again by the fleet of another server, but for how long starts took and which ones failed.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import field

from paddock.model.dataclass import dataclass
from paddock.runtime.autoscale import START_SECONDS, Backoff, Decision, MemberNow, Phase, decide, wanted
from paddock.runtime.engines.network import AgentInfo
from paddock.runtime.engines.provisioner import Member, MemberState
from paddock.runtime.load import Load
from paddock.runtime.pool_needs import PoolNeed

STEADY_SECONDS = 10.0
"""A member that has joined and lives for so long was a good start, whatever becomes of it."""
LOST_SECONDS = 30.0
"""A member whose agent is gone may have been cut off, and come back; after so long others are started in its place."""
JOIN_SECONDS = 60.0
"""A member that runs for so long and has not joined counts as a failed start: it is told of, and others are started in its place."""
AWAY_SECONDS_MAX = 600.0
"""A member that runs and is not joined for so long is ended."""
STARTS_KEPT = 5
_MUTE = (
    "a worker runs and does not join: see that it reaches the server's URL (`paddock up --advertise`), and what it says on standard"
    " error"
)


@dataclass(slots=True)
class _Watched:
    """A member. Times are the fleet's: when it was first seen, first seen to run, joined; when its agent was missed."""

    member: Member
    seen: float
    ran: float | None = None
    joined: float | None = None
    lost: float | None = None
    agent: AgentInfo | None = None
    busy: bool = False
    leaving: bool = False
    """It was told to leave, or cancelled; it does not count any more."""
    mute: bool = False
    """It runs, and has not joined for so long that nobody waits for it any more."""
    ended: bool = False

    @property
    def counts(self) -> bool:
        return not (self.leaving or self.ended)


@dataclass(frozen=True, slots=True)
class Counts:
    """Members by what they do, as `paddock pool list` shows them."""

    waiting: int = 0
    started: int = 0
    idle: int = 0
    busy: int = 0


@dataclass(slots=True)
class WatchedPool:
    name: str
    trouble: str = ""
    """Why its engine can't be asked."""
    wanted_at: float = 0.0
    """When there was something to do last."""
    _members: dict[str, _Watched] = field(default_factory=dict)
    _idle: dict[str, float] = field(default_factory=dict)
    _looked: bool = False
    _backoff: Backoff = field(default_factory=Backoff)
    _failure: str = ""
    _failed_at: float = -math.inf
    """Only a start after the last failure shows that it is over: others may run well all the time."""
    _starts: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS_KEPT))

    @property
    def alive(self) -> frozenset[str]:
        """Names of its members that have not ended, with those on their way out."""
        return frozenset(name for name, each in self._members.items() if not each.ended)

    @property
    def start_seconds(self) -> float:
        """From asking for a member until it has joined, as measured; so much of it as it spends in a queue too."""
        return statistics.median(self._starts) if self._starts else START_SECONDS

    def agents(self, names: Sequence[str]) -> list[AgentInfo]:
        return [agent for name in names if (agent := self._members[name].agent) is not None]

    # ---- what is seen --------------------------------------------------------------------------------------

    def see(self, members: Sequence[Member], agents: Mapping[str, AgentInfo], load: Load, now: float) -> None:
        """Take in a look at the pool. agents: those that have joined it, by the name that they gave."""
        there = {member.name for member in members}
        for name in [name for name in self._members if name not in there]:
            del self._members[name]
        for member in members:
            known = self._members.get(member.name)
            if known is None:
                known = self._members[member.name] = _Watched(member, now)
            known.member = member
            self._see_agent(known, agents.get(member.name), load, now)
            if member.state is MemberState.STARTED:
                self._see_running(known, now)
            if member.state is MemberState.ENDED and not known.ended:
                known.ended = True
                # What ended before this fleet's time says nothing of starts that it made.
                if self._looked:
                    self._see_end(known, now)
        self._looked = True

    def _see_agent(self, known: _Watched, agent: AgentInfo | None, load: Load, now: float) -> None:
        if agent is None:
            if known.agent is not None:
                known.lost = now
            known.agent, known.busy = None, False
            return
        if known.joined is None:
            known.joined = now
            if known.seen < now:
                self._starts.append(now - known.seen)
        known.agent, known.lost = agent, None
        known.leaving = known.leaving or agent.retired
        known.busy = not load.busy.isdisjoint(agent.workers)
        idle = [load.idle_since.get(worker, now) for worker in agent.workers]
        self._idle[known.member.name] = max(idle, default=known.joined)
        good = known.busy or now - known.joined >= STEADY_SECONDS
        if good and known.joined > self._failed_at:
            self._backoff, self._failure = Backoff(), ""

    def _see_running(self, known: _Watched, now: float) -> None:
        known.ran = now if known.ran is None else known.ran
        if known.counts and known.joined is None and not known.mute and now - known.ran >= JOIN_SECONDS:
            known.mute = True
            self.fail(_MUTE, True, now)

    def _see_end(self, known: _Watched, now: float) -> None:
        self._idle.pop(known.member.name, None)
        if known.leaving or (known.joined is not None and not known.member.reason):
            return
        if known.joined is None or now - known.joined < STEADY_SECONDS:
            self.fail(known.member.reason or "it ended before it had joined this server", known.member.retry, now)

    def fail(self, reason: str, retry: bool, now: float) -> None:
        """A start failed. Several at once count as one."""
        self._failure, self._failed_at = reason, now
        if not self._backoff.holds(now):
            self._backoff = self._backoff.failed(now, retry=retry)

    # ---- what follows from it ------------------------------------------------------------------------------

    def decide(self, need: PoolNeed, now: float) -> Decision:
        """What to do, with what was retired and cancelled by it noted: it is to be done, or `undo` told."""
        if need.demand.datums:
            self.wanted_at = now
        members = [present for each in self._members.values() if (present := self._present(each, now)) is not None]
        decision = decide(
            need.demand, members, start_seconds=self.start_seconds, now=now, failing=bool(self._backoff.failures)
        )
        start = 0 if self._backoff.holds(now) else decision.start
        overdue = self._overdue(now)
        for name in (*decision.cancel, *overdue):
            self._members[name].leaving = True
        return Decision(start, decision.retire, (*decision.cancel, *overdue))

    def _present(self, each: _Watched, now: float) -> MemberNow | None:
        name = each.member.name
        if not each.counts:
            return None
        if each.agent is not None:
            return MemberNow(name, Phase.BUSY if each.busy else Phase.IDLE, self._idle[name])
        if each.joined is None and not each.mute:
            return MemberNow(name, Phase.STARTING, max(each.seen, self.wanted_at))
        if each.lost is not None and now - each.lost < LOST_SECONDS:
            return MemberNow(name, Phase.BUSY, now)
        return None

    def _overdue(self, now: float) -> list[str]:
        """Members that run and have not joined, or not again, for far too long."""
        found = []
        for name, each in self._members.items():
            since = each.lost if each.joined is not None else each.ran
            if each.counts and each.agent is None and since is not None and now - since >= AWAY_SECONDS_MAX:
                found.append(name)
        return found

    def counts(self) -> Counts:
        found: Counter[str] = Counter()
        for each in self._members.values():
            if each.ended:
                continue
            if each.agent is not None:
                found["busy" if each.busy else "idle"] += 1
            else:
                found["waiting" if each.member.state is MemberState.WAITING else "started"] += 1
        return Counts(**found)

    def reason(self, need: PoolNeed) -> str:
        """Why fewer members have joined than are wanted, with the next step; empty where nothing is wrong."""
        joined = sum(1 for each in self._members.values() if each.counts and each.agent is not None)
        if joined >= wanted(need.demand, self.start_seconds):
            return ""
        problem = self.trouble or self._problem()
        if not problem:
            return ""
        if not joined:
            return f"no worker can start: {problem}"
        running = "1 worker runs" if joined == 1 else f"{joined} workers run"
        return f"{running}, and no more can start: {problem}"

    def _problem(self) -> str:
        waiting = [each.member for each in self._members.values() if each.counts and each.agent is None]
        hopeless = [member.reason for member in waiting if member.reason and not member.retry]
        told = hopeless or [member.reason for member in waiting if member.reason]
        if told:
            return Counter(told).most_common(1)[0][0]
        if self._backoff.failures:
            return f"{self._failure}; it is tried again"
        return ""
