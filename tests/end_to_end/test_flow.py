"""Flow with real processes: downstream datums start before the upstream job ends, and nobody sees them until it has.

The commands wait for one another by files outside of Paddock, so that a test ends only if things happen in that order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.catalog import batches, jobs
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import CommitState, Job, JobState
from paddock.settings import Settings

LIMIT_SECONDS = 60
WAIT = "n=0; while ! test -e {0} && test $n -lt {1}; do n=$((n+1)); sleep 0.05; done"
WORK = """
import sys
from paddock.client.embedded import EmbeddedPaddock
from pathlib import Path
with EmbeddedPaddock.open(Path(sys.argv[1])) as paddock:
    paddock.process(workers=2)
"""


@pytest.fixture
def paddock(tmp_path: Path) -> Iterator[EmbeddedPaddock]:
    with EmbeddedPaddock.open(tmp_path / "home", settings=Settings(workers=2)) as opened:
        opened.repos.create("data")
        opened.commits.start("data@main")
        for name in ("fast", "slow"):
            opened.files.put(f"data@main:/{name}", name.encode())
        opened.commits.finish("data@main")
        yield opened


def spec(name: str, source: str, script: str, **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e", "-c", script]},
        "input": {"pfs": {"repo": source, "glob": "/*", "name": "in"}},
        "datum_tries": 1,
        **fields,
    }


def chain(paddock: EmbeddedPaddock, slow: str, second: str, **fields: Any) -> None:
    """`first` copies, and does `slow` before its datum /slow; `second` does something and copies. One commit set."""
    first = f"case $in in */slow) {slow};; esac; cp $in /pfs/out/"
    paddock.pipelines.apply(spec("first", "data", first), hold=True)
    paddock.pipelines.apply(spec("second", "first", f"{second}; cp $in /pfs/out/", **fields), hold=True)
    paddock.pipelines.rerun("first")


def head(paddock: EmbeddedPaddock, pipeline: str) -> Job:
    return paddock.jobs.inspect(f"{pipeline}@head")


def test_a_downstream_datum_runs_before_the_upstream_job_ends(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    mark = tmp_path / "fast was here"
    wait = WAIT.format(f"'{mark}'", LIMIT_SECONDS * 20)
    chain(paddock, f"{wait}; test -e '{mark}'", f"touch '{mark}'")
    states: set[tuple[JobState, CommitState]] = set()

    def look(found: object) -> None:
        if mark.exists() and head(paddock, "first").state is JobState.RUNNING:
            commit = paddock.commits.inspect(f"second@{head(paddock, 'second').id}")
            states.add((head(paddock, "second").state, commit.state))

    ended = paddock.process(on_progress=look)
    assert {job.state for job in ended} == {JobState.SUCCESS}
    assert states <= {(JobState.CREATED, CommitState.OPEN)}
    job = head(paddock, "second")
    assert (job.datums.run, job.early, job.wasted) == (2, 1, 0)
    assert {file.path for file in paddock.files.list("second@main")} == {"/fast", "/slow"}


def test_work_ahead_of_a_job_that_fails_is_kept_and_not_shown(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    mark, good, trace = tmp_path / "fast was here", tmp_path / "repaired", tmp_path / "trace"
    wait = WAIT.format(f"'{mark}'", LIMIT_SECONDS * 20)
    chain(paddock, f"{wait}; sleep 0.5; test -e '{good}'", f"basename $in >> '{trace}'; touch '{mark}'")
    paddock.process()
    assert (head(paddock, "first").state, head(paddock, "second").state) == (JobState.FAILURE, JobState.UNRUNNABLE)
    assert paddock.branches.inspect("second@main").head is None
    assert trace.read_text().split() == ["fast"]
    good.touch()
    paddock.pipelines.rerun("first")
    paddock.process()
    job = head(paddock, "second")
    assert (job.state, job.datums.run, job.found) == (JobState.SUCCESS, 1, 1)
    assert trace.read_text().split() == ["fast", "slow"]


def test_flow_can_be_switched_off(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    mark, early = tmp_path / "fast was here", tmp_path / "early"
    wait = WAIT.format(f"'{mark}'", 30)
    chain(paddock, f"{wait}; if test -e '{mark}'; then touch '{early}'; fi", f"touch '{mark}'", flow=False)
    paddock.process()
    assert head(paddock, "second").state is JobState.SUCCESS
    assert mark.exists()
    assert not early.exists()
    assert head(paddock, "second").early == 0


def test_early_work_survives_the_death_of_its_scheduler(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    mark, go, trace = tmp_path / "fast was here", tmp_path / "go", tmp_path / "trace"
    wait = WAIT.format(f"'{go}'", LIMIT_SECONDS * 20)
    chain(paddock, f"{wait}; test -e '{go}'", f"basename $in >> '{trace}'; touch '{mark}'")
    home = tmp_path / "home"
    process = subprocess.Popen([sys.executable, "-c", WORK, str(home)], start_new_session=True)
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not accepted(paddock, "second"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "no early result was accepted"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (head(paddock, "first").state, head(paddock, "second").state) == (JobState.RUNNING, JobState.CREATED)
    paddock.store.collect_garbage(grace_seconds=0)
    go.touch()
    paddock.process()
    job = head(paddock, "second")
    assert (job.state, job.datums.run, job.early) == (JobState.SUCCESS, 2, 1)
    assert Counter(trace.read_text().split()) == {"fast": 1, "slow": 1}
    assert b"".join(paddock.files.read("second@main:/fast")) == b"fast"


def accepted(paddock: EmbeddedPaddock, pipeline: str) -> int:
    """Batches that the catalog has of the newest job."""
    with paddock.home.catalog.read() as tx:
        found = [row for row in jobs.newest_first(tx) if row.pipeline == pipeline]
        return len(batches.of_job(tx, found[0].id))


def test_directories_wait_for_the_whole_input(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    """Another datum may still write into a directory that is there, so what is in it is not final."""
    early = tmp_path / "early"
    mark = tmp_path / "mark"
    wait = WAIT.format(f"'{mark}'", 30)
    first = f"case $in in */slow) {wait}; if test -e '{mark}'; then touch '{early}'; fi;; esac; mkdir /pfs/out/d; cp $in /pfs/out/d/"
    paddock.pipelines.apply(spec("first", "data", first), hold=True)
    paddock.pipelines.apply(spec("second", "first", f"touch '{mark}'; ls $in > /pfs/out/names"), hold=True)
    paddock.pipelines.rerun("first")
    paddock.process()
    assert not early.exists()
    assert b"".join(paddock.files.read("second@main:/names")) == b"fast\nslow\n"
    assert (head(paddock, "second").early, head(paddock, "second").wasted) == (0, 0)
