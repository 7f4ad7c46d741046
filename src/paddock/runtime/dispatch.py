"""Which datums go to a worker next: pure decisions, no I/O, clock or randomness. One `Dispatch` per running job.

A batch is carved when a worker asks for work, so its size follows what was measured so far: about one second of work, and never
more than half of an even share of what is left, so that the last batches even out. Expensive datums go first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NewType

LeaseId = NewType("LeaseId", str)

BATCH_SECONDS = 1.0
"""Aim of a batch's duration: long enough that claims and reports cost little, short enough to lose little and to even out."""
BATCH_DATUMS_MAX = 2000
PROBE_DATUMS = 4
"""Size of the first batches, while nothing is known about the cost of a datum."""
DEATHS_MAX = 3
"""How often a datum may take its worker down before it counts as failed."""


@dataclass(frozen=True, slots=True)
class BatchRule:
    """`datum_set_spec`: at most `number` datums and `size_bytes` of input in a batch; None leaves it to measured cost."""

    number: int | None = None
    size_bytes: int | None = None


@dataclass(slots=True)
class Lease:
    """A worker's claim on datums (positions in the plan), in the order in which it runs them."""

    id: LeaseId
    datums: tuple[int, ...]
    expires: float
    started: float
    reported: set[int] = field(default_factory=set)

    def missing(self) -> list[int]:
        return [datum for datum in self.datums if datum not in self.reported]


class Dispatch:
    """Datums of one job that are to run: waiting, leased or reported. Costs O(log n) a datum."""

    def __init__(
        self,
        waiting: Sequence[int],
        *,
        input_bytes: Sequence[int],
        rule: BatchRule,
        seconds_per_datum: float | None = None,
    ) -> None:
        """waiting: positions in the plan; input_bytes: the bytes of each, in the same order, as a first guess of cost."""
        self._bytes = dict(zip(waiting, input_bytes, strict=True))
        self._waiting = deque(sorted(waiting, key=lambda datum: (-self._bytes[datum], datum)))
        self._retry: list[int] = []
        self._deaths: dict[int, int] = {}
        self._leases: dict[LeaseId, Lease] = {}
        self._rule = rule
        self._measured_seconds = 0.0
        self._measured_datums = 0
        self._prior_seconds = seconds_per_datum

    @property
    def remaining(self) -> int:
        """Datums that no worker holds."""
        return len(self._waiting) + len(self._retry)

    @property
    def leases(self) -> Sequence[Lease]:
        return tuple(self._leases.values())

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is leased."""
        return not self._waiting and not self._retry and not self._leases

    def carve(self, lease: LeaseId, *, workers: int, now: float, lease_seconds: float) -> Lease | None:
        """Take the next datums for one of `workers` workers; None when none waits."""
        if self._retry:
            datums = [heapq.heappop(self._retry)]
        elif self._waiting:
            datums = self._take(self._size(workers))
        else:
            return None
        taken = Lease(lease, tuple(datums), expires=now + lease_seconds, started=now)
        self._leases[lease] = taken
        return taken

    def renew(self, lease: LeaseId, *, now: float, lease_seconds: float) -> bool:
        """Whether the lease is current; if so it lives on."""
        current = self._leases.get(lease)
        if current is not None:
            current.expires = now + lease_seconds
        return current is not None

    def report(self, lease: LeaseId, datums: Sequence[int], *, seconds: float, final: bool) -> Sequence[int] | None:
        """Accept results, each datum once. Returns the accepted ones; None if the lease is not current (nothing is accepted)."""
        current = self._leases.get(lease)
        if current is None:
            return None
        expected = set(current.datums) - current.reported
        accepted = [datum for datum in datums if datum in expected]
        current.reported.update(accepted)
        self._measured_seconds += seconds
        self._measured_datums += len(accepted)
        if final:
            del self._leases[lease]
            for datum in current.missing():
                heapq.heappush(self._retry, datum)
        return accepted

    def lose(self, lease: LeaseId, *, died: bool) -> Sequence[int]:
        """The lease's worker is gone or silent: what it did not report waits again, one datum a batch.

        With `died`, the first unreported datum counts as the suspect; returns the datums that thereby died `DEATHS_MAX` times
        (they wait no longer: the caller fails them).
        """
        current = self._leases.pop(lease, None)
        if current is None:
            return ()
        missing = current.missing()
        doomed: list[int] = []
        if died and len(current.datums) == 1:
            for datum in missing:
                self._deaths[datum] = self._deaths.get(datum, 0) + 1
                if self._deaths[datum] >= DEATHS_MAX:
                    doomed.append(datum)
        for datum in missing:
            if datum not in doomed:
                heapq.heappush(self._retry, datum)
        return doomed

    def expired(self, now: float) -> Sequence[Lease]:
        return [lease for lease in self._leases.values() if lease.expires <= now]

    def clear(self) -> None:
        """Forget all that waits or is leased (the job was killed)."""
        self._waiting.clear()
        self._retry.clear()
        self._leases.clear()

    def seconds_per_datum(self) -> float | None:
        """Mean worker seconds of a datum, measured in this job, else as known from an earlier one."""
        if self._measured_datums:
            return self._measured_seconds / self._measured_datums
        return self._prior_seconds

    def _size(self, workers: int) -> int:
        if self._rule.number is not None:
            return self._rule.number
        if self._rule.size_bytes is not None:
            return len(self._waiting)
        share = max(1, len(self._waiting) // (2 * max(1, workers)))
        cost = self.seconds_per_datum()
        wanted = PROBE_DATUMS if cost is None else int(BATCH_SECONDS / max(cost, 1e-6))
        return max(1, min(share, wanted, BATCH_DATUMS_MAX))

    def _take(self, size: int) -> list[int]:
        taken: list[int] = []
        budget = self._rule.size_bytes
        while self._waiting and len(taken) < size:
            cost = self._bytes[self._waiting[0]]
            if budget is not None and taken and cost > budget:
                break
            if budget is not None:
                budget -= cost
            taken.append(self._waiting.popleft())
        return taken
