"""One job at work, as its scheduler holds it: the plan, what is handed out, what came back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paddock.catalog.jobs import JobRow
from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.records import DatumCounts, DatumState
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.audit import Audit
from paddock.runtime.dispatch import BatchRule, Dispatch
from paddock.runtime.placement import Owners
from paddock.runtime.plan import RUN, Integers, Plan
from paddock.runtime.protocol import BatchReport, TransformTask
from paddock.runtime.resources import Need
from paddock.runtime.result_cache import decoded
from paddock.runtime.tasks import TaskBuilder
from paddock.versions.locks import Lock


class Failures:
    """Which datums failed and why: all are counted, the first by position are kept. Memory: `KEPT` reasons."""

    KEPT: Final = 100

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[tuple[int, str]] = []
        """A heap of (-position, reason)."""

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, position: int, reason: str) -> None:
        self.count += 1
        heapq.heappush(self._kept, (-position, reason))
        if len(self._kept) > self.KEPT:
            heapq.heappop(self._kept)

    def first(self) -> list[tuple[int, str]]:
        """(position, reason), by position."""
        return sorted((-position, reason) for position, reason in self._kept)


class Outcomes:
    """How each datum that ran has ended, by position in the plan. One byte a datum; counts are kept as they come."""

    _CODES: Final = (None, DatumState.SUCCESS, DatumState.RECOVERED, DatumState.FAILED)

    def __init__(self, count: int) -> None:
        self._states = np.zeros(count, np.uint8)
        self._counts = [count, 0, 0, 0]

    def set(self, position: int, state: DatumState) -> None:
        code = self._CODES.index(state)
        self._counts[self._states[position]] -= 1
        self._counts[code] += 1
        self._states[position] = code

    def succeed(self, positions: Integers) -> None:
        """Set many, none of which is among them twice."""
        before = np.bincount(self._states[positions], minlength=len(self._CODES)).tolist()
        self._counts = [count - gone for count, gone in zip(self._counts, before, strict=True)]
        code = self._CODES.index(DatumState.SUCCESS)
        self._counts[code] += len(positions)
        self._states[positions] = code

    def count(self, state: DatumState) -> int:
        return self._counts[self._CODES.index(state)]

    @property
    def ended(self) -> int:
        """Datums that have ended, however."""
        return len(self._states) - self._counts[0]

    def positions(self, state: DatumState | None = None) -> Integers:
        """Of the datums that ended, or that ended so; ascending."""
        chosen = self._states != 0 if state is None else self._states == self._CODES.index(state)
        return np.flatnonzero(chosen)


@dataclass(slots=True)
class ActiveJob:
    row: JobRow
    spec: PipelineSpec
    transform: Digest
    plan: Plan
    dispatch: Dispatch
    tasks: TaskBuilder
    transform_task: TransformTask
    started: float
    outcomes: Outcomes
    audit: Audit
    pin: Lock
    """Keeps what the plan refers to, and what workers have stored and not yet reported."""
    need: Need
    """What each of its datums takes of the machine while it runs."""
    failures: Failures = field(default_factory=Failures)
    pool: str = ""
    """Whose workers serve it; empty until the scheduler has looked."""
    lost_reports: int = 0
    workers: int = 1
    """Most workers that it could have had at once up to now."""
    plan_seconds: float = 0.0
    table_written: bool = False
    early: bool = False
    """The plan is of a part of the input, before it is finished: no more than batches are written of the job."""
    taken_up: int = 0
    """Datums whose results were accepted, or that workers began, before this plan was made."""
    spare: list[pa.Table] = field(default_factory=list)
    """Results accepted before this plan was made that it has no use for, as rows of the cache's tables."""
    owners: Owners | None = None
    """Who has what its datums read, where several machines have anything."""
    read_by: npt.NDArray[np.int32] | None = None
    """Which machine has run each datum, and so has its input; -1: none of those that keep anything."""
    renewed: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    """Positions whose results were found in runs of the cache that are hardly used: the job's own run has them too."""

    @property
    def counts(self) -> DatumCounts:
        return DatumCounts(
            total=self.plan.total,
            run=self.outcomes.count(DatumState.SUCCESS),
            reused=self.plan.reused,
            recovered=self.outcomes.count(DatumState.RECOVERED),
            failed=self.outcomes.count(DatumState.FAILED),
        )

    @property
    def reads_outputs(self) -> bool:
        """Whether workers wrote any of its inputs."""
        return any(commit.computed for commit in self.plan.inputs)

    @property
    def workers_max(self) -> int | None:
        """Most workers that may serve the job at once; None: all."""
        return self.spec.parallelism_spec.constant

    def note_reader(self, positions: Sequence[int], machine: int) -> None:
        if self.read_by is None:
            self.read_by = np.full(len(self.plan), -1, np.int32)
        self.read_by[list(positions)] = machine

    def record(self, position: int, state: DatumState, *, batch: bytes, ordinal: int, job: bytes, reason: str) -> None:
        """Note how a datum ended and where its result lies. Of an audited one, beside the kept result."""
        if position in self.audit:
            self.audit.outcomes[position] = (batch, ordinal, state, reason)
            return
        self.outcomes.set(position, state)
        self.plan.results.set(position, batch, ordinal, job)
        self.plan.successes[position] = state is DatumState.SUCCESS
        if state is DatumState.FAILED:
            self.failures.add(position, reason)

    def record_report(self, report: BatchReport, datums: Sequence[int], *, job: bytes) -> None:
        """Note all that a report tells. datums: positions of the lease's datums in the plan."""
        batch = report.batch
        assert batch is not None, "a report of datums names its batch result"
        if len(self.audit.positions) or any(each.state is not DatumState.SUCCESS for each in report.datums):
            for each in report.datums:
                position = datums[each.position]
                self.record(position, each.state, batch=batch, ordinal=each.row, job=job, reason=each.reason)
            return
        positions = np.array([datums[each.position] for each in report.datums], np.int64)
        self.outcomes.succeed(positions)
        self.plan.results.set_many(positions, batch, np.array([each.row for each in report.datums], np.int32), job)
        self.plan.successes[positions] = True

    def successes(self) -> pa.Table:
        """What this job computed, or found and the cache is to keep, as rows of the cache's tables, in any order; columns may be dictionaries."""
        positions = np.concatenate([self.outcomes.positions(DatumState.SUCCESS), self.renewed])
        batch, ordinal, job = self.plan.results.columns(positions)
        keys = (
            self.plan.keys
            if self.outcomes.count(DatumState.SUCCESS) == len(self.plan)
            else self.plan.keys.take(positions)
        )
        own = pa.table({"key": keys.array(), "batch": batch, "ordinal": ordinal, "job": job})
        return pa.concat_tables([decoded(own), *self.spare]) if self.spare else own

    def failure_reason(self) -> str:
        """Why the job failed: the first datum by position with its input and reason, and how many more."""
        position, reason = self.failures.first()[0]
        more = self.failures.count - 1
        others = f"; {more} more {'datum' if more == 1 else 'datums'} failed" if more else ""
        return f"datum {self.plan.describe(position)} failed: {reason}{others}"


def batch_rule(spec: PipelineSpec, *, datums: int, workers: int) -> BatchRule:
    """What `datum_set_spec` asks for, given how many datums are to run."""
    wanted = spec.datum_set_spec
    if wanted.number is None and wanted.size_bytes is None and wanted.per_worker is not None:
        return BatchRule(number=max(1, datums // (workers * wanted.per_worker)))
    return BatchRule(wanted.number, wanted.size_bytes)


def waiting_positions(plan: Plan, outcomes: Outcomes) -> Integers:
    """Datums that are to run and have not ended."""
    waiting = plan.actions == RUN
    waiting[outcomes.positions()] = False
    return np.flatnonzero(waiting)
