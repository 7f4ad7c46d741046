"""One simulated life of a home: jobs under faults, checked at every step, then without faults until all is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from paddock.catalog import batches as batches_sql
from paddock.catalog import jobs as jobs_sql
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.cache_records import CachePolicy
from paddock.model.errors import Unavailable
from paddock.model.records import JobState
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.dispatch import NOWHERE
from paddock.runtime.protocol import DatumTask
from paddock.runtime.scheduler import Scheduler
from paddock.testing.simulation import NO_FAULTS, Clock, Faults, SimulatedEngine, outputs_of
from paddock.versions.home import Home

STEP_SECONDS = 1.0
FAULTY_SECONDS = 100.0
STEPS_MAX = 20_000
WORKERS_MAX = 6
WORKERS_MANY = 20
"""So many that there are often some without anything to do but early work."""
FILES_MAX = 40


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """steps: rounds of the scheduler. trace: see `SimulatedEngine`. restarts: of the scheduler. computed, audited, early, wasted: datums."""

    steps: int
    restarts: int
    computed: int
    audited: int
    early: int
    wasted: int
    trace: Sequence[tuple[float, str, int, int]]


def simulate(seed: int, folder: Path) -> SimulatedRun:
    """Run one seed on a new home in `folder`; AssertionError where an invariant does not hold or it does not converge."""
    clock = Clock()
    with Home.open(folder / f"home-{seed}", create=True, clock=clock) as home:
        return _Simulation(home, clock, Random(seed)).run()


class _Simulation:
    def __init__(self, home: Home, clock: Clock, random: Random) -> None:
        self._home = home
        self._clock = clock
        self._random = random
        self._paddock = EmbeddedPaddock(home)
        self._workers = random.choice((random.randint(1, WORKERS_MAX), WORKERS_MANY))
        self._files = {f"/f{number:03}": b"%d" % number for number in range(random.randint(1, FILES_MAX))}
        self._seconds = {path: random.choice((0.01, 0.1, 1.0, 8.0)) for path in self._files}
        self._faults = self._choose_faults()
        self._trace: list[tuple[float, str, int, int]] = []
        self._restarts = 0
        self._start()

    def run(self) -> SimulatedRun:
        self._paddock.cache.set_policy(CachePolicy(audit_share=self._random.choice((0.0, 0.5))))
        self._commit(self._files)
        self._pipelines()
        steps = 0
        calm = self._clock() + FAULTY_SECONDS
        for steps in range(1, STEPS_MAX):
            faulty = self._clock() < calm
            self._engine.faults = self._faults if faulty else NO_FAULTS
            if faulty and self._random.random() < 0.01:
                self._restart()
            if faulty and self._random.random() < 0.01:
                changed = self._random.sample(sorted(self._files), (len(self._files) + 1) // 2)
                self._commit(dict.fromkeys(changed, b"changed %d" % steps))
            self._step()
            if not faulty and self._done():
                break
        else:
            raise AssertionError(f"not done after {steps} steps, most of them without faults")
        self._check_outputs()
        trace = [*self._trace, *self._engine.trace]
        jobs = self._paddock.jobs.list()
        audited = sum(job.audit.checked for job in jobs if job.audit is not None)
        return SimulatedRun(
            steps,
            self._restarts,
            sum(job.datums.run for job in jobs),
            audited,
            sum(job.early for job in jobs),
            sum(job.wasted for job in jobs),
            trace,
        )

    def _choose_faults(self) -> Faults:
        def up_to(most: float) -> float:
            return self._random.choice((0.0, most * self._random.random()))

        return Faults(
            crash=up_to(0.1),
            hang=up_to(0.05),
            lose=up_to(0.2),
            lie=up_to(1.0),
            repeat=up_to(0.5),
            late=up_to(0.3),
            slow=up_to(0.7),
            start=up_to(0.3),
        )

    def _start(self) -> None:
        self._engine = SimulatedEngine(self._home, self._clock, self._random, datum_seconds=self._datum_seconds)
        self._scheduler = Scheduler(
            self._home, self._engine, workers=self._workers, monotonic=self._clock, now=self._clock
        )

    def _restart(self) -> None:
        """The scheduler's process dies, and its workers with it; another takes over."""
        self._restarts += 1
        for active in [*self._scheduler.jobs, *self._scheduler.early_jobs]:
            active.pin.release()
        self._engine.stop()
        self._trace += self._engine.trace
        self._start()

    def _datum_seconds(self, datum: DatumTask) -> float:
        return sum(self._seconds.get(file.path, 0.5) for each in datum.inputs for file in each.files)

    def _commit(self, files: Mapping[str, bytes]) -> None:
        paddock = self._paddock
        if not any(repo.name == "data" for repo in paddock.repos.list()):
            paddock.repos.create("data")
        self._files = {**self._files, **files}
        paddock.commits.start("data@main")
        for path, content in files.items():
            paddock.files.put(f"data@main:{path}", content)
        paddock.commits.finish("data@main")

    def _pipelines(self) -> None:
        number = self._random.choice((None, 3, 10))
        flow = self._random.random() < 0.8
        for name, node, spec in (
            ("each", _pfs("data", "/*"), {"datum_set_spec": {"number": number}} if number else {}),
            ("again", _pfs("each", "/*"), {"parallelism_spec": {"constant": 2}, "flow": flow}),
            ("whole", _pfs("data", "/"), {"parallelism_spec": {"weight": 3}}),
            ("third", _pfs("again", "/*"), {}),
            ("pairs", {"join": [_pfs("data", "/(*)", join_on="$1"), _pfs("again", "/(*)", join_on="$1")]}, {}),
        ):
            self._paddock.pipelines.apply(
                {"pipeline": {"name": name}, "transform": {"cmd": ["simulated"]}, "input": node, **spec}
            )

    def _step(self) -> None:
        try:
            self._scheduler.run_once(STEP_SECONDS)
        except Unavailable:
            self._restart()
        for active in [*self._scheduler.jobs, *self._scheduler.early_jobs]:
            self._check(active)

    def _check(self, active: ActiveJob) -> None:
        """No datum is lost or with two owners, each one has one accepted result, and a lease has one worker."""
        leases = active.dispatch.leases
        waiting = active.dispatch.waiting()
        held = [datum for lease in leases for datum in lease.missing() if datum != NOWHERE]
        counts = active.counts
        ended = counts.run + counts.recovered + counts.failed + len(active.audit.outcomes)
        assert len(set(waiting)) == len(waiting), f"datums wait twice in {active.row}"
        assert not set(waiting) & set(held), f"datums wait and are held in {active.row}"
        assert all(held.count(datum) <= 2 for datum in held), f"a datum has more than two holders in {active.row}"
        found = len(waiting) + len(set(held)) + ended
        expected = counts.total - counts.reused + len(active.audit.positions)
        assert found == expected, f"{active.row}: {found} datums wait, run or ended, and {expected} were to run"
        with self._home.catalog.read() as tx:
            accepted = sum(row.run + row.recovered + row.failed for row in batches_sql.of_job(tx, active.row.id))
        spare = sum(table.num_rows for table in active.spare)
        assert accepted == ended + spare, f"{active.row}: {accepted} results were accepted for {ended} datums"
        for lease in leases:
            assert lease.id in self._engine.holders, f"lease {lease.id} was given to no worker"

    def _done(self) -> bool:
        with self._home.catalog.read() as tx:
            return not jobs_sql.unfinished(tx)

    def _check_outputs(self) -> None:
        """Each output repo holds what one worker, one datum at a time, would have made of the newest input."""
        for job in self._paddock.jobs.list():
            assert job.state is JobState.SUCCESS, f"job {job.pipeline}@{job.id} is {job.state}: {job.reason}"
            assert not job.wasted, f"job {job.pipeline}@{job.id} computed {job.wasted} datums early for nothing"
            assert job.audit is None or not job.audit.differing, f"job {job.pipeline}@{job.id}: {job.audit}"
        each = _serial("each", self._files)
        again = _serial("again", each)
        expected = {
            "each": each,
            "again": again,
            "whole": outputs_of("whole", self._files),
            "third": _serial("third", again),
            "pairs": _pairs(self._files, again),
        }
        for pipeline, files in expected.items():
            found = {
                file.path: b"".join(self._paddock.files.read(f"{pipeline}@main:{file.path}"))
                for file in self._paddock.files.list(f"{pipeline}@main", recursive=True)
            }
            assert found == files, f"the output of {pipeline} differs from that of the serial run"


def _pairs(data: Mapping[str, bytes], again: Mapping[str, bytes]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for path, content in data.items():
        made |= outputs_of("pairs", {f"/again{path}": again[path], f"/data{path}": content})
    return made


def _pfs(repo: str, glob: str, **more: str) -> dict[str, dict[str, str]]:
    return {"pfs": {"repo": repo, "glob": glob, "name": repo, **more}}


def _serial(pipeline: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for path, content in files.items():
        made |= outputs_of(pipeline, {path: content})
    return made
