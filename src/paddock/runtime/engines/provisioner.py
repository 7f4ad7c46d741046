"""What starts workers on another system (pods, jobs of a cluster): members of pools, which then join over the network.

A member runs `paddock worker` and joins as an agent under its own name; from then on the network engine knows it. A provisioner
knows nothing of datums. It is driven by one thread (`runtime.fleet`), and its calls may take seconds (design note 032).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from paddock.model.dataclass import dataclass
from paddock.pipelines.models import PipelineSpec
from paddock.settings import Settings

MEMBER_PATIENCE = "10m"
"""How long a member waits for a server: longer than one takes to be replaced, and no allocation is held for days by mistake."""


class MemberState(StrEnum):
    WAITING = "waiting"
    """Asked for, and not started: queued, unschedulable, its image is being fetched. `reason` says why."""
    STARTED = "started"
    """Its process runs; whether it has joined, the network engine knows."""
    ENDED = "ended"
    """Will not run (again). `reason` says why where it was not in good order; empty where it was."""


@dataclass(frozen=True, slots=True)
class Member:
    """One worker process on another system. name: unique in the home, and the agent's name when it joins."""

    name: str
    pool: str
    state: MemberState
    reason: str = ""
    """For people: what is wrong and what to do. Empty where nothing is."""
    retry: bool = True
    """Whether starting another may help; not where the reason is the spec's own fault."""
    taken: bool = False
    """It was ended by what has nothing to do with its work: preempted, cancelled by hand, its node lost."""


@dataclass(frozen=True, slots=True)
class PoolTemplate:
    """What the members of a pool are like.

    name: of the pool, derived from all that shapes a member (`pipelines.worker_pools`). spec: of a pipeline that it serves; any of them
    gives equal members. token: good for this pool alone; given to members secretly (a file or secret, never an argument). The next
    server's fleet has another one: what is kept of it for a pool is replaced by each `start`; members that run go on with the old one.
    """

    name: str
    spec: PipelineSpec
    token: str


@dataclass(frozen=True, slots=True)
class Site:
    """For whom members are started. home: its id, which they carry as a label. url: where they reach the server.

    storage: URL of the objects, for members that reach them (`paddock worker --direct`); None: they go through the server.
    """

    home: str
    url: str
    storage: str | None
    settings: Settings


class Provisioner(Protocol):
    """Starts and ends members on one system. Not thread-safe.

    A member is `paddock --url URL worker --name MEMBER --token-file FILE --slots 1 --patience MEMBER_PATIENCE`: one datum at a time, so that resources and
    `parallelism_spec` count the same thing. It is retired by the fleet: told to leave by the scheduler, it ends by itself with 0.

    Errors: Unavailable where the system can't be reached (nothing is known to have changed; call again), InvalidInput where it
    refuses what a spec asks for (nothing was started).
    """

    def members(self) -> Sequence[Member]:
        """All members of this home, whoever started them: those that ended are told once at least, and forgotten later."""

    def start(self, template: PoolTemplate, count: int) -> None:
        """Ask for so many more members; the next `members` has them. Where only some could be asked for, those are there."""

    def cancel(self, names: Sequence[str]) -> None:
        """End these; those that run a datum get the time for it (SIGTERM drains). Unknown ones are no error."""

    def remove_pool(self, name: str) -> None:
        """Cancel every member of a pool, and remove all else that was made for it. Idempotent."""

    def close(self) -> None:
        """Let go of connections. Members go on: the next server's fleet finds them."""
