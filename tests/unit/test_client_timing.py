"""Where a job's time went: a job of known datums, with real workers."""

from __future__ import annotations

from paddock.client.embedded import EmbeddedPaddock
from paddock.client.timing import job_timing


def test_the_times_of_a_job_add_up(paddock: EmbeddedPaddock) -> None:
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for name in ("a", "b", "slow"):
        paddock.files.put(f"data@main:/{name}", name.encode())
    paddock.commits.finish("data@main")
    script = "if [ $(basename $data) = slow ]; then sleep 0.4; fi; cp $data /pfs/out/"
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "copy"},
            "transform": {"cmd": ["sh", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
        }
    )
    paddock.process(workers=2)
    times = job_timing(paddock, "copy@head")
    assert times.computed == 3
    assert times.slowest[0].inputs[0].path == "/slow"
    assert 0.4 <= times.slowest[0].seconds <= times.datum_seconds < 2 * times.run_seconds
    assert times.parallel == times.datum_seconds / times.run_seconds
    assert 0 <= times.rest_seconds < times.run_seconds
    assert [each.workers for each in times.forecasts] == [1, 2]
    assert times.forecasts[0].seconds == times.datum_seconds
    assert times.forecasts[1].seconds == max(times.slowest[0].seconds, times.datum_seconds / 2)

    paddock.files.put("data@main:/c", b"c")
    paddock.process(workers=2)
    assert job_timing(paddock, "copy@head").computed == 1
