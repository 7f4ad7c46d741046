"""The real scheduler with simulated workers on a virtual clock: seeds, the canaries that must be caught, equal traces."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from paddock.runtime import scheduler as scheduler_module
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.dispatch import Dispatch, Lease
from paddock.runtime.protocol import BatchReport
from paddock.testing.simulation import Clock, SimulatedEngine
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

    def unfiltered(active: ActiveJob, lease: Lease, report: BatchReport) -> BatchReport:
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
