"""Flow: datums of a job that are computed before the job's inputs are finished (design note 028).

While an upstream job is at work, the outputs of those of its datums that have ended are final: if the job ends well, its commit
has them exactly so. A job downstream is planned over that part of its input, and the datums that this gives are offered to
workers that nothing else needs. What they report is kept as accepted batches of the downstream job, as if its scheduler had died
after it took them: when the inputs are finished, the job is planned for real, and takes them up. If upstream fails, the
downstream job is unrunnable, and its results go into the cache. No reader sees anything of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from paddock.catalog import commits as commits_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import PaddockError
from paddock.model.records import CommitState
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.models import Input, PipelineSpec
from paddock.runtime import job_steps
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.job_facts import job_facts, spec_of, version_of
from paddock.runtime.outputs import BatchResults, merge_outputs
from paddock.runtime.plan import InputCommit
from paddock.runtime.plan_request import Place, place_of
from paddock.versions.home import Home
from paddock.versions.locks import Lock

AFTER_SECONDS = 0.25
"""Upstream jobs that end sooner are waited for: to plan twice would cost more than it brings."""
PLAN_SECONDS = 0.1
"""A job is planned early so often at most."""
PLAN_SHARE = 10
"""And so that planning takes one part in so many of the time."""


@dataclass(slots=True)
class _Waiting:
    """A job whose inputs are not finished. upstream: ids of the commits that it reads; None: not looked up yet.

    progress: of the upstream jobs, when it was last planned. next_plan: when it may be planned again. blocked: it can't be planned early.
    """

    row: JobRow
    upstream: Sequence[int] | None = None
    progress: Sequence[tuple[int, int]] = ()
    next_plan: float = 0.0
    blocked: bool = False


@dataclass(slots=True)
class EarlyWork:
    """The jobs that wait for their inputs, and the early plans of some of them. Owned by the scheduler; one thread."""

    home: Home
    workers: int
    monotonic: Callable[[], float]
    now: Callable[[], float]
    jobs: dict[int, ActiveJob] = field(default_factory=dict)
    """Jobs with an early plan, by row id."""
    _waiting: dict[int, _Waiting] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        """Datums that no worker holds."""
        return sum(job.dispatch.remaining for job in self.jobs.values())

    @property
    def expects(self) -> bool:
        """Whether there are jobs that wait for their inputs."""
        return bool(self._waiting)

    def expect(self, rows: Sequence[JobRow]) -> None:
        """Say which jobs wait for their inputs now, upstream first. Those that were taken or have ended are forgotten by the caller."""
        known = self._waiting
        self._waiting = {}
        for row in rows:
            self._waiting[row.id] = known.get(row.id) or _Waiting(row)

    def block(self, id: int) -> None:
        """Plan a job no more before its inputs are finished."""
        if id in self._waiting:
            self._waiting[id].blocked = True

    def plan(self, active: Mapping[int, ActiveJob]) -> list[tuple[ActiveJob | None, ActiveJob]]:
        """Plan those jobs early for which that may bring something; (the plan before it, the new one) of each.

        active: the jobs at work. Cost: nothing where no upstream job got on since the last call, else a plan of a part of the input.
        """
        planned: list[tuple[ActiveJob | None, ActiveJob]] = []
        if not any(self.now() - job.started >= AFTER_SECONDS and job.outcomes.ended for job in active.values()):
            return planned
        at_work = {job.row.commit_id: job for job in active.values() if not job.failures}
        for waiting in self._waiting.values():
            early = self.jobs.get(waiting.row.id)
            if waiting.upstream is None:
                self._look_at(waiting)
            upstream = [at_work[id] for id in waiting.upstream or () if id in at_work]
            if self._worth(waiting, early, upstream):
                new = self._plan(waiting, early, at_work)
                if new is not None:
                    planned.append((early, new))
                    self.jobs[waiting.row.id] = early = new
            if early is not None and not early.failures:
                at_work[waiting.row.commit_id] = early
        return planned

    # ---- inside --------------------------------------------------------------------------------------------

    def _look_at(self, waiting: _Waiting) -> None:
        row = waiting.row
        with self.home.catalog.read() as tx:
            if not jobs_sql.exists(tx, row.id):
                waiting.blocked = True  # deleted with its pipeline, which the scheduler notices at its next look
                return
            upstream = [each.upstream_id for each in commits_sql.provenance(tx, [row.commit_id])]
            waiting.blocked = waiting.blocked or not flows(spec_of(version_of(tx, row.pipeline_id, row.version)))
        waiting.upstream = [id for id in upstream if id is not None]

    def _worth(self, waiting: _Waiting, early: ActiveJob | None, upstream: Sequence[ActiveJob]) -> bool:
        if waiting.blocked or not upstream or self.monotonic() < waiting.next_plan:
            return False
        if early is not None and (early.failures or early.dispatch.remaining):
            # A datum that failed is tried again when the inputs are finished, and not with each plan before.
            return False
        if all(_ends_now(job) or self.now() - job.started < AFTER_SECONDS for job in upstream):
            return False
        progress = [(job.row.id, job.outcomes.ended) for job in upstream]
        if not any(ended for _, ended in progress) or progress == waiting.progress:
            return False
        waiting.progress = progress
        return True

    def _plan(self, waiting: _Waiting, early: ActiveJob | None, at_work: Mapping[int, ActiveJob]) -> ActiveJob | None:
        began = self.monotonic()
        try:
            return self._planned(waiting.row, early, at_work)
        except PaddockError:
            # Whatever is wrong will be said by the job that it is wrong with; this one is planned when its inputs are finished.
            waiting.blocked = True
            return None
        finally:
            took = self.monotonic() - began
            waiting.next_plan = self.monotonic() + max(PLAN_SECONDS, PLAN_SHARE * took)

    def _planned(self, row: JobRow, early: ActiveJob | None, at_work: Mapping[int, ActiveJob]) -> ActiveJob | None:
        pin = self.home.pin() if early is None else early.pin
        planned: ActiveJob | None = None
        try:
            planned = self._planned_under(pin, row, early, at_work)
        finally:
            if planned is None and early is None:
                pin.release()
        return planned

    def _planned_under(
        self, pin: Lock, row: JobRow, early: ActiveJob | None, at_work: Mapping[int, ActiveJob]
    ) -> ActiveJob | None:
        facts = job_facts(self.home, row)
        partial = self._partial_inputs(row, at_work)
        if partial is None:
            return None
        facts.inputs.update(partial)
        leaves = {leaf.index for leaf in leaves_of(facts.spec) if place_of(leaf) in partial}
        return job_steps.start_early(
            self.home, row, facts, pin=pin, partial=leaves, previous=early, workers=self.workers, now=self.now()
        )

    def _partial_inputs(self, row: JobRow, at_work: Mapping[int, ActiveJob]) -> dict[Place, InputCommit] | None:
        """The part that is final of each input that is not finished; None where nothing is known of one of them."""
        found: dict[Place, InputCommit] = {}
        with self.home.catalog.read() as tx:
            edges = commits_sql.provenance(tx, [row.commit_id])
            commits = [(each, commits_sql.get(tx, each.upstream_id)) for each in edges if each.upstream_id is not None]
        with self.home.chunks.writer() as writer:
            for edge, commit in commits:
                if commit.state == CommitState.FINISHED:
                    continue
                upstream = at_work.get(commit.id)
                if upstream is None:
                    return None
                tree = merge_outputs(self.home, upstream.plan, BatchResults(self.home), writer)
                found[edge.project, edge.repo, edge.branch] = InputCommit(commit.set_id, tree, computed=True)
            writer.flush()
        return found


def _ends_now(job: ActiveJob) -> bool:
    """Whether all datums of a job at work have ended: its output is as good as there."""
    return not job.early and job.dispatch.idle


def flows(spec: PipelineSpec) -> bool:
    """Whether datums of a pipeline may be final while its inputs still grow: a group's are not, nor what an outer join leaves over."""
    return spec.flow and not _grows(spec.input) and not any(leaf.outer_join for leaf in leaves_of(spec))


def _grows(node: Input) -> bool:
    return node.group is not None or any(_grows(child) for child in node.children)
