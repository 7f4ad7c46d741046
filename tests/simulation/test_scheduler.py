"""The real scheduler with simulated workers on a virtual clock: seeds, the canaries that must be caught, equal traces."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Unavailable
from paddock.model.records import DEFAULT_POOL, JobState
from paddock.runtime import job_steps
from paddock.runtime import scheduler as scheduler_module
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.capacity import UNLIMITED, Capacity
from paddock.runtime.dispatch import Dispatch, Lease
from paddock.runtime.engines.engine import Place, WorkerGone, WorkerId
from paddock.runtime.protocol import BatchReport
from paddock.testing import simulation
from paddock.testing.simulation import NO_FAULTS, Clock, Faults, SimulatedEngine
from paddock.testing.simulation_run import simulate
from paddock.versions.home import Home

SEEDS = range(4)
CANARY_SEEDS = range(8, 18)
"""The first of them finds both faults; most find none, and some take half a minute for that."""
MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where the system has such a place: the disk's syncs are not what is tested here."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="paddock-simulation-", dir=parent) as path:
        yield Path(path)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_ends_as_the_serial_run(seed: int, folder: Path) -> None:
    assert simulate(seed, folder).computed > 0


def test_a_seed_repeats_itself(folder: Path) -> None:
    (folder / "first").mkdir()
    (folder / "second").mkdir()
    assert simulate(2, folder / "first") == simulate(2, folder / "second")


def caught(folder: Path) -> bool:
    """Whether one of the seeds finds the fault."""
    for seed in CANARY_SEEDS:
        try:
            simulate(seed, folder)
        except (AssertionError, KeyError):
            return True
    return False


def test_canary_datums_of_lost_workers_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(dispatch: Dispatch, ended: Lease) -> list[int]:
        return []

    monkeypatch.setattr(Dispatch, "_orphans", forget)
    assert caught(folder)


def test_canary_results_are_accepted_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def accept_all(dispatch: Dispatch, lease: str, datums: Sequence[int]) -> list[int]:
        return list(datums)

    def unfiltered(active: ActiveJob, lease: Lease, report: BatchReport, *, passing: Sequence[str]) -> BatchReport:
        return report

    monkeypatch.setattr(Dispatch, "acceptable", accept_all)
    monkeypatch.setattr(scheduler_module, "_first_reports", unfiltered)
    assert caught(folder)


def test_a_server_has_its_workers_before_there_is_work(folder: Path) -> None:
    clock = Clock()
    with Home.open(folder / "home", create=True, clock=clock) as home:
        engine = SimulatedEngine(home, clock, Random(0), datum_seconds=lambda _: 0.0)
        scheduler = scheduler_module.Scheduler(home, engine, workers=3, monotonic=clock, now=clock)
        scheduler.run_once(0.0)
        assert len(engine.workers()) == 0
        scheduler.start_workers()
        assert len(engine.workers()) == 3


class TwoHosts(SimulatedEngine):
    """Every other worker is on a host whose disk is full, and which is fast in saying so. both: so is the other host's."""

    both = False

    def place(self, worker: WorkerId) -> Place:
        return Place(DEFAULT_POOL, f"host-{worker % 2}")

    def machines(self) -> Mapping[Place, Capacity]:
        return {self.place(WorkerId(number)): UNLIMITED for number in range(2)}

    def _begin(self, worker: simulation._Worker) -> None:
        if worker.batches and (self.both or worker.id % 2 == 0):
            batch = worker.batches.pop(0)
            self._claim(worker)
            lost = BatchReport(batch.lease, True, None, (), (), error_code="limit-exceeded", error="the disk is full")
            self._say(worker, lost)
        else:
            super()._begin(worker)


@pytest.mark.parametrize("both", [False, True])
def test_a_host_with_a_full_disk_fails_no_job_that_others_can_do(both: bool, folder: Path) -> None:
    clock = Clock()
    with Home.open(folder / "home", create=True, clock=clock) as home:
        paddock = EmbeddedPaddock(home)
        paddock.repos.create("data")
        paddock.pipelines.apply(
            {
                "pipeline": {"name": "each"},
                "transform": {"cmd": ["simulated"]},
                "input": {"pfs": {"repo": "data", "glob": "/*"}},
            }
        )
        paddock.commits.start("data@main")
        for number in range(20):
            paddock.files.put(f"data@main:/f{number}", b"%d" % number)
        paddock.commits.finish("data@main")
        engine = TwoHosts(home, clock, Random(0), datum_seconds=lambda _: 8.0)
        engine.both = both
        scheduler = scheduler_module.Scheduler(home, engine, workers=2, monotonic=clock, now=clock)
        end = clock() + 400
        while clock() < end:
            scheduler.run_once(1.0)
        job = paddock.jobs.inspect("each@head")
        if both:
            assert (job.state, job.reason) == (JobState.FAILURE, "results could not be stored: the disk is full")
        else:
            assert (job.state, job.datums.run, job.datums.failed) == (JobState.SUCCESS, 20, 0)


class Unlucky(SimulatedEngine):
    """The first workers end as soon as they have something to do. taken: because somebody took them away."""

    ends = 5
    taken = False

    def _begin(self, worker: simulation._Worker) -> None:
        if not self.ends:
            super()._begin(worker)
            return
        self.ends -= 1
        worker.alive = False
        del self._workers[worker.id]
        self._events.append(WorkerGone(worker.id, "it ended", taken=self.taken))


@pytest.mark.parametrize("taken", [False, True])
def test_a_datum_is_given_up_for_workers_that_it_may_have_killed_and_for_no_others(taken: bool, folder: Path) -> None:
    clock = Clock()
    with Home.open(folder / "home", create=True, clock=clock) as home:
        paddock = EmbeddedPaddock(home)
        paddock.repos.create("data")
        paddock.pipelines.apply(
            {"pipeline": "each", "transform": {"cmd": ["simulated"]}, "input": {"pfs": {"repo": "data", "glob": "/*"}}}
        )
        paddock.files.put("data@main:/f", b"1")
        engine = Unlucky(home, clock, Random(0), datum_seconds=lambda _: 1.0)
        engine.taken = taken
        scheduler = scheduler_module.Scheduler(home, engine, workers=1, monotonic=clock, now=clock)
        end = clock() + 100
        while clock() < end:
            scheduler.run_once(1.0)
        job = paddock.jobs.inspect("each@head")
        if taken:
            assert (job.state, job.reason, engine.ends) == (JobState.SUCCESS, "", 0)
        else:
            assert job.state == JobState.FAILURE
            assert "its worker died each time it ran: it ended" in job.reason


@pytest.mark.parametrize("remote", [True, False])
def test_jobs_wait_for_a_store_that_is_away(remote: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "LOST_REPORTS", 10**6)
    storage = (folder / "store").as_uri() if remote else None
    clock = Clock()
    with Home.open(folder / "home", create=True, storage=storage, clock=clock) as home:
        paddock = EmbeddedPaddock(home)
        paddock.repos.create("data")
        for name in ("each", "again"):
            node = {"pfs": {"repo": "data" if name == "each" else "each", "glob": "/*"}}
            paddock.pipelines.apply(
                {"pipeline": {"name": name}, "transform": {"cmd": ["simulated"]}, "input": node, "flow": False}
            )
        paddock.commits.start("data@main")
        for number in range(6):
            paddock.files.put(f"data@main:/f{number}", b"%d" % number)
        paddock.commits.finish("data@main")
        engine = SimulatedEngine(home, clock, Random(0), datum_seconds=lambda _: 1.0)
        scheduler = scheduler_module.Scheduler(home, engine, workers=2, monotonic=clock, now=clock)

        def pass_time(seconds: float) -> None:
            end = clock() + seconds
            while clock() < end:
                scheduler.run_once(1.0)

        engine.faults = Faults(lose=1.0)
        pass_time(300)
        job = paddock.jobs.inspect("each@head")
        if not remote:
            assert (job.state, job.reason) == (JobState.FAILURE, "results could not be stored: simulated")
            return
        assert (job.state, job.datums.failed) == (JobState.RUNNING, 0)
        assert job.reason == "the object store is away, and is tried again: simulated"
        # After 2, 4, 8 … 60 seconds, by both workers.
        assert len([each for each in engine.trace if each[1] == "batch"]) < 40
        engine.faults = NO_FAULTS
        with monkeypatch.context() as broken:
            # It comes back for the workers, and not yet for what ends a job.
            broken.setattr(job_steps, "_output_tree", unavailable)
            pass_time(200)
            assert "simulated by the test" in paddock.jobs.inspect("each@head").reason
        pass_time(100)
        ended = [paddock.jobs.inspect(f"{name}@head") for name in ("each", "again")]
        assert [(job.state, job.reason, job.datums.total) for job in ended] == [(JobState.SUCCESS, "", 6)] * 2
        assert sum(job.datums.run for job in ended) == 12


def unavailable(*_: object) -> None:
    raise Unavailable("simulated by the test")
