"""Garbage collection and checks where pipelines compute: kept results and logs stay, and jobs at work lose nothing."""

from __future__ import annotations

import dataclasses
import random
import threading
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import DatumState, Job, JobState
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage

GROW = 'for i in 1 2 3 4 5 6 7 8; do cat "$data"; done > /pfs/out/$(basename "$data"); echo did $(basename "$data")'


def pipeline(name: str, script: str, *, repo: str = "data") -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e", "-c", script]},
        "input": {"pfs": {"repo": repo, "glob": "/*"}},
    }


@pytest.fixture
def data(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    paddock.repos.create("data")
    put(paddock, range(4))
    return paddock


def put(paddock: EmbeddedPaddock, numbers: range) -> None:
    paddock.commits.start("data@main")
    for number in numbers:
        paddock.files.put(f"data@main:/{number}", random.Random(number).randbytes(20_000))
    paddock.commits.finish("data@main")


def gc(paddock: EmbeddedPaddock) -> int:
    return collect_garbage(paddock.home, grace_seconds=0).freed_bytes


def stored(paddock: EmbeddedPaddock) -> int:
    return sum(info.size for info in paddock.home.objects.list("packs/"))


def successes(jobs: Any) -> list[Job]:
    assert {job.state for job in jobs} == {JobState.SUCCESS}
    return list(jobs)


def test_outputs_logs_and_kept_results_stay(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("grow", GROW))
    (job,) = successes(data.process(workers=1))
    data.files.delete("data@main:/0")
    successes(data.process(workers=1))
    gc(data)
    assert check_store(data.home, data=True).sound
    name = f"grow@{job.id}"
    assert b"did 0" in b"".join(log for _, log in data.jobs.logs(name))
    assert len(b"".join(data.files.read("grow@main:/1"))) == 160_000
    put(data, range(4))  # the result for /0 is not computed again
    (again,) = successes(data.process(workers=1))
    assert (again.datums.run, again.datums.reused) == (0, 4)
    states = {datum.state for datum in data.datums.list(f"grow@{again.id}")}
    assert states == {DatumState.REUSED}


def test_what_jobs_hold_is_remembered_as_it_is_read(data: EmbeddedPaddock) -> None:
    """Datums, kept results and batch results, as they come and go between collections."""
    home = data.home
    data.pipelines.apply(pipeline("grow", GROW))
    for change in (lambda: None, lambda: data.files.delete("data@main:/0"), lambda: data.pipelines.delete("grow")):
        change()
        data.process(workers=1)
        warm = collect_garbage(home, grace_seconds=0, dry_run=True)
        for file in home.cache.glob("gc-*"):
            file.unlink()
        cold = collect_garbage(home, grace_seconds=0, dry_run=True)
        assert dataclasses.replace(warm, seconds=0) == dataclasses.replace(cold, seconds=0)
    assert warm.dropped_results == 1


def test_what_a_deleted_pipeline_computed_goes(data: EmbeddedPaddock) -> None:
    gc(data)
    before = stored(data)
    data.pipelines.apply(pipeline("grow", GROW))
    successes(data.process(workers=1))
    assert stored(data) > before + 80_000
    data.pipelines.delete("grow")
    report = collect_garbage(data.home, grace_seconds=0)
    assert report.dropped_results == 1
    assert stored(data) == before
    data.pipelines.apply(pipeline("grow", GROW))
    (job,) = successes(data.process(workers=1))
    assert job.datums.run == 4


def test_a_damaged_result_is_named_by_the_job_that_needs_it(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("grow", GROW))
    (job,) = successes(data.process(workers=1))
    with data.home.catalog.read() as tx:
        row = tx.one("SELECT datums_root FROM jobs")
    assert row is not None
    digest = bytes.fromhex(str(row[0]))
    with data.home.catalog.write() as tx:
        assert tx.execute("DELETE FROM chunks WHERE digest = ?", (digest,)) == 1
    with EmbeddedPaddock.open(data.home.path) as fresh:
        report = check_store(fresh.home)
        assert report.others == (f"job default/grow@{job.id}",)
        assert report.files == ()
        assert check_store(fresh.home, repair=True).sound


@pytest.mark.slow
def test_collections_beside_jobs_lose_nothing(data: EmbeddedPaddock) -> None:
    """Two chained pipelines compute, fail to be reused, and are given up, while collections run all the time."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def collect() -> None:
        try:
            with EmbeddedPaddock.open(data.home.path) as paddock:
                while not stop.is_set():
                    collect_garbage(paddock.home, grace_seconds=0, wait_seconds=0.05)
        except BaseException as error:
            errors.append(error)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for turn in range(4):
            data.pipelines.apply(pipeline("grow", GROW))
            data.pipelines.apply(pipeline("again", 'cp "$grow" /pfs/out/', repo="grow"))
            put(data, range(turn, turn + 4))
            successes(data.process(workers=2))
            if turn % 2:
                data.pipelines.delete("again")
                data.pipelines.delete("grow")
    finally:
        stop.set()
        collector.join()
    assert not errors
    report = check_store(data.home, data=True)
    assert report.sound, report.damages
