"""What is needed of each pool: from the pipelines that there are, and from what the scheduler has to do. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from paddock.model.dataclass import dataclass
from paddock.model.records import EngineName
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.worker_pools import engine_of, worker_pool
from paddock.runtime.autoscale import Demand
from paddock.runtime.load import JobLoad

COOL_DOWN_SECONDS = 60.0
"""Longer than most pauses between a commit and the next, and no money to speak of."""


@dataclass(frozen=True, slots=True)
class Served:
    """A pipeline as it is now. stopped: it has no jobs, and so keeps no workers."""

    id: int
    spec: PipelineSpec
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class PoolNeed:
    """spec: of one of its pipelines; any of them gives equal workers. pipelines: their `project/name`. jobs: those at work."""

    name: str
    engine: EngineName
    spec: PipelineSpec
    pipelines: tuple[str, ...]
    jobs: tuple[JobLoad, ...]
    demand: Demand


def pool_needs(
    pipelines: Iterable[Served], jobs: Iterable[JobLoad], *, engine: EngineName, workers_max: int
) -> Mapping[str, PoolNeed]:
    """By name, all pools that a pipeline or a job has. engine: of specs that name none. workers_max: of pipelines that set no limit.

    A job of an older version of its pipeline may need another pool than the pipeline as it is now.
    """
    specs: defaultdict[str, dict[int, PipelineSpec]] = defaultdict(dict)
    warm: defaultdict[str, list[PipelineSpec]] = defaultdict(list)
    work: defaultdict[str, list[JobLoad]] = defaultdict(list)
    for job in jobs:
        work[job.pool].append(job)
        specs[job.pool][job.pipeline_id] = job.spec
    for pipeline in pipelines:
        pool = worker_pool(pipeline.spec, engine)
        specs[pool].setdefault(pipeline.id, pipeline.spec)
        if not pipeline.stopped:
            warm[pool].append(pipeline.spec)
    found = {}
    for name, of_pool in specs.items():
        spec = next(iter(of_pool.values()))
        found[name] = PoolNeed(
            name=name,
            engine=engine_of(spec, engine),
            spec=spec,
            pipelines=tuple(sorted(each.address for each in of_pool.values())),
            jobs=tuple(work[name]),
            demand=_demand(of_pool, work[name], warm[name], workers_max),
        )
    return found


def _demand(
    specs: Mapping[int, PipelineSpec], jobs: list[JobLoad], warm: list[PipelineSpec], workers_max: int
) -> Demand:
    at_work = {job.pipeline_id for job in jobs if job.datums}
    minimum = max((spec.parallelism_spec.minimum or 0 for spec in warm), default=0)
    most = sum(_most(specs[id], workers_max) for id in at_work)
    return Demand(
        datums=sum(job.datums for job in jobs),
        work_seconds=sum(job.datums * (job.seconds or 0.0) for job in jobs),
        most=max(most, minimum, 1),
        minimum=minimum,
        cool_down_seconds=max(spec.parallelism_spec.cool_down or COOL_DOWN_SECONDS for spec in specs.values()),
    )


def _most(spec: PipelineSpec, workers_max: int) -> int:
    return spec.parallelism_spec.constant or workers_max
