"""Which datums go to a worker next: pure decisions, no I/O, clock or randomness. One `Dispatch` per running job.

A batch is carved when a worker asks for work, so its size follows what was measured so far: about one second of work
(more where there are so many workers that their reports would drown the scheduler), and never more than half of an even
share of what is left, so that the last batches even out. Expensive datums go first.

What waits is one sorted array and a cursor, so that ten million datums cost some bytes each and a batch costs its own
length. Dictionaries hold only what is in the hands of workers, and the few datums that were lost or are held twice.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import NewType

import numpy as np

from paddock.model.dataclass import dataclass

LeaseId = NewType("LeaseId", str)

BATCH_SECONDS = 1.0
"""Aim of a batch's duration: long enough that claims and reports cost little, short enough to lose little and to even out."""
SIZE_STEP = 64 << 10
SECONDS_STEP = 0.01
"""Costs are compared in such steps: which of two small datums goes first is no gain, and neighbours are read together."""
BATCHES_PER_SECOND = 200
"""What one scheduler takes at ease; with more workers than that, batches become longer."""
BATCH_SPREAD = 0.25
"""Batches that are longer for that last so much more or less in turn: where datums take equally long, workers that were given batches
together would else ask for the next ones together, for ever, and wait for each other."""
BATCH_DATUMS_MAX = 2000
PLACED_TOGETHER = 2048
"""Among so many of the next datums those are looked for that a machine is the best place for."""
PROBE_DATUMS = 4
"""Size of the first batches, while nothing is known about the cost of a datum."""
DEATHS_MAX = 3
"""How often a datum may take its worker down before it counts as failed."""
RETRY_PIECES = 16
"""A batch that was lost is handed out again in so many pieces, until a piece is a single datum."""
STEAL_SECONDS = 0.1
"""Work that was not begun is taken from a worker if it is expected to last at least so long."""
STRAGGLER_SECONDS = 3.0
STRAGGLER_FACTOR = 3.0
"""A datum is run a second time if it runs so long already, and so many times longer than expected."""
_GOLDEN = 0.618034


NOWHERE = -1
"""Position of a datum that a plan does not have."""


@dataclass(frozen=True, slots=True)
class BatchRule:
    """`datum_set_spec`: at most `number` datums and `size_bytes` of input in a batch; None leaves it to measured cost."""

    number: int | None = None
    size_bytes: int | None = None


@dataclass(slots=True)
class Lease:
    """A worker's claim on datums (positions in the plan), in the order in which it runs them.

    done: how many it said to have ended. since: when the datum at work began, as far as is known. keep: it was told not to
    begin the datums from this one on.
    """

    id: LeaseId
    datums: tuple[int, ...]
    expires: float
    started: float
    since: float
    keep: int
    done: int = 0
    reported: set[int] = field(default_factory=set)

    def missing(self) -> list[int]:
        return [datum for datum in self.datums if datum not in self.reported]


@dataclass(frozen=True, slots=True)
class Rescue:
    """Datums that an idle worker could run in place of, or beside, the lease that holds them.

    keep: the holder is to stop before this position of its batch (the datums were not begun); None: it goes on, and the
    first result wins. seconds: what the rescue is expected to save.
    """

    victim: LeaseId
    datums: tuple[int, ...]
    keep: int | None
    seconds: float


def batch_seconds(workers: int) -> float:
    """How long a batch is to last, where there are so many workers."""
    return BATCH_SECONDS * max(1.0, workers / BATCHES_PER_SECOND)


def report_seconds(workers: int) -> float:
    """How long a worker may be at a batch before it reports a part: a batch that was well guessed is one report."""
    seconds = batch_seconds(workers)
    return seconds if seconds <= BATCH_SECONDS else seconds * (1 + 2 * BATCH_SPREAD)


class Dispatch:
    """Datums of one job that are to run: waiting, leased or reported.

    Built in O(n log n). A batch costs its own length; nothing is kept for a datum that waits but its place in an array.
    """

    def __init__(
        self,
        waiting: Sequence[int] | np.ndarray,
        *,
        input_bytes: Sequence[int] | np.ndarray,
        rule: BatchRule,
        seconds: np.ndarray | None = None,
        seconds_per_datum: float | None = None,
    ) -> None:
        """waiting: positions in the plan. input_bytes: the bytes of each, in the same order, as a first guess of cost.

        seconds: what each took in an earlier job, in the same order, NaN where that is unknown. seconds_per_datum: the
        mean of an earlier job, where no more is known.
        """
        positions = np.asarray(waiting, np.int64)
        sizes = np.asarray(input_bytes, np.int64)
        assert len(positions) == len(sizes), "each datum that waits has a size"
        costs = _known_costs(seconds)
        order = np.lexsort((positions, -_steps(sizes, SIZE_STEP) if costs is None else -_steps(costs, SECONDS_STEP)))
        self._order = positions[order]
        self._next = 0
        self._turn = 0.0
        """From 0 to 1: how long the next batch is to be, of those that `BATCH_SPREAD` allows."""
        self._byte_sums = _sums(sizes[order]) if rule.size_bytes is not None else None
        self._costs = None if costs is None else _Costs(positions, costs, order)
        self._retry: list[tuple[int, ...]] = []
        self._retry_datums = 0
        self._alone: list[int] = []
        self._deaths: dict[int, int] = {}
        self._leases: dict[LeaseId, Lease] = {}
        self._holders: dict[int, set[LeaseId]] = {}
        self._needless: list[LeaseId] = []
        self._rule = rule
        self._measured_seconds = 0.0
        self._measured_datums = 0
        self._prior_seconds = seconds_per_datum

    # ---- what there is -------------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        """Datums that no worker holds."""
        return len(self._order) - self._next + self._retry_datums + len(self._alone)

    @property
    def next_alone(self) -> bool:
        """Whether the next batch is a datum that is to run with nothing beside it, since memory was short when it ran before."""
        return bool(self._alone) and not self._retry and self._next >= len(self._order)

    @property
    def leases(self) -> Sequence[Lease]:
        return tuple(self._leases.values())

    def waiting(self) -> list[int]:
        """Datums that no worker holds, in no order; O(their number)."""
        retried = (datum for piece in self._retry for datum in piece)
        return [*self._order[self._next :].tolist(), *retried, *self._alone]

    def coming(self, most: int) -> list[int]:
        """So many of the datums that are to be handed out next, as far as is known now."""
        datums: list[int] = self._order[self._next : self._next + most].tolist()
        return datums

    def lease(self, id: LeaseId) -> Lease | None:
        return self._leases.get(id)

    @property
    def leased(self) -> int:
        """Datums in the hands of workers; one that two of them hold counts twice. Costs a look at every lease."""
        return sum(len(lease.datums) - len(lease.reported) for lease in self._leases.values())

    def running_seconds(self, now: float) -> float | None:
        """How long the datum runs, of those at work, that began first; None where none does. Costs a look at every lease."""
        return max((now - lease.since for lease in self._leases.values()), default=None)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is leased."""
        return not self._leases and self.remaining == 0

    def seconds_per_datum(self) -> float | None:
        """Mean worker seconds of a datum, measured in this job, else as known from an earlier one."""
        if self._measured_datums:
            return self._measured_seconds / self._measured_datums
        return self._prior_seconds

    # ---- handing out ---------------------------------------------------------------------------------------

    def carve(self, lease: LeaseId, *, workers: int, now: float, lease_seconds: float) -> Lease | None:
        """Take the next datums for one of `workers` workers; None when none waits."""
        if self._retry:
            datums = heapq.heappop(self._retry)
            self._retry_datums -= len(datums)
        elif self._next < len(self._order):
            size = self._size(max(1, workers))
            datums = tuple(self._order[self._next : self._next + size].tolist())
            self._next += len(datums)
        elif self._alone:
            datums = (self._alone.pop(0),)
        else:
            return None
        return self._grant(lease, datums, now=now, lease_seconds=lease_seconds)

    def bring_forward(self, rank: Callable[[np.ndarray], np.ndarray]) -> None:
        """Let the next datums with the lowest rank come first: as many as one look at, and none that costs half of what another does,
        so that expensive ones go first still. rank: of datums, by position in the plan."""
        first = self._next
        end = min(len(self._order), first + PLACED_TOGETHER)
        if self._costs is not None:
            end = self._costs.alike(first, end)
        if end - first < 2:
            return
        ranks = rank(self._order[first:end])
        if (ranks[1:] >= ranks[:-1]).all():
            return
        order = np.argsort(ranks, kind="stable")
        self._order[first:end] = self._order[first:end][order]
        for sums in (self._byte_sums, None if self._costs is None else self._costs.sums):
            if sums is not None:
                sums[first + 1 : end + 1] = sums[first] + np.cumsum(np.diff(sums[first : end + 1])[order])

    def rescues(self, *, now: float, most: int) -> list[Rescue]:
        """What idle workers could take over while nothing waits, most worthwhile first, at most one of each lease.

        Costs one look at every lease, so call it a few times a second at most.
        """
        found = [each for lease in self._leases.values() if (each := self._rescue(lease, now)) is not None]
        return heapq.nlargest(most, found, key=lambda each: each.seconds)

    def adopt(self, lease: Lease, datums: Sequence[int]) -> None:
        """Take over a lease of another plan of the same job. datums: where its datums stand here, NOWHERE for those that are not
        wanted any more; they must not wait here."""
        nowhere = {NOWHERE} if NOWHERE in datums else set()
        self._leases[lease.id] = replace(lease, datums=tuple(datums), reported=nowhere)

    def take_over(self, rescue: Rescue, lease: LeaseId, *, now: float, lease_seconds: float) -> Lease:
        """Lease the rescued datums a second time. Whichever lease reports a datum first has it accepted."""
        if rescue.keep is not None:
            self._leases[rescue.victim].keep = rescue.keep
        for datum in rescue.datums:
            self._holders.setdefault(datum, {rescue.victim}).add(lease)
        return self._grant(lease, rescue.datums, now=now, lease_seconds=lease_seconds)

    # ---- what workers say ----------------------------------------------------------------------------------

    def renew(
        self, lease: LeaseId, *, now: float, lease_seconds: float, done: int = 0, running_seconds: float = 0.0
    ) -> bool:
        """Whether the lease is current; if so it lives on. done: of its datums, for the heartbeat of one that runs."""
        current = self._leases.get(lease)
        if current is None:
            return False
        current.expires = now + lease_seconds
        if done > current.done:
            current.done = min(done, len(current.datums))
            elapsed = running_seconds if math.isfinite(running_seconds) and running_seconds > 0 else 0.0
            current.since = max(current.started, now - elapsed)
        return True

    def acceptable(self, lease: LeaseId, datums: Sequence[int]) -> list[int]:
        """Of the datums that a lease reports, those whose results count; none if the lease is not current."""
        current = self._leases.get(lease)
        if current is None:
            return []
        if not current.reported and current.datums == datums:
            return list(current.datums)
        expected = set(current.datums) - current.reported
        return [datum for datum in dict.fromkeys(datums) if datum in expected]

    def report(
        self,
        lease: LeaseId,
        datums: Sequence[int],
        *,
        seconds: float,
        final: bool,
        now: float | None = None,
        starved: Collection[int] = (),
    ) -> Sequence[int] | None:
        """Accept results, each datum once. Returns the accepted ones; None if the lease is not current (nothing is accepted).

        seconds: what they took, as the worker says; no more of it is believed than has passed since the lease began.
        starved: datums that ended for want of memory, and wait to run alone.
        """
        current = self._leases.get(lease)
        if current is None:
            return None
        accepted = self.acceptable(lease, datums)
        current.reported.update(accepted)
        for datum in accepted if self._holders else ():
            for other in self._holders.pop(datum, {lease}) - {lease}:
                held = self._leases[other]
                held.reported.add(datum)
                if len(held.reported) == len(held.datums):
                    self._needless.append(other)
        self._measure(current, accepted, seconds, now)
        if final:
            del self._leases[lease]
            orphans = self._orphans(current)
            self._alone += [datum for datum in orphans if datum in starved]
            self._wait_again([datum for datum in orphans if datum not in starved], pieces=RETRY_PIECES)
        return accepted

    def drop_needless(self) -> list[LeaseId]:
        """End the leases whose last datum another one has reported; what they still do is for nothing."""
        found = [lease for lease in self._needless if self._leases.pop(lease, None) is not None]
        self._needless.clear()
        return found

    def lose(self, lease: LeaseId, *, died: bool, starved: bool = False) -> Sequence[int]:
        """The lease's worker is gone or silent: what it did not report waits again, in smaller batches.

        With `died`, a datum that was alone in its batch counts as the suspect; returns those that thereby died `DEATHS_MAX`
        times (they wait no longer: the caller fails them). With `starved` (it died for want of memory) it waits to run alone.
        """
        current = self._leases.pop(lease, None)
        if current is None:
            return ()
        orphans = self._orphans(current)
        doomed: list[int] = []
        if died and len(current.datums) == 1:
            for datum in orphans:
                self._deaths[datum] = self._deaths.get(datum, 0) + 1
                if self._deaths[datum] >= DEATHS_MAX:
                    doomed.append(datum)
        again = [datum for datum in orphans if datum not in doomed]
        if starved and len(current.datums) == 1:
            self._alone += again
        else:
            self._wait_again(again, pieces=RETRY_PIECES)
        return doomed

    def expired(self, now: float) -> Sequence[Lease]:
        return [lease for lease in self._leases.values() if lease.expires <= now]

    def clear(self) -> None:
        """Forget all that waits or is leased (the job was killed)."""
        self._order = np.zeros(0, np.int64)
        self._next = 0
        self._retry.clear()
        self._retry_datums = 0
        self._alone.clear()
        self._leases.clear()
        self._holders.clear()
        self._needless.clear()

    # ---- inside --------------------------------------------------------------------------------------------

    def _grant(self, id: LeaseId, datums: tuple[int, ...], *, now: float, lease_seconds: float) -> Lease:
        taken = Lease(id, datums, expires=now + lease_seconds, started=now, since=now, keep=len(datums))
        self._leases[id] = taken
        return taken

    def _orphans(self, ended: Lease) -> list[int]:
        """What an ended lease leaves unreported and no other lease holds."""
        orphans: list[int] = []
        if len(ended.reported) == len(ended.datums):
            return orphans
        for datum in ended.missing():
            holders = self._holders.get(datum)
            if holders is None:
                orphans.append(datum)
                continue
            holders.discard(ended.id)
            if len(holders) == 1:
                del self._holders[datum]
        return orphans

    def _wait_again(self, datums: Sequence[int], *, pieces: int) -> None:
        length = max(1, len(datums) // pieces)
        for first in range(0, len(datums), length):
            heapq.heappush(self._retry, tuple(datums[first : first + length]))
        self._retry_datums += len(datums)

    def _measure(self, lease: Lease, accepted: Sequence[int], seconds: float, now: float | None) -> None:
        if not math.isfinite(seconds) or seconds < 0:
            return
        believed = seconds if now is None else min(seconds, max(0.0, now - lease.started))
        self._measured_seconds += believed
        self._measured_datums += len(accepted)
        if self._costs is not None:
            self._costs.measure(accepted, believed)

    def _expected(self, datums: Iterable[int]) -> float:
        """Seconds that these datums are expected to take; 0 while nothing is known."""
        chosen = list(datums)
        if self._costs is not None:
            return self._costs.seconds_of(chosen)
        return len(chosen) * (self.seconds_per_datum() or 0.0)

    def _rescue(self, lease: Lease, now: float) -> Rescue | None:
        begun = max(lease.done, sum(1 for _ in _leading(lease)))
        rest = [
            datum
            for datum in lease.datums[begun + 1 : lease.keep]
            if datum not in lease.reported and datum not in self._holders
        ]
        if rest:
            tail = tuple(rest[len(rest) // 2 :])
            worth = self._expected(rest) + max(0.0, now - lease.since)
            keep = lease.datums.index(tail[0])
            return Rescue(lease.id, tail, keep, worth) if worth >= STEAL_SECONDS else None
        if begun >= len(lease.datums):
            return None
        running = lease.datums[begun]
        elapsed = now - lease.since
        late = elapsed >= max(STRAGGLER_SECONDS, STRAGGLER_FACTOR * self._expected([running]))
        if not late or running in lease.reported or running in self._holders:
            return None
        return Rescue(lease.id, (running,), None, elapsed)

    def _size(self, workers: int) -> int:
        left = len(self._order) - self._next
        number = self._rule.number or left
        if self._byte_sums is not None and self._rule.size_bytes is not None:
            return min(number, _reach(self._byte_sums, self._next, self._rule.size_bytes))
        if self._rule.number is not None:
            return number
        aim = self._aim(workers)
        if self._costs is not None:
            return max(1, min(self._costs.reach(self._next, aim, workers), BATCH_DATUMS_MAX))
        share = max(1, left // (2 * workers))
        cost = self.seconds_per_datum()
        wanted = PROBE_DATUMS if cost is None else int(aim / max(cost, 1e-6))
        return max(1, min(share, wanted, BATCH_DATUMS_MAX))

    def _aim(self, workers: int) -> float:
        """Seconds of the next batch. Turns go by the golden ratio, so that however many follow each other are spread evenly."""
        seconds = batch_seconds(workers)
        if seconds <= BATCH_SECONDS:
            return seconds
        self._turn = (self._turn + _GOLDEN) % 1.0
        return seconds * (1 + BATCH_SPREAD * (2 * self._turn - 1))


class _Costs:
    """Seconds of each datum in an earlier job, and how much slower or faster this one runs."""

    def __init__(self, positions: np.ndarray, seconds: np.ndarray, order: np.ndarray) -> None:
        """order: of handing out, as indexes of `positions`."""
        self.sums = _sums(seconds[order])
        self._by_position = np.zeros(int(positions.max()) + 1 if len(positions) else 0)
        self._by_position[positions] = seconds
        self._believed = 0.0
        self._measured = 0.0

    @property
    def scale(self) -> float:
        return self._measured / self._believed if self._believed > 0 and self._measured > 0 else 1.0

    def measure(self, datums: Sequence[int], seconds: float) -> None:
        self._measured += seconds
        self._believed += float(self._by_position[list(datums)].sum())

    def seconds_of(self, datums: Sequence[int]) -> float:
        return float(self._by_position[list(datums)].sum()) * self.scale

    def alike(self, start: int, end: int) -> int:
        """Where, before `end`, the datums end that last at least half as long as the first."""
        costs = np.diff(self.sums[start : end + 1])
        shorter = np.flatnonzero(costs < costs[:1] / 2)
        return start + int(shorter[0]) if len(shorter) else end

    def reach(self, start: int, aim: float, workers: int) -> int:
        """How many datums from `start` on last about `aim` seconds, or half of a worker's share of what is left."""
        left = float(self.sums[-1] - self.sums[start]) * self.scale
        return _reach(self.sums, start, min(aim, left / (2 * workers)) / self.scale)


def _steps(costs: np.ndarray, step: float) -> np.ndarray:
    whole: np.ndarray = np.floor(costs / step)
    return whole


def _known_costs(seconds: np.ndarray | None) -> np.ndarray | None:
    """Seconds with the mean in place of what is unknown; None if nothing is known."""
    if seconds is None:
        return None
    known = np.isfinite(seconds) & (seconds > 0)
    if not known.any():
        return None
    filled: np.ndarray = np.where(known, seconds, seconds[known].mean())
    return filled


def _sums(values: np.ndarray) -> np.ndarray:
    """Running totals, with the zero before the first."""
    totals: np.ndarray = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
    return totals


def _reach(sums: np.ndarray, start: int, budget: float) -> int:
    """How many values from `start` on stay within `budget` together; at least one."""
    return max(1, int(np.searchsorted(sums, sums[start] + budget, side="right")) - 1 - start)


def _leading(lease: Lease) -> Iterator[int]:
    """The datums at the start of a lease that were reported."""
    for datum in lease.datums:
        if datum not in lease.reported:
            return
        yield datum
