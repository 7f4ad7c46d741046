"""Where the time of real jobs went: with processes, with a warm command, stopped halfway, and of jobs from before it was recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.timing import JobTimes

WARM = """
import json, os
tasks = os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "rb")
say = lambda **fields: os.write(int(os.environ["PADDOCK_WARM_OUT"]), json.dumps(fields).encode() + b"\\n")
import time; time.sleep(0.3)
say(ready=True)
for line in tasks:
    datum = json.loads(line)
    time.sleep(0.05)
    say(id=datum["id"], ok=True)
"""


def spec(name: str, **transform: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": transform,
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
    }


def put(paddock: EmbeddedPaddock, *names: str) -> None:
    paddock.commits.start("data@main")
    for name in names:
        paddock.files.put(f"data@main:/{name}", name.encode())
    paddock.commits.finish("data@main")


def busy(times: JobTimes) -> float:
    return (
        times.input_seconds
        + times.start_seconds
        + times.code_seconds
        + times.output_seconds
        + times.report_seconds
        + times.other_seconds
    )


def timed(paddock: EmbeddedPaddock, job: str) -> JobTimes:
    times = paddock.jobs.timing(job).times
    assert times is not None
    return times


@pytest.fixture
def data(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    paddock.repos.create("data")
    put(paddock, "a", "b", "slow")
    return paddock


def test_the_times_of_a_job_add_up(data: EmbeddedPaddock) -> None:
    script = "if [ $(basename $data) = slow ]; then sleep 0.4; fi; cp $data /pfs/out/"
    data.pipelines.apply(spec("copy", cmd=["sh", "-c", script]))
    data.process(workers=2)
    timing, times = data.jobs.timing("copy@head"), timed(data, "copy@head")
    assert timing.computed == 3
    assert timing.slowest[0].inputs[0].path == "/slow"
    assert [datum.seconds for datum in timing.slowest] == sorted((d.seconds for d in timing.slowest), reverse=True)
    assert 0.4 <= timing.slowest[0].seconds <= timing.datum_seconds
    assert times.workers == 2
    assert 0.4 <= times.code_seconds <= timing.datum_seconds <= busy(times) * 1.001
    assert times.plan_seconds + times.run_seconds + times.merge_seconds == pytest.approx(timing.total_seconds)
    assert busy(times) + times.idle_seconds == pytest.approx(2 * times.run_seconds)
    assert 0 < times.efficiency == pytest.approx(busy(times) / (2 * timing.total_seconds))
    assert min(times.input_seconds, times.start_seconds, times.output_seconds, times.report_seconds) > 0
    assert timing.forecasts[0].seconds >= timing.datum_seconds
    assert timing.forecasts[0].workers == 1

    data.files.put("data@main:/c", b"c")
    data.process(workers=2)
    assert data.jobs.timing("copy@head").computed == 1


def test_a_warm_command_starts_until_it_is_ready(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(spec("warm", cmd=[sys.executable, "-S", "-E", "-c", WARM], warm=True))
    data.process(workers=1)
    times = timed(data, "warm@head")
    assert times.start_seconds >= 0.3
    assert times.code_seconds >= 3 * 0.05


def test_a_stopped_job_keeps_the_times_of_what_it_reported(data: EmbeddedPaddock) -> None:
    """Its first datums are reported, its last one hangs until the job is stopped."""
    script = "if [ $(basename $data) = slow ]; then sleep 600; fi; sleep 0.1"
    data.pipelines.apply(
        spec("hang", cmd=["sh", "-c", script]) | {"datum_set_spec": {"number": 1}, "job_timeout": "6s"}
    )
    data.process(workers=2)
    assert data.jobs.inspect("hang@head").state == "killed"
    timing = data.jobs.timing("hang@head")
    assert timing.times is not None
    assert 0.2 <= timing.times.code_seconds < 6
    assert timing.times.idle_seconds > 0


def test_the_times_of_older_jobs_are_not_recorded(data: EmbeddedPaddock, home_path: Path) -> None:
    data.pipelines.apply(spec("copy", cmd=["sh", "-c", "cp $data /pfs/out/"]))
    data.process(workers=1)
    with data.home.catalog.write() as tx:
        tx.execute("UPDATE jobs SET times = NULL")
    timing = data.jobs.timing("copy@head")
    assert timing.times is None
    assert timing.computed == 3
    shown = subprocess.run(
        [sys.executable, "-m", "paddock", "--home", home_path, "job", "inspect", "copy", "--timing"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "not recorded" in shown
    assert "slowest datums" in shown
