"""One job at work, as its scheduler holds it: the plan, what is handed out, what came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from paddock.catalog.jobs import JobRow
from paddock.model.ids import Digest
from paddock.model.records import DatumCounts, DatumState
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.dispatch import BatchRule, Dispatch
from paddock.runtime.planner import RUN, Plan
from paddock.runtime.protocol import TransformTask
from paddock.runtime.tasks import TaskBuilder


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
    states: dict[int, DatumState] = field(default_factory=dict)
    """How each datum that ran has ended, by position."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    lost_reports: int = 0
    table_written: bool = False

    @property
    def counts(self) -> DatumCounts:
        ended = list(self.states.values())
        return DatumCounts(
            total=len(self.plan),
            run=ended.count(DatumState.SUCCESS),
            reused=int(np.count_nonzero(self.plan.actions != RUN)),
            recovered=ended.count(DatumState.RECOVERED),
            failed=ended.count(DatumState.FAILED),
        )

    @property
    def workers_max(self) -> int | None:
        """Most workers that may serve the job at once; None: all."""
        return self.spec.parallelism_spec.constant

    def record(self, position: int, state: DatumState, *, batch: bytes, ordinal: int, job: bytes, reason: str) -> None:
        """Note how a datum ended and where its result lies."""
        self.states[position] = state
        self.plan.batches[position], self.plan.ordinals[position], self.plan.jobs[position] = (
            batch,
            ordinal,
            job,
        )
        self.plan.successes[position] = state is DatumState.SUCCESS
        if state is DatumState.FAILED:
            self.failures.append((position, reason))

    def successes(self) -> list[tuple[bytes, bytes, int, bytes]]:
        """(key, batch, ordinal, job) of what this job computed and the cache may keep."""
        plan = self.plan
        return [
            (plan.keys[position], plan.batches[position], plan.ordinals[position], plan.jobs[position])
            for position, state in self.states.items()
            if state is DatumState.SUCCESS
        ]

    def failure_reason(self) -> str:
        """Why the job failed: the first datum by position with its input and reason, and how many more."""
        position, reason = min(self.failures)
        more = len(self.failures) - 1
        others = f"; {more} more {'datum' if more == 1 else 'datums'} failed" if more else ""
        return f"datum {self.plan.describe(position)} failed: {reason}{others}"


def batch_rule(spec: PipelineSpec, *, datums: int, workers: int) -> BatchRule:
    """What `datum_set_spec` asks for, given how many datums are to run."""
    wanted = spec.datum_set_spec
    if wanted.number is None and wanted.size_bytes is None and wanted.per_worker is not None:
        return BatchRule(number=max(1, datums // (workers * wanted.per_worker)))
    return BatchRule(wanted.number, wanted.size_bytes)


def waiting_positions(plan: Plan, ended: Sequence[int]) -> np.ndarray:
    """Datums that are to run and have not ended."""
    waiting = plan.actions == RUN
    waiting[list(ended)] = False
    return np.flatnonzero(waiting)
