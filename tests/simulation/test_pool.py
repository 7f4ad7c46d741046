"""Many workers on a virtual clock: every one is busy, expensive datums don't end last, and a batch costs the scheduler little."""

from __future__ import annotations

import random

import numpy as np
import pytest

from paddock.testing.simulation_pool import PoolRun, run_pool


def longest_first_bound(seconds: np.ndarray, workers: int) -> float:
    """No schedule is shorter than the mean load of a worker, nor than the longest datum."""
    return max(float(seconds.sum()) / workers, float(seconds.max()))


def heavy_tailed(count: int, *, seed: int) -> np.ndarray:
    """0.1 s each; one in a hundred takes fifty times that."""
    seconds = np.full(count, 0.1)
    seconds[random.Random(seed).sample(range(count), count // 100)] = 5.0
    return seconds


def seconds_for(run: PoolRun) -> float:
    return run.scheduler_seconds / run.batches


def test_a_thousand_workers_stay_busy() -> None:
    run = run_pool(workers=1000, datums=100_000, seconds=lambda _: 1.0, round_trip_seconds=0.02)
    assert run.datums == 100_000
    assert run.busy >= 0.95


@pytest.mark.slow
def test_ten_thousand_workers_and_ten_million_datums() -> None:
    small = run_pool(workers=100, datums=100_000, seconds=lambda _: 1.0, round_trip_seconds=0.02)
    large = run_pool(workers=10_000, datums=10_000_000, seconds=lambda _: 1.0, round_trip_seconds=0.02)
    assert (large.datums, large.busy >= 0.95) == (10_000_000, True)
    assert large.batches <= 400_000
    # A hundred times the datums and the workers: a batch costs no more, but for a noisy machine.
    assert seconds_for(large) <= 4 * seconds_for(small)


@pytest.mark.parametrize("seed", range(5))
def test_known_costs_keep_a_heavy_tail_near_the_bound(seed: int) -> None:
    seconds = heavy_tailed(2000, seed=seed)
    run = run_pool(workers=2, datums=2000, seconds=lambda datum: float(seconds[datum]), known_seconds=seconds)
    assert run.makespan <= 1.1 * longest_first_bound(seconds, 2)


def test_costs_that_are_all_wrong_by_a_factor_are_corrected() -> None:
    seconds = np.full(5000, 0.01)
    run = run_pool(workers=2, datums=5000, seconds=lambda datum: float(seconds[datum]), known_seconds=seconds * 1000)
    assert run.makespan <= 1.02 * longest_first_bound(seconds, 2)
    assert run.batches < 500
