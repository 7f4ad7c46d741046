"""kill -9 in the middle of a job: the next run completes it, computes nothing twice that was reported, and ends the same."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddock.catalog import batches, jobs
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.ids import Digest
from paddock.model.records import JobState
from paddock.runtime.batch_results import read_batch_result
from paddock.runtime.driver import process
from paddock.runtime.engines.local import WorkerOptions

FILES = 60
WORK = """
import sys, time
from paddock.client.embedded import EmbeddedPaddock
from pathlib import Path
with EmbeddedPaddock.open(Path(sys.argv[1])) as paddock:
    paddock.process(workers=2)
"""
LIMIT_SECONDS = 60


def fill(paddock: EmbeddedPaddock, trace: Path) -> None:
    """A pipeline whose command notes each datum that it works on, and takes its time."""
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for number in range(FILES):
        paddock.files.put(f"data@main:/f{number:03}", b"%d\n" % number)
    paddock.commits.finish("data@main")
    script = f"basename $data >> {trace}; sleep 0.05; cp $data /pfs/out/"
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "slow"},
            "transform": {"cmd": ["sh", "-e", "-c", script], "env": {"OUTSIDE": "the trace is no output"}},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 3},
        }
    )


def traced(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


def reported(paddock: EmbeddedPaddock) -> set[str]:
    """Ids of datums in batches that the catalog has accepted."""
    with paddock.home.catalog.read() as tx:
        (job,) = jobs.unfinished(tx)
        rows = batches.of_job(tx, job.id)
    ids: set[str] = set()
    for row in rows:
        result = read_batch_result(paddock.home.chunks, Digest(bytes.fromhex(row.result)))
        ids |= {id.hex() for id in result.results.column("id").to_pylist()}
    return ids


def names_of(paddock: EmbeddedPaddock, ids: set[str]) -> set[str]:
    return {datum.inputs[0].path[1:] for datum in paddock.datums.list("slow@head") if datum.id in ids}


@contextmanager
def working(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", WORK, str(home)], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_reported(paddock: EmbeddedPaddock, count: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    version = -1
    while time.monotonic() < deadline:
        present = paddock.home.catalog.data_version()
        if present != version:
            version = present
            if len(reported(paddock)) >= count:
                return
        select.select([], [], [], 0.01)
    pytest.fail(f"{count} datums were not reported within {LIMIT_SECONDS} s")


def children(pid: int) -> set[int]:
    """All processes below one, by /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def undisturbed(tmp_path: Path) -> str:
    with EmbeddedPaddock.open(tmp_path / "calm") as paddock:
        fill(paddock, tmp_path / "calm-trace")
        (job,) = paddock.process(workers=2)
        assert job.state is JobState.SUCCESS, job.reason
        return paddock.commits.inspect("slow@main").tree


def test_killing_the_whole_process(paddock: EmbeddedPaddock, home_path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "calm-trace"
    calm = undisturbed(tmp_path)
    trace.unlink()
    fill(paddock, trace)
    with working(home_path) as process:
        wait_until_reported(paddock, 9)
        below = children(process.pid)
        process.kill()
        process.wait()
        wait_until_gone(below)
    safe = names_of(paddock, reported(paddock))
    assert 9 <= len(safe) < FILES
    trace.unlink()
    (job,) = paddock.process(workers=2)
    assert job.state is JobState.SUCCESS, job.reason
    assert not safe & set(traced(trace)), "a reported datum was computed again"
    assert job.datums.run == FILES
    assert paddock.commits.inspect("slow@main").tree == calm


def test_killing_workers(paddock: EmbeddedPaddock, home_path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "calm-trace"
    calm = undisturbed(tmp_path)
    trace.unlink()
    fill(paddock, trace)
    with working(home_path) as process:
        for kills in (3, 12, 24):
            wait_until_reported(paddock, kills)
            for worker in direct_children(process.pid):
                os.kill(worker, signal.SIGKILL)
        assert process.wait(LIMIT_SECONDS) == 0
    (job,) = paddock.jobs.list()
    assert job.state is JobState.SUCCESS, job.reason
    assert set(Counter(traced(trace))) == {f"f{number:03}" for number in range(FILES)}
    assert paddock.commits.inspect("slow@main").tree == calm


def fill_murderous(paddock: EmbeddedPaddock) -> None:
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for name in ("good", "murderous", "other"):
        paddock.files.put(f"data@main:/{name}", name.encode())
    paddock.commits.finish("data@main")
    script = (
        "case $data in *murderous) kill -9 $PPID;; esac; cp $data /pfs/out/ 2>/dev/null || cp $data $PADDOCK_PFS/out/"
    )
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "p"},
            "transform": {"cmd": ["sh", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
        }
    )


def test_a_command_that_kills_its_worker_again_and_again_fails_by_name(paddock: EmbeddedPaddock) -> None:
    fill_murderous(paddock)
    (job,) = process(paddock.home, workers=1, options=WorkerOptions(sandbox="directory"))
    assert job.state is JobState.FAILURE
    assert "data:/murderous" in job.reason
    assert "worker" in job.reason
    assert (job.datums.run, job.datums.failed) == (2, 1)


def test_a_command_in_the_sandbox_cannot_kill_its_worker(paddock: EmbeddedPaddock) -> None:
    fill_murderous(paddock)
    (job,) = process(paddock.home, workers=1, options=WorkerOptions(sandbox="namespaces"))
    assert job.state is JobState.SUCCESS, job.reason


def direct_children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def wait_until_gone(pids: set[int]) -> None:
    """Until none of the processes is there (zombies count as gone)."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still alive: {[pid for pid in pids if _alive(pid)]}"
        select.select([], [], [], 0.01)


def _alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_where_namespaces_are_forbidden_paddock_says_so_once_and_works(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "source" / name).write_text(name)
    forbid = "echo 0 > /proc/sys/user/max_mnt_namespaces || exit 99; exec "
    command = f"{sys.executable} -m paddock --home home map source -o target -- cp '{{in}}' '{{out}}/'"
    shell = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid + command]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode == 99:
        pytest.skip("this system has no user namespaces to forbid others in")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this system allows no private /pfs") == 1
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["a", "b", "c"]
