"""What kept sums come to, and forecasts against schedules that are made by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from paddock.runtime import job_times
from paddock.runtime.laps import CODE, INPUT, Laps, Spent

SPENT = {"input": 1.0, "start": 0.5, "code": 12.0, "output": 0.5, "report": 1.0, "other": 0.0}


def test_the_times_of_a_job_add_up() -> None:
    kept = json.dumps({"workers": 2, "plan": 1.0, "merge": 1.0, **SPENT})
    times = job_times.job_times(kept, {}, total_seconds=12.0)
    assert times is not None
    assert (times.plan_seconds, times.run_seconds, times.merge_seconds) == (1.0, 10.0, 1.0)
    assert times.idle_seconds == 2 * 10.0 - 15.0
    assert times.efficiency == 15.0 / 24.0


def test_a_job_at_work_counts_what_its_batches_say() -> None:
    kept = json.dumps({"workers": 1, "plan": 0.0, "merge": 0.0})
    times = job_times.job_times(kept, SPENT, total_seconds=30.0)
    assert times is not None
    assert (times.code_seconds, times.idle_seconds, times.efficiency) == (12.0, 15.0, 0.5)


def test_nothing_is_known_where_nothing_was_recorded() -> None:
    assert job_times.job_times(None, SPENT, total_seconds=30.0) is None


def test_more_workers_do_not_shorten_the_longest_datum() -> None:
    found = job_times.forecasts(np.array([4.0, 1.0, 1.0, 1.0, 1.0]), None)
    assert [(each.workers, each.seconds, each.efficiency) for each in found] == [(1, 8.0, 1.0), (2, 4.0, 1.0)]


def test_a_forecast_plans_merges_and_works_around_datums_as_the_job_did() -> None:
    kept = json.dumps({"workers": 1, "plan": 1.0, "merge": 2.0, "code": 9.0, "report": 1.0})
    times = job_times.job_times(kept, {}, total_seconds=13.0)
    alone, two = job_times.forecasts(np.array([4.0, 4.0]), times)[:2]
    assert alone.seconds == pytest.approx(13.0)
    assert two.seconds == pytest.approx(8.0)
    assert job_times.forecasts(np.zeros(0), times) == ()


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_longest_first_keeps_the_bounds_of_list_schedules(workers: int) -> None:
    random = np.random.default_rng(workers)
    for count in range(1, 60):
        ordered = -np.sort(-random.pareto(1.5, count))
        share, longest = ordered.sum() / workers, ordered[0]
        found = job_times.makespan(ordered, workers)
        assert max(share, longest) * 0.999 <= found <= (share + (1 - 1 / workers) * longest) * 1.001


def test_short_tasks_beyond_those_laid_out_fill_the_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = -np.sort(-np.linspace(0.1, 1.0, 1000))
    exact = job_times.makespan(ordered, 7)
    monkeypatch.setattr(job_times, "EXACT_DATUMS", 100)
    assert exact - float(ordered[100]) <= job_times.makespan(ordered, 7) <= exact


def test_laps_leave_nothing_out_and_count_nothing_twice() -> None:
    laps = Laps()
    laps.lap(INPUT)
    laps.skip()
    laps.until(-math.inf, CODE)
    spent = laps.take()
    assert spent.input > 0 == spent.code
    assert laps.take() == Spent()


def test_no_time_is_believed_that_can_not_be() -> None:
    said = Spent(-1.0, math.nan, math.inf, 0.5, 1e9, 2.0)
    assert said.believed(1.0) == Spent(0.0, 0.0, 1.0, 0.5, 1.0, 1.0)
