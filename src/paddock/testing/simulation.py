"""Simulated workers for the real scheduler, on a virtual clock and a real home: slow, hanging, dying, lying ones.

Everything follows from one seed, so a run that fails can be had again. Worker processes are the only thing that is not
real: reports are written to the object store and accepted in the catalog as ever.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from paddock.model.ids import Digest
from paddock.model.records import DatumState
from paddock.runtime.batch_format import DatumOutcome, OutputFile
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.engine import OWN_PLACE, Place, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.protocol import (
    BatchReport,
    BatchTask,
    Cancel,
    Claim,
    DatumResult,
    DatumTask,
    Down,
    Heartbeat,
    Ready,
    TransformTask,
    Trim,
    Up,
)
from paddock.runtime.report_writer import ReportWriter
from paddock.storage.chunks import read_chunk
from paddock.versions.home import Home

HEARTBEAT_SECONDS = 1.0
REPORT_SECONDS = 2.0
LOST_REPORTS = 2
DEATHS_OF_A_DATUM = 2
"""One less than what makes the scheduler give a report or a datum up: those would be failures, and these are not."""


class Clock:
    """Seconds that pass only when someone waits."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each mishap is: `crash`, `hang`, `lose` and `lie` for each datum or report; `repeat` and `late` for each
    report; `slow` for each worker; `start` for each start of a worker.
    """

    crash: float = 0.0
    hang: float = 0.0
    lose: float = 0.0
    lie: float = 0.0
    repeat: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    start: float = 0.0


NO_FAULTS = Faults()


@dataclass(slots=True)
class _Worker:
    id: WorkerId
    speed: float
    alive: bool = True
    hung: bool = False
    claimed: bool = False
    batches: list[BatchTask] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    keep: dict[str, int] = field(default_factory=dict)
    transforms: dict[str, TransformTask] = field(default_factory=dict)
    running: BatchTask | None = None
    done: int = 0
    unreported: list[int] = field(default_factory=list)
    part_began: float = 0.0
    datum_began: float = 0.0
    last_arrival: float = 0.0
    last_sending: float = 0.0


class SimulatedEngine:
    """An `Engine` whose workers live on `clock`. `trace` lists what happened; equal seeds give equal traces."""

    def __init__(
        self, home: Home, clock: Clock, random: Random, *, datum_seconds: Callable[[DatumTask], float]
    ) -> None:
        self.faults = NO_FAULTS
        self.trace: list[tuple[float, str, int, int]] = []
        self.holders: dict[str, WorkerId] = {}
        """The worker that each lease was sent to."""
        self._home = home
        self._clock = clock
        self._random = random
        self._datum_seconds = datum_seconds
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._workers: dict[WorkerId, _Worker] = {}
        self._events: list[WorkerEvent] = []
        self._next = 0
        self._lost = 0
        self._deaths: Counter[str] = Counter()
        self._failed_starts = 0

    # ---- what the scheduler asks ---------------------------------------------------------------------------

    def scale(self, workers: int) -> None:
        while len(self._workers) < workers:
            slow = self._happens(self.faults.slow)
            worker = _Worker(WorkerId(self._next), self._random.choice((0.05, 0.2, 3.0)) if slow else 1.0)
            self._next += 1
            self._workers[worker.id] = worker
            if self._happens(self.faults.start) and self._failed_starts < 1:
                self._failed_starts += 1
                self._later(0.1, lambda worker=worker: self._die(worker, "did not start"))  # type: ignore[misc]
            else:
                self._later(0.1, lambda worker=worker: self._ready(worker))  # type: ignore[misc]

    def workers(self) -> Sequence[WorkerId]:
        return tuple(self._workers)

    def send(self, worker: WorkerId, message: Down) -> None:
        if isinstance(message, BatchTask):
            holder = self.holders.setdefault(message.lease, worker)
            assert holder == worker, f"lease {message.lease} is held by {holder}, and was given to {worker} too"
        found = self._workers.get(worker)
        if found is not None:
            found.last_sending = max(self._clock.now + self._delay(), found.last_sending)
            self._later(found.last_sending - self._clock.now, lambda: self._receive(found, message))

    def place(self, worker: WorkerId) -> Place:
        return OWN_PLACE

    def machines(self) -> Mapping[Place, Capacity]:
        return {}

    def flush(self) -> None:
        pass

    def kill(self, worker: WorkerId) -> None:
        found = self._workers.get(worker)
        if found is not None:
            self._die(found, "was killed")

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        deadline = self._clock.now + timeout_seconds
        while not self._events and self._queue and self._queue[0][0] <= deadline:
            self._clock.now, _, happen = heapq.heappop(self._queue)
            happen()
        if not self._events:
            self._clock.now = max(self._clock.now, deadline)
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        self._workers.clear()
        self._queue.clear()
        self._events.clear()

    # ---- what happens --------------------------------------------------------------------------------------

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self._clock.now + seconds, self._sequence, happen))

    def _happens(self, likelihood: float) -> bool:
        return likelihood > 0 and self._random.random() < likelihood

    def _delay(self) -> float:
        return self._random.random() * 0.05

    def _say(self, worker: _Worker, message: Up, *, extra: float = 0.0) -> None:
        """Deliver a message after the others of this worker; with `extra`, so much later and out of order."""
        arrival = max(self._clock.now + self._delay(), worker.last_arrival)
        if not extra:
            worker.last_arrival = arrival
        self._later(arrival + extra - self._clock.now, lambda: self._events.append(WorkerMessage(worker.id, message)))

    def _ready(self, worker: _Worker) -> None:
        self._say(worker, Ready(int(worker.id), "none", ""))
        self._claim(worker)

    def _claim(self, worker: _Worker) -> None:
        if not worker.claimed:
            worker.claimed = True
            self._say(worker, Claim())

    def _die(self, worker: _Worker, reason: str) -> None:
        if worker.alive:
            worker.alive = False
            self._note("gone", worker, 0)
            del self._workers[worker.id]
            gone = WorkerGone(worker.id, f"simulated worker {worker.id} {reason}")
            self._later(max(0.0, worker.last_arrival - self._clock.now), lambda: self._events.append(gone))

    def _note(self, what: str, worker: _Worker, count: int) -> None:
        self.trace.append((round(self._clock.now, 6), what, int(worker.id), count))

    def _receive(self, worker: _Worker, message: Down) -> None:
        if not worker.alive:
            return
        match message:
            case TransformTask():
                worker.transforms[message.id] = message
            case BatchTask():
                worker.claimed = False
                worker.batches.append(message)
                self._note("batch", worker, len(message.datums))
                if worker.running is None:
                    self._begin(worker)
            case Cancel():
                self._note("cancel", worker, 0)
                worker.cancelled.add(message.lease)
            case Trim():
                self._note("trim", worker, message.keep)
                worker.keep[message.lease] = min(message.keep, worker.keep.get(message.lease, message.keep))
            case _:
                raise AssertionError(f"the scheduler does not send {message}")

    def _begin(self, worker: _Worker) -> None:
        worker.running = worker.batches.pop(0) if worker.batches else None
        if worker.running is None:
            self._claim(worker)
            return
        worker.done, worker.unreported, worker.part_began = 0, [], self._clock.now
        self._beat(worker, worker.running)
        self._next_datum(worker)

    def _beat(self, worker: _Worker, batch: BatchTask) -> None:
        if worker.alive and not worker.hung and worker.running is batch:
            running = self._clock.now - worker.datum_began
            self._say(worker, Heartbeat(batch.lease, worker.done, 0, "", running))
            self._later(HEARTBEAT_SECONDS, lambda: self._beat(worker, batch))

    def _next_datum(self, worker: _Worker) -> None:
        batch = worker.running
        assert batch is not None, "a worker goes on only within a batch"
        end = min(len(batch.datums), worker.keep.get(batch.lease, len(batch.datums)))
        if worker.done >= end or batch.lease in worker.cancelled:
            self._end_batch(worker, batch)
            return
        datum = batch.datums[worker.done]
        worker.datum_began = self._clock.now
        if self._happens(self.faults.hang):
            worker.hung = True
            self._note("hang", worker, 0)
            return
        alone = len(batch.datums) == 1
        if self._happens(self.faults.crash) and not (alone and self._deaths[datum.id] >= DEATHS_OF_A_DATUM):
            self._deaths[datum.id] += alone
            self._later(self._random.random(), lambda: self._die(worker, "crashed"))
            return
        self._later(self._datum_seconds(datum) / worker.speed, lambda: self._datum_ended(worker))

    def _datum_ended(self, worker: _Worker) -> None:
        if not worker.alive or worker.running is None:
            return
        worker.unreported.append(worker.done)
        worker.done += 1
        if self._clock.now - worker.part_began > REPORT_SECONDS and worker.done < len(worker.running.datums):
            self._report(worker, worker.running, final=False)
        self._next_datum(worker)

    def _end_batch(self, worker: _Worker, batch: BatchTask) -> None:
        self._claim(worker)
        self._report(worker, batch, final=True)
        worker.running = None
        self._begin(worker)

    def _report(self, worker: _Worker, batch: BatchTask, *, final: bool) -> None:
        positions, worker.unreported, worker.part_began = worker.unreported, [], self._clock.now
        if self._happens(self.faults.lose) and self._lost < LOST_REPORTS:
            self._lost += 1
            lost = BatchReport(batch.lease, True, None, (), (), error_code="unavailable", error="simulated")
            self._say(worker, lost)
            worker.cancelled.add(batch.lease)
            return
        report = self._write(worker, batch, positions, final=final)
        self._note("report", worker, len(positions))
        self._say(worker, report, extra=self._random.random() * 90 if self._happens(self.faults.late) else 0.0)
        if self._happens(self.faults.repeat):
            self._say(worker, report, extra=self._random.random() * 4)

    def _write(self, worker: _Worker, batch: BatchTask, positions: Sequence[int], *, final: bool) -> BatchReport:
        if not positions:
            return BatchReport(batch.lease, final, None, (), ())
        writer = ReportWriter(self._home.objects, {}, chunking=self._home.chunking)
        results = []
        for position in positions:
            datum = batch.datums[position]
            outcome = self._outcome(worker.transforms[batch.transform], datum, writer)
            row = writer.add(outcome)
            results.append(DatumResult(position, row, outcome.state, self._seconds(datum)))
        digest, packs = writer.finish(batch.job, batch.transform)
        return BatchReport(batch.lease, final, digest, tuple(results), packs)

    def _seconds(self, datum: DatumTask) -> float:
        if self._happens(self.faults.lie):
            return self._random.choice((-5.0, math.inf, math.nan, 0.0, 1e9))
        return self._datum_seconds(datum)

    def _outcome(self, transform: TransformTask, datum: DatumTask, writer: ReportWriter) -> DatumOutcome:
        inputs = {
            (file.path if len(datum.inputs) == 1 else f"/{each.name}{file.path}"): b"".join(
                read_chunk(self._home.objects, digest, at) for digest, at in file.chunks
            )
            for each in datum.inputs
            for file in each.files
        }
        files = tuple(
            OutputFile(path, len(content), Digest(writer.writer.put(content)), False, ())
            for path, content in outputs_of(transform.pipeline, inputs).items()
        )
        return DatumOutcome(datum.id, datum.key, DatumState.SUCCESS, 0, "", "", 1, 0.0, files, b"")


def outputs_of(pipeline: str, inputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the simulated user code of a pipeline makes of a datum: one file, named and filled by its inputs.

    inputs: by path; of a datum of several inputs, by the input's name and the path.
    """
    text = hashlib.sha256(repr((pipeline, sorted(inputs.items()))).encode()).hexdigest()
    return {"/all" if pipeline == "whole" else min(inputs): text.encode()}
