"""The agent: runs worker processes on this machine for a scheduler on another, and carries their messages over HTTP.

One thread drives the local engine; one sends what workers say as soon as they say it (heartbeats as often as the server wants
them, the newest of each worker, together); one waits for what the scheduler says. Messages are numbered on both sides, so an exchange whose answer was lost is simply
made again (see `runtime.engines.network`). Where the scheduler does not know the agent any more (it was silent for too
long, or another server schedules now), its leases are void: the agent ends its workers and joins anew.
"""

from __future__ import annotations

import logging
import math
import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, NotFound, PaddockError, Unavailable
from paddock.runtime.engines.engine import Engine, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.engines.network import (
    BEAT_SECONDS,
    BEAT_SECONDS_MAX,
    SILENCE_SECONDS,
    Answer,
    FromWorker,
    ToWorker,
    as_many_as_fit,
)
from paddock.runtime.protocol import Down, Drain, Heartbeat, Ready, decode, encode

RETRY_SECONDS_MAX = 5.0
END_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""How often it looks around, where nothing happens."""
PATIENCE_SECONDS_MIN = SILENCE_SECONDS
"""An exchange may be held open for a third of that, and a retry come as late: less would end an agent whose server lives."""
SEND_BYTES_MAX = 8 << 20
FAILED_STARTS_MAX = 3
"""So many workers in a row end before they are ready: what is wrong with this host does not pass by starting more."""
TOLD_SECONDS = 30.0
"""How often a lasting failure to reach the server is told."""

LOG = logging.getLogger("paddock")


class LocalWorkers(Engine, Protocol):
    """An engine on this machine."""

    def fileno(self) -> int:
        """Readable when `poll` has something."""


class Uplink(Protocol):
    """The scheduler, as an agent reaches it. Thread-safe. Unavailable: try again; NotFound: join again."""

    def join(self) -> str: ...

    def exchange(self, agent: str, *, received: int, messages: Sequence[FromWorker], wait: bool) -> Answer: ...

    def leave(self, agent: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Membership:
    """One joining; what belongs to an earlier one is dropped."""

    agent: str
    number: int


class Agent:
    """Runs until `drain` or `stop`; `run` is for the main thread, the other methods for any."""

    def __init__(
        self,
        uplink: Uplink,
        engine: LocalWorkers,
        *,
        slots: int,
        patience_seconds: float | None = None,
        place_is_gone: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """patience_seconds: how long to go on without a server, `PATIENCE_SECONDS_MIN` at least; None: for ever.

        place_is_gone: whether workers have nothing to run datums in any more, and none is to be started again.
        """
        self._place_is_gone = place_is_gone
        self.place_was_lost = False
        self._uplink = uplink
        self._engine = engine
        self._slots = slots
        self._patience_seconds = math.inf if patience_seconds is None else max(patience_seconds, PATIENCE_SECONDS_MIN)
        self._monotonic = monotonic
        self._heard = monotonic()
        """When a server was heard of last."""
        self._changed = threading.Condition()
        self._membership: Membership | None = None
        self._joins = 0
        self._receiver: threading.Thread | None = None
        self._up: deque[FromWorker] = deque()
        """Not yet known to have arrived."""
        self._beats: dict[WorkerId, bytes] = {}
        """The newest heartbeat of each worker that is still to be sent: it waits for company, and for what is urgent."""
        self._beat_seconds = BEAT_SECONDS
        self._urgent = False
        self._next = 0
        self._received = 0
        self._down: deque[ToWorker] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._draining = False
        self._drained: set[WorkerId] = set()
        self._ready: set[WorkerId] = set()
        self._failed_starts = 0
        self._stopped = False
        self._failure: PaddockError | None = None
        self._told = -TOLD_SECONDS

    def run(self) -> None:
        """Join, work, and leave. Raises PermissionDenied or InvalidInput where the server refuses for good, Unavailable where none was
        heard of for too long, or no worker starts here.
        """
        sender = threading.Thread(target=self._send_forever, name="agent-up", daemon=True)
        sender.start()
        try:
            while not self._over():
                self._round()
            if self._failure is not None:
                raise self._failure
            self._flush()
        finally:
            self._finish()
            # Whoever waits for a server that is silent would do so for long.
            for thread in (sender, self._receiver):
                if thread is not None:
                    thread.join(END_SECONDS)

    def drain(self) -> None:
        """End after the datums that run now; the rest of their batches goes to others. May be called in a signal handler."""
        self._draining = True
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End at once."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)

    # ---- the main thread: workers --------------------------------------------------------------------------

    def _over(self) -> bool:
        with self._changed:
            if self._failure is None and self._monotonic() - self._heard > self._patience_seconds:
                self._failure = Unavailable(
                    f"no server was heard of for {self._patience_seconds:g} s; start another worker when there is one"
                )
            failed = self._failure is not None
        return self._stopped or failed or (self._draining and not self._engine.workers())

    def _round(self) -> None:
        membership = self._ensure_joined()
        if membership is None:
            return
        if not self._engine.workers() and self._place_is_gone():
            self._draining = self.place_was_lost = True
        if self._draining:
            for worker in set(self._engine.workers()) - self._drained:
                self._drained.add(worker)
                self._engine.send(worker, Drain())
        else:
            self._engine.scale(self._slots)
        select.select([self._engine.fileno(), self._wake], [], [], LOOK_SECONDS)
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        self._deliver()
        for event in self._engine.poll(0):
            match event:
                case WorkerMessage(worker, Heartbeat() as beat):
                    self._note_beat(worker, encode(beat))
                case WorkerMessage(worker, message):
                    if isinstance(message, Ready):
                        self._ready.add(worker)
                        self._failed_starts = 0
                    self._queue(worker, encode(message))
                case WorkerGone() as gone:
                    self._note_end(gone)
                    self._queue(gone.worker, None, reason=gone.reason, starved=gone.starved)

    def _note_end(self, gone: WorkerGone) -> None:
        """Give up where no worker starts; the server can't know of those that were never ready."""
        if gone.worker in self._ready:
            self._ready.remove(gone.worker)
        elif not self._stopped and not self._draining:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS_MAX:
                begin, *more = gone.reason.splitlines()
                said = f"{begin.partition(': Traceback')[0]}: {more[-1]}" if more else begin
                with self._changed:
                    self._failure = Unavailable(f"workers don't start on this host: {said}")

    def _ensure_joined(self) -> Membership | None:
        """The present membership; joins where there is none, ending what ran for the last one."""
        with self._changed:
            if self._membership is not None:
                return self._membership
        for worker in self._engine.workers():
            self._engine.kill(worker)
        while self._engine.workers():
            self._engine.poll(LOOK_SECONDS)
        self._ready.clear()
        if self._draining:
            return None
        try:
            agent = self._uplink.join()
        except (Unavailable, NotFound) as error:
            self._wait_after(error)
            return None
        with self._changed:
            self._heard = self._monotonic()
            self._joins += 1
            self._up.clear()
            self._beats.clear()
            self._down.clear()
            self._next = self._received = 0
            membership = self._membership = Membership(agent, self._joins)
            self._changed.notify_all()
        self._receiver = threading.Thread(target=self._receive, args=(membership,), name="agent-down", daemon=True)
        self._receiver.start()
        return membership

    def _deliver(self) -> None:
        with self._changed:
            messages = list(self._down)
            self._down.clear()
        for message in messages:
            worker = WorkerId(message.slot)
            if message.retire:
                self.drain()
            elif message.line is None:
                self._engine.kill(worker)
            else:
                down = decode(message.line)
                assert isinstance(down, Down), "the scheduler sends only messages that go down"
                self._engine.send(worker, down)

    def _queue(self, worker: WorkerId, line: bytes | None, *, reason: str = "", starved: bool = False) -> None:
        """Say something to the scheduler, at once."""
        with self._changed:
            self._beats.pop(worker, None)  # it is older than what is said now
            self._append(worker, line, reason, starved)
            self._urgent = True
            self._changed.notify_all()

    def _append(self, worker: WorkerId, line: bytes | None, reason: str = "", starved: bool = False) -> None:
        self._up.append(FromWorker(self._next, int(worker), line, reason, starved))
        self._next += 1

    def _note_beat(self, worker: WorkerId, line: bytes) -> None:
        with self._changed:
            self._beats[worker] = line
            self._changed.notify_all()

    def _flush(self) -> None:
        """Wait until everything that was said has arrived, a few seconds at most."""
        deadline = self._monotonic() + RETRY_SECONDS_MAX
        with self._changed:
            while self._up and self._membership is not None and self._monotonic() < deadline:
                self._changed.wait(0.1)

    def _finish(self) -> None:
        with self._changed:
            self._stopped = True
            membership, self._membership = self._membership, None
            self._changed.notify_all()
        if membership is not None:
            try:
                self._uplink.leave(membership.agent)
            except PaddockError as error:
                LOG.warning("leaving was not heard (%s); the scheduler notices by itself", error)

    # ---- the other threads: the server ---------------------------------------------------------------------

    def _send_forever(self) -> None:
        last, arrived = self._monotonic(), True
        while not self._stopped:
            with self._changed:
                membership = self._membership
                anything = membership is not None and bool(self._up or self._beats)
                wait = 0.0 if self._urgent else last + self._beat_seconds - self._monotonic()
                if membership is None or not anything or wait > 0:
                    self._changed.wait(wait if anything else LOOK_SECONDS)
                    continue
                # What did not arrive is repeated as it was, and newer heartbeats wait until it has.
                if arrived or not self._up:
                    for worker, line in self._beats.items():
                        self._append(worker, line)
                    self._beats.clear()
                messages = as_many_as_fit(self._up, SEND_BYTES_MAX)
                self._urgent = len(messages) < len(self._up)
                received = self._received
            last = self._monotonic()
            arrived = self._exchange(membership, received, messages, wait=False)
            if arrived:
                with self._changed:
                    if self._membership is membership:
                        while self._up and self._up[0].number <= messages[-1].number:
                            self._up.popleft()
                        self._changed.notify_all()

    def _receive(self, membership: Membership) -> None:
        """Wait for what the scheduler says, as long as the membership lasts. Each has a thread of its own: one that waits for a host
        that is gone may have to wait for long, and the next membership does not with it."""
        while not self._stopped:
            with self._changed:
                if self._membership is not membership:
                    return
                received = self._received
            self._exchange(membership, received, (), wait=True)

    def _exchange(self, membership: Membership, received: int, messages: Sequence[FromWorker], *, wait: bool) -> bool:
        """One exchange; whether it was made. After a failure that can pass, waits a moment first."""
        try:
            answer = self._uplink.exchange(membership.agent, received=received, messages=messages, wait=wait)
        except (NotFound, Conflict):
            self._forget(membership)
            return False
        except Unavailable as error:
            self._wait_after(error)
            return False
        except PaddockError as error:
            with self._changed:
                self._failure = error
            os.eventfd_write(self._wake, 1)
            return False
        with self._changed:
            self._heard = self._monotonic()
            if self._membership is not membership:
                return False
            self._beat_seconds = min(max(answer.beat_seconds, BEAT_SECONDS), BEAT_SECONDS_MAX)
            new = [message for message in answer.messages if message.number >= self._received]
            self._down.extend(new)
            self._received += len(new)
        if answer.messages:
            os.eventfd_write(self._wake, 1)
        return True

    def _forget(self, membership: Membership) -> None:
        with self._changed:
            if self._membership is membership:
                self._membership = None
        os.eventfd_write(self._wake, 1)

    def _wait_after(self, error: PaddockError) -> None:
        """A moment of 0.2 to 5 seconds, at random, so that a thousand agents do not come back at once."""
        now = self._monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            LOG.warning("%s", error)
        with self._changed:
            if not self._stopped:
                self._changed.wait(random.uniform(0.2, RETRY_SECONDS_MAX))
