"""The kernel really ends commands for want of memory: in a cgroup that is too small for all datums at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import DatumState, JobState
from paddock.runtime.process_memory import MemoryGroup

GROUP_BYTES = 700 << 20
COLD = """
import os, sys, time
kept = bytearray(int(open(sys.argv[1]).read()) << 20)
time.sleep(0.5)
open(sys.argv[2] + "/" + os.path.basename(sys.argv[1]), "w")
"""
WARM = """
import json, os, time
for line in open(3):
    task = json.loads(line)
    kept = bytearray(int(open(task["in"]).read()) << 20)
    time.sleep(0.5)
    del kept
    open(task["out"] + "/" + os.path.basename(task["in"]), "w")
    os.write(4, json.dumps({"id": task["id"], "ok": True}).encode() + b"\\n")
"""
"""Both take as many MiB as their input says."""


@pytest.fixture
def small_machine() -> Iterator[Path]:
    """A cgroup with little memory, whose processes the kernel ends when it is used up."""
    name = f"test-{os.getpid()}"
    group = MemoryGroup.make(name)
    if group is None or not group.limit(GROUP_BYTES):
        pytest.skip("this system gives no memory cgroup")
    yield group.folder
    with contextlib.suppress(OSError):
        group.folder.rmdir()


def run_in(folder: Path, home: Path) -> None:
    """Do the work that waits, by three workers, in the cgroup."""
    enter = f"echo $$ > {folder}/cgroup.procs && exec {sys.executable} -m paddock --home {home} job wait"
    subprocess.run(
        ["sh", "-c", enter], env={**os.environ, "PADDOCK_WORKERS": "3"}, capture_output=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_each_runs_alone_in_the_end_and_what_is_too_large_fails_by_name(
    paddock: EmbeddedPaddock, home_path: Path, small_machine: Path, warm: bool
) -> None:
    """Three datums at once are too many, one is too large for the machine, and the small ones have nothing to do with it."""
    sizes = {"large": 1000, "middle-1": 350, "middle-2": 350, "middle-3": 350, "small-1": 5, "small-2": 5}
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for name, size in sizes.items():
        paddock.files.put(f"data@main:/{name}", str(size).encode())
    paddock.commits.finish("data@main")
    command = ["-c", WARM] if warm else ["-c", COLD, "{in}", "{out}"]
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "take"},
            "transform": {"cmd": [sys.executable, "-S", "-E", *command], "placeholders": not warm, "warm": warm},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_tries": 1,
        }
    )
    run_in(small_machine, home_path)
    (job,) = paddock.jobs.list(pipeline="take")
    ended = {datum.inputs[0].path: datum for datum in paddock.datums.list(f"take@{job.id}")}
    states = {path: datum.state for path, datum in ended.items()}
    assert states == {f"/{name}": DatumState.FAILED if name == "large" else DatumState.SUCCESS for name in sizes}
    assert job.state is JobState.FAILURE
    assert "too little memory for it, with nothing else beside it" in ended["/large"].reason
    assert "SIGKILL" in ended["/large"].reason
