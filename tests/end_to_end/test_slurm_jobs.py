"""Jobs on `engine: slurm`: a real server, a real Slurm, and nothing in between that the test drives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.model.records import Job, JobState, Pool
from paddock.model.services import Paddock
from paddock.testing.servers import RunningServer, running_server
from paddock.testing.slurm import RunningSlurm

LIMIT_SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def paddock(slurm: RunningSlurm, folder: Path) -> Iterator[Paddock]:
    """A server that has Slurm for all pipelines, and no workers of its own."""
    with running_slurm_server(slurm, folder) as server, connect(url=server.url, environment={}) as opened:
        yield opened
        slurm.cancel_all()


@contextmanager
def running_slurm_server(slurm: RunningSlurm, folder: Path) -> Iterator[RunningServer]:
    environment = {
        "SLURM_CONF": slurm.environment["SLURM_CONF"],
        "PADDOCK_ENGINE": "slurm",
        "PADDOCK_SLURM_FOLDER": str(folder / "output"),
    }
    with running_server(folder / ".paddock", workers=0, environment=environment) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def limited(paddock: Paddock, folder: Path) -> Upper:
    """A job whose worker comes to its time limit while the other tests run: no limit is shorter than a minute, and Slurm looks at
    limits every half minute."""
    upper = Upper(paddock, "limited", folder)
    upper.apply(
        wait=f"[ -e {folder}/go ] || sleep 1",
        slurm={"time_limit": "1m", "drain_time": "59s", "options": ["--nodelist=n1"]},
        parallelism_spec={"constant": 1, "cool_down": "1s"},
    )
    upper.put(60)
    return upper


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not seen():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.1)


class Upper:
    """A pipeline of its own for each test, over files of its own, whose command notes each datum that it begins."""

    def __init__(self, paddock: Paddock, name: str, folder: Path) -> None:
        self._paddock = paddock
        self.name = name
        self._folder = folder / name
        self._trace = folder / "trace"
        paddock.repos.create(f"{name}-data")

    def apply(self, *, wait: str = "", **fields: Any) -> None:
        """wait: a command that each datum runs before it does its work."""
        script = f"echo ${{data##*/}} >> {self._trace}; {wait or ':'}; tr a-z A-Z < $data > /pfs/out/${{data##*/}}"
        self._paddock.pipelines.apply(
            {
                "pipeline": {"name": self.name},
                "transform": {"cmd": ["sh", "-e", "-c", script]},
                "input": {"pfs": {"repo": f"{self.name}-data", "name": "data", "glob": "/*"}},
                "parallelism_spec": {"constant": 3, "cool_down": "1s"},
                "datum_set_spec": {"number": 4},
                "pool": self.name,
                **fields,
            }
        )

    def put(self, count: int) -> None:
        source = self._folder / "source"
        source.mkdir(parents=True)
        for number in range(count):
            (source / f"f{number}").write_text(f"text {number}\n")
        self._paddock.files.put_tree(f"{self.name}-data@main", source)

    def finish(self, count: int) -> Job:
        """Wait for the job, and check that its output is what it has to be, whatever went wrong meanwhile."""
        (job,) = self._paddock.jobs.wait([f"{self.name}@head"], timeout_seconds=LIMIT_SECONDS)
        assert (job.state, job.reason) == (JobState.SUCCESS, "")
        assert (job.datums.run, job.datums.failed) == (count, 0)
        result = self._folder / "result"
        self._paddock.files.get_tree(f"{self.name}:/", result)
        found = {path.name: path.read_text() for path in result.iterdir()}
        assert found == {f"f{number}": f"TEXT {number}\n" for number in range(count)}
        return job

    def begun(self) -> list[str]:
        return self._trace.read_text().split() if self._trace.exists() else []

    def pool(self) -> Pool | None:
        pools = self._paddock.pools.list()
        return next((pool for pool in pools if f"default/{self.name}" in pool.pipelines), None)

    def reasons(self) -> Mapping[str, str]:
        """Wherever a user looks."""
        pool = self.pool()
        return {
            "pool": "" if pool is None else pool.reason,
            "pipeline": self._paddock.pipelines.inspect(self.name).reason,
            "job": self._paddock.jobs.inspect(f"{self.name}@head").reason,
        }

    def says(self, text: str) -> bool:
        return all(text in reason for reason in self.reasons().values())


def tasks(slurm: RunningSlurm, pool: Pool | None) -> Mapping[str, str]:
    """State of each task of a pool that Slurm still knows, by id; none before there is a pool."""
    if pool is None:
        return {}
    lines = slurm.run("squeue", "-h", "-r", "-t", "all", "-O", "JobArrayID:20,State:20,Name:200").splitlines()
    return dict(line.split()[:2] for line in lines if line.rstrip().endswith(f"-{pool.name}"))  # type: ignore[misc]


def test_from_none_to_many_and_back_to_none(paddock: Paddock, slurm: RunningSlurm, tmp_path: Path) -> None:
    upper = Upper(paddock, "many", tmp_path)
    # Work for three workers even where one takes half a minute to start.
    upper.apply(wait=f"for i in $(seq 20); do [ -e {tmp_path}/go ] || sleep 0.1; done")
    upper.put(40)
    until(lambda: sum(state == "RUNNING" for state in tasks(slurm, upper.pool()).values()) == 3, "three workers")
    (tmp_path / "go").touch()
    upper.finish(40)
    pool = upper.pool()
    assert pool is not None
    assert pool.engine == "slurm"
    until(lambda: [*tasks(slurm, pool).values()] == ["COMPLETED"] * 3, "workers that end by themselves")


def test_a_node_that_dies_costs_nothing_but_time(paddock: Paddock, slurm: RunningSlurm, tmp_path: Path) -> None:
    upper = Upper(paddock, "mortal", tmp_path)
    # The worker begins on the node that will die, and its successor goes elsewhere.
    slurm.run("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    upper.apply(wait=f"[ -e {tmp_path}/go ] || sleep 1000", parallelism_spec={"constant": 1, "cool_down": "1s"})
    upper.put(6)
    until(upper.begun, "a datum that runs")
    (tmp_path / "go").touch()
    slurm.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    slurm.kill_node("n2")
    try:
        upper.finish(6)
    finally:
        slurm.start_node("n2")
    assert len(upper.begun()) == 7


def test_what_can_not_start_says_why_and_a_better_spec_heals(
    paddock: Paddock, slurm: RunningSlurm, tmp_path: Path
) -> None:
    upper = Upper(paddock, "hopeless", tmp_path)
    upper.apply(resource_requests={"cpu": 99})
    upper.put(2)
    until(lambda: upper.says("no node of the partition ever has what it asks for; lower resource_requests"), "why")
    hopeless = upper.pool()
    upper.apply(slurm={"partition": "nowhere"})
    until(lambda: upper.says("change slurm.partition in the spec"), "why it is refused")
    upper.apply()
    upper.finish(2)
    until(lambda: not any(upper.reasons().values()), "reasons that are taken off")
    # Nothing is left in the queue of what was asked for before.
    until(lambda: set(tasks(slurm, hopeless).values()) <= {"CANCELLED"}, "a queue without it")


def test_a_stranger_who_cancels_fails_no_datum(paddock: Paddock, slurm: RunningSlurm, tmp_path: Path) -> None:
    upper = Upper(paddock, "cancelled", tmp_path)
    upper.apply(wait=f"[ -e {tmp_path}/go ] || sleep 1000", datum_tries=1)
    upper.put(6)
    until(upper.begun, "a datum that runs")
    (tmp_path / "go").touch()
    # Every process of theirs gets SIGTERM, the command at work too.
    slurm.run("scancel", "--quiet", *[id for id, state in tasks(slurm, upper.pool()).items() if state == "RUNNING"])
    upper.finish(6)


def test_workers_that_reach_the_store_read_and_write_it_themselves(
    slurm: RunningSlurm, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_STORAGE", s3_url)
    monkeypatch.setenv("PADDOCK_SLURM_DIRECT", "1")
    with (
        running_slurm_server(slurm, tmp_path) as server,
        connect(url=server.url, environment={}) as paddock,
    ):
        upper = Upper(paddock, "direct", tmp_path)
        # The command's parent is the worker, whose words say where it reads and writes.
        upper.apply(wait=f"tr '\\0' ' ' < /proc/$PPID/cmdline > {tmp_path}/worker")
        upper.put(2)
        upper.finish(2)
        assert f"--objects {s3_url} " in (tmp_path / "worker").read_text()
        slurm.run("scancel", "--quiet", *tasks(slurm, upper.pool()))


def test_a_time_limit_in_the_middle_costs_nothing(limited: Upper, slurm: RunningSlurm, folder: Path) -> None:
    until(
        lambda: (
            [*tasks(slurm, limited.pool()).values()].count("COMPLETED")
            and "RUNNING" in tasks(slurm, limited.pool()).values()
        ),
        "a worker that drained before its limit, and the one that follows it",
    )
    (folder / "go").touch()
    limited.finish(60)
    # What was begun was brought to its end: nothing ran twice.
    assert len(limited.begun()) == 60
