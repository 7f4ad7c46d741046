"""The network engine: workers on any host, each behind an agent that exchanges messages with the server over HTTP.

An agent (`runtime.agent`) joins, and then exchanges: it sends what its workers say, each message with the next number, and
gets what is for them, numbered too, until it says that it has received it. So an exchange may be repeated after a broken
connection: nothing is lost and nothing counts twice (design note 031).

The scheduler drives it as any engine, from its one thread; `join`, `exchange` and `leave` are for the API's threads.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TypeVar

from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, NotFound, PermissionDenied, Unavailable
from paddock.model.ids import new_id
from paddock.runtime.capacity import UNLIMITED, Capacity
from paddock.runtime.engines.engine import Place, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.protocol import BatchReport, Down, Heartbeat, Ready, Up, decode, encode

SILENCE_SECONDS = 15.0
"""An agent exchanges at least every `POLL_SECONDS`; one that is silent for so long is taken for lost, with its workers."""
BEAT_SECONDS = 1.0
"""How often agents send the heartbeats of their workers, where there are few."""
BEATS_PER_SECOND = 400
"""With more agents than that, each sends seldomer: what one server takes of them at ease, beside claims and reports."""
BEAT_SECONDS_MAX = 3.0
"""So long a datum has to run before a second worker is given it: later news of it would come too late."""
LOOK_SECONDS = 0.5
"""How often it looks for those that are silent."""
POLL_SECONDS = 5.0
"""How long an exchange with nothing to tell is held open at most."""
ANSWER_BYTES_MAX = 8 << 20
WAITING_BYTES_MAX = 64 << 20
"""What agents have said and the scheduler has not taken in; beyond it they have to wait and say it again."""
AGENTS_MAX = 20_000
FIRST_WORKER = 1 << 32
"""Numbers of these workers begin here, so that they never meet a local engine's."""

_NOWHERE = Place("", "gone")
LOG = logging.getLogger("paddock")


@dataclass(frozen=True, slots=True)
class FromWorker:
    """What one worker of an agent says, as a line of the protocol; None: it has ended, for this reason."""

    number: int
    slot: int
    line: bytes | None
    reason: str = ""
    starved: bool = False
    """It ended for want of memory."""


@dataclass(frozen=True, slots=True)
class ToWorker:
    """What is for one worker of an agent, as a line of the protocol; None: end it at once."""

    number: int
    slot: int
    line: bytes | None
    retire: bool = False
    """It is for the agent: end in good order. Slot and line say nothing then."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent gets for an exchange. beat_seconds: how often it is to send heartbeats."""

    messages: Sequence[ToWorker]
    beat_seconds: float = BEAT_SECONDS


Message = TypeVar("Message", FromWorker, ToWorker)


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """host: what it calls itself: its host's name, or its own where it is a member that an engine has started."""

    id: str
    pool: str
    host: str
    workers: tuple[WorkerId, ...]
    silent_seconds: float
    retired: bool


@dataclass(slots=True)
class _Agent:
    id: str
    pool: str
    host: str
    capacity: Capacity
    seen: float
    expected: int = 0
    """Number of the next message from it."""
    slots: dict[int, WorkerId] = field(default_factory=dict)
    outgoing: deque[ToWorker] = field(default_factory=deque)
    next: int = 0
    retired: bool = False
    told: bool = False
    """Its joining is in the log."""
    wake: Callable[[], None] | None = None

    @property
    def place(self) -> Place:
        return Place(self.pool, self.id)

    def queue(self, slot: int, line: bytes | None, *, retire: bool = False) -> None:
        self.outgoing.append(ToWorker(self.next, slot, line, retire))
        self.next += 1


class NetworkEngine:
    """Workers that come by themselves. Implements `Engine`; what is said below of the scheduler's side holds there.

    A worker counts from its Ready on. `scale` starts none: who wants more workers starts agents.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._agents: dict[str, _Agent] = {}
        self._workers: dict[WorkerId, tuple[_Agent, int]] = {}
        self._listed: tuple[WorkerId, ...] = ()
        """What `workers` said last: it is asked several times a round."""
        self._next = FIRST_WORKER
        self._events: deque[WorkerEvent] = deque()
        self._waiting_bytes = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake)  # and not before: an agent's thread may be about to write to it
        self._woken = False
        """Whoever finds something urgent in the queue first wakes `poll`, after it has let go of the lock."""
        self._due: dict[str, _Agent] = {}
        """Agents that something was queued for, and that were not woken yet."""
        self._next_look = 0.0
        self._stopped = False

    # ---- the scheduler's side ------------------------------------------------------------------------------

    def scale(self, workers: int) -> None:
        pass

    def workers(self) -> Sequence[WorkerId]:
        with self._lock:
            if len(self._listed) != len(self._workers):
                self._listed = tuple(self._workers)
            return self._listed

    def place(self, worker: WorkerId) -> Place:
        found = self._workers.get(worker)  # without the lock: it is asked for each batch, and one look needs none
        return _NOWHERE if found is None or found[0].retired else found[0].place

    def machines(self) -> Mapping[Place, Capacity]:
        with self._lock:
            return {agent.place: agent.capacity for agent in self._agents.values()}

    def send(self, worker: WorkerId, message: Down) -> None:
        line = encode(message)
        with self._lock:
            found = self._workers.get(worker)
            if found is not None:
                self._queue(*found, line)

    def flush(self) -> None:
        """Wake the agents that something was queued for, all at once: after each of these calls the server's thread takes the
        interpreter, and gives it back much later."""
        with self._lock:
            due, self._due = self._due, {}
        for agent in due.values():
            if agent.wake is not None:
                agent.wake()

    def kill(self, worker: WorkerId) -> None:
        with self._lock:
            found = self._workers.get(worker)
            if found is not None:
                self._queue(*found, None)

    def retire(self, agent_id: str) -> None:
        """Have an agent end in good order; from now on its workers are in no pool. Idempotent; one that is gone is no error."""
        with self._lock:
            agent = self._agents.get(agent_id)
            if agent is not None and not agent.retired:
                agent.retired = True
                self._queue(agent, 0, None, retire=True)

    def let_go(self) -> None:
        """Have all exchanges that are held open answered now, with nothing: the server is going down. For any thread."""
        with self._lock:
            wakes = [agent.wake for agent in self._agents.values() if agent.wake is not None]
        for wake in wakes:
            wake()

    def fileno(self) -> int:
        """Readable when `poll` has something."""
        return self._wake

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        self.flush()
        self._lose_silent()
        if not self._events and timeout_seconds > 0:
            select.select([self._wake], [], [], timeout_seconds)
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        with self._lock:
            self._woken = False
            events = tuple(self._events)
            self._events.clear()
            self._waiting_bytes = 0
        return events

    def stop(self) -> None:
        """Send all agents away; they end their workers and look for another scheduler. Safe to call twice."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            for agent in self._agents.values():
                if agent.wake is not None:
                    agent.wake()
            self._agents.clear()
            self._workers.clear()
            self._events.clear()

    # ---- the agents' side ----------------------------------------------------------------------------------

    def join(self, *, pool: str, host: str, capacity: Capacity = UNLIMITED) -> str:
        """A new agent without workers; its id. capacity: what its workers share. Unavailable where the engine has stopped, or has too many."""
        with self._lock:
            self._check_running()
            if len(self._agents) >= AGENTS_MAX:
                raise Unavailable(f"{AGENTS_MAX} agents have joined, which is the most; end some first")
            agent = _Agent(new_id(), pool, host, capacity, self._monotonic())
            self._agents[agent.id] = agent
            return agent.id

    def exchange(self, agent_id: str, *, pool: str, received: int, messages: Sequence[FromWorker]) -> Answer:
        """Take what an agent sends, forget what it has `received` (all numbers below), and return what is for it.

        Idempotent for repeated messages. NotFound: the agent is not known (any more); its workers' leases are void, so it
        ends them and joins again. Conflict: a message is missing in between. Unavailable: the scheduler has not kept up with what
        was sent before; send it again in a moment. PermissionDenied: it is an agent of another pool. Nothing is taken then.
        """
        said = [(message, _read(agent_id, message)) for message in messages]
        wakes = False
        with self._lock:
            self._check_running()
            agent = self._agents.get(agent_id)
            if agent is not None and agent.pool != pool:
                raise PermissionDenied(_foreign(agent_id, pool))
            if agent is None:
                raise NotFound(f"agent {agent_id} is not known here (any more); end its workers and join again")
            agent.seen = self._monotonic()
            while agent.outgoing and agent.outgoing[0].number < received:
                agent.outgoing.popleft()
            new = [each for each in said if each[0].number >= agent.expected]
            if new and self._waiting_bytes > WAITING_BYTES_MAX:
                raise Unavailable("the scheduler is behind with the reports that it was sent; send again in a moment")
            if [message.number for message, _ in new] != list(range(agent.expected, agent.expected + len(new))):
                raise Conflict(f"agent {agent_id} left out message {agent.expected}; it has to send it again")
            events = [event for each in new if (event := self._event(agent, *each)) is not None]
            agent.expected += len(new)
            if events:
                self._events.extend(events)
                self._waiting_bytes += sum(len(message.line or b"") for message, _ in new)
                if not self._woken and not all(map(_can_wait, events)):
                    wakes = self._woken = True
            answer = Answer(as_many_as_fit(agent.outgoing, ANSWER_BYTES_MAX), beat_seconds(len(self._agents)))
        if wakes:
            # A thread in a system call lets the others run, and with the lock in its hands the scheduler would only wait for it.
            os.eventfd_write(self._wake, 1)
        return answer

    def watch(self, agent_id: str, wake: Callable[[], None] | None) -> None:
        """Call this, from any thread, when there is something for an agent; None: no more."""
        with self._lock:
            agent = self._agents.get(agent_id)
            if agent is not None:
                agent.wake = wake

    def leave(self, agent_id: str, reason: str, *, pool: str | None = None, taken: bool = False) -> None:
        """The agent has ended, or does so now. Idempotent. pool: of whoever asks, if it is not this server. taken: see `WorkerGone`.

        PermissionDenied: it is another pool's.
        """
        with self._lock:
            agent = self._agents.get(agent_id)
            if agent is not None and pool not in (None, agent.pool):
                raise PermissionDenied(_foreign(agent_id, pool))
            if agent is not None:
                if agent.told:
                    LOG.info("host %s has left pool %s: %s", agent.host, agent.pool, reason)
                self._lose(agent, reason, taken=taken)

    def agents(self) -> Sequence[AgentInfo]:
        with self._lock:
            now = self._monotonic()
            return [
                AgentInfo(
                    agent.id, agent.pool, agent.host, tuple(agent.slots.values()), now - agent.seen, agent.retired
                )
                for agent in self._agents.values()
            ]

    # ---- inside --------------------------------------------------------------------------------------------

    def _queue(self, agent: _Agent, slot: int, line: bytes | None, *, retire: bool = False) -> None:
        agent.queue(slot, line, retire=retire)
        self._due[agent.id] = agent

    def _check_running(self) -> None:
        if self._stopped:
            raise Unavailable("the scheduler has stopped here; join again in a moment")

    def _event(self, agent: _Agent, message: FromWorker, said: Up | None) -> WorkerEvent | None:
        worker = agent.slots.get(message.slot)
        if said is None:
            if worker is None:
                return None
            del agent.slots[message.slot], self._workers[worker]
            self._listed = ()
            return WorkerGone(worker, f"{message.reason} (on {agent.host})", starved=message.starved)
        if worker is None:
            if not isinstance(said, Ready):
                return None
            worker = agent.slots[message.slot] = WorkerId(self._next)
            self._next += 1
            self._workers[worker] = (agent, message.slot)
            if not agent.told:
                agent.told = True
                LOG.info("host %s joined pool %s", agent.host, agent.pool)
        if isinstance(said, BatchReport) and said.error:
            said = dataclasses.replace(said, error=f"{said.error} (on {agent.host})")
        return WorkerMessage(worker, said)

    def _lose(self, agent: _Agent, reason: str, *, taken: bool = False) -> None:
        del self._agents[agent.id]
        for worker in agent.slots.values():
            del self._workers[worker]
            self._listed = ()
            self._events.append(WorkerGone(worker, reason, taken=taken))
        if agent.wake is not None:
            agent.wake()
        if agent.slots:
            os.eventfd_write(self._wake, 1)

    def _lose_silent(self) -> None:
        now = self._monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        with self._lock:
            if self._stopped:
                return
            limit = now - SILENCE_SECONDS
            for agent in [agent for agent in self._agents.values() if agent.seen < limit]:
                LOG.warning(
                    "host %s of pool %s is given up: silent for %g s; its work goes to others",
                    agent.host,
                    agent.pool,
                    SILENCE_SECONDS,
                )
                self._lose(agent, f"host {agent.host} has not been heard of for {SILENCE_SECONDS:.0f} s")


def beat_seconds(agents: int) -> float:
    """How often each of so many agents is to send heartbeats."""
    return min(max(BEAT_SECONDS, agents / BEATS_PER_SECOND), BEAT_SECONDS_MAX)


def _foreign(agent_id: str, pool: str | None) -> str:
    return f"agent {agent_id} is of another pool than {pool}; a token is good for the agents of its own pool alone"


def _read(agent_id: str, message: FromWorker) -> Up | None:
    """What a worker says; None: it has ended. Without the lock: a long report is no reason for the scheduler to wait."""
    if message.line is None:
        return None
    said = decode(message.line)
    if not isinstance(said, Up):
        raise InvalidInput(f"agent {agent_id} sent a {type(said).__name__}, which goes the other way")
    return said


def _can_wait(event: WorkerEvent) -> bool:
    """Heartbeats of a thousand workers wake nobody a thousand times a second; the next look takes them in."""
    return isinstance(event, WorkerMessage) and isinstance(event.message, Heartbeat)


def as_many_as_fit(waiting: Iterable[Message], bytes_max: int) -> list[Message]:
    """From the front, as many messages as fit into so many bytes; at least one where there is any."""
    taken: list[Message] = []
    size = 0
    for message in waiting:
        size += len(message.line or b"")
        if taken and size > bytes_max:
            break
        taken.append(message)
    return taken
