"""What the scheduler asks of an engine: keep workers of one pool alive and carry messages to and from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NewType, Protocol

from paddock.model.dataclass import dataclass
from paddock.model.records import DEFAULT_POOL
from paddock.runtime.protocol import Down, Up

if TYPE_CHECKING:
    from paddock.runtime.capacity import Capacity

WorkerId = NewType("WorkerId", int)


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    worker: WorkerId
    message: Up


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker ended, for whatever cause; `reason` is for people. What it held must be given to others.

    starved: it seems to have ended for want of memory. taken: somebody took it away (its node, its place), whatever it ran.
    """

    worker: WorkerId
    reason: str
    starved: bool = False
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """pool: whose pipelines the worker is given. machine: what it shares with others; empty: the scheduler's own."""

    pool: str
    machine: str = ""


OWN_PLACE = Place(DEFAULT_POOL)

WorkerEvent = WorkerMessage | WorkerGone


class Engine(Protocol):
    """Starts, counts and stops the workers of one pool. Not thread-safe: one scheduler drives it."""

    def scale(self, workers: int) -> None:
        """Have this many workers; new ones are started, idle surplus is left alone until `stop`."""

    def workers(self) -> Sequence[WorkerId]:
        """Workers alive now."""

    def place(self, worker: WorkerId) -> Place:
        """Where a worker is; of one that is gone, a place that nothing is meant for."""

    def machines(self) -> Mapping[Place, Capacity]:
        """Other machines than the scheduler's that have workers, and what each has for datums."""

    def send(self, worker: WorkerId, message: Down) -> None:
        """Queue a message; a worker that is gone swallows it (its `WorkerGone` follows)."""

    def flush(self) -> None:
        """Have what was queued go out now; else it does at the next `poll` at the latest."""

    def kill(self, worker: WorkerId) -> None:
        """End one worker at once, with all that its user code started; its `WorkerGone` follows."""

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        """Events since the last call, waiting at most that long for the first."""

    def stop(self) -> None:
        """End every worker and wait until none is left. Safe to call twice."""
