"""Pools whose workers are started as they are needed: a real server, and members that are real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import JobState, Pool
from paddock.model.services import Paddock
from paddock.testing.postgres import RunningPostgres
from paddock.testing.provisioning import Behaviour, LocalProvisioner, provisioned_server
from paddock.testing.relays import relay_to

LIMIT_SECONDS = 120


@pytest.fixture
def members(tmp_path: Path) -> Iterator[LocalProvisioner]:
    folder = tmp_path / "members"
    folder.mkdir()
    provisioner = LocalProvisioner(folder)
    yield provisioner
    provisioner.kill_all()


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not seen():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.05)


def apply(paddock: Paddock, gate: Path, name: str = "upper", **fields: Any) -> None:
    """A pipeline whose datums wait for a file."""
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done; cp $data /pfs/out/"
    paddock.pipelines.apply(
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-e", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "engine": "slurm",
            **fields,
        }
    )


def put(paddock: Paddock, count: int) -> None:
    paddock.commits.start("data@main")
    for number in range(count):
        paddock.files.put(f"data@main:/f{number}", b"text %d\n" % number)
    paddock.commits.finish("data@main")


def finish(paddock: Paddock, pipeline: str = "upper") -> None:
    (job,) = paddock.jobs.wait([f"{pipeline}@head"], timeout_seconds=LIMIT_SECONDS)
    assert (job.state, job.reason) == (JobState.SUCCESS, "")


def pool_of(paddock: Paddock, pipeline: str = "default/upper") -> Pool | None:
    return next((pool for pool in paddock.pools.list() if pipeline in pool.pipelines), None)


def joined(paddock: Paddock) -> int:
    pool = pool_of(paddock)
    return 0 if pool is None else pool.idle + pool.busy


@pytest.mark.slow
def test_from_none_to_many_and_back_to_none(home_path: Path, members: LocalProvisioner, tmp_path: Path) -> None:
    with (
        provisioned_server(home_path, tmp_path / "members") as server,
        connect(url=server.url, environment={}) as paddock,
    ):
        paddock.repos.create("data")
        limits = {"constant": 3, "cool_down": "1s"}
        apply(paddock, tmp_path / "go", parallelism_spec=limits)
        apply(paddock, tmp_path / "go", "again", parallelism_spec=limits)
        until(lambda: pool_of(paddock), "the pool")
        assert members.pids() == {}

        members.behave(Behaviour(hold="no node is free"))
        put(paddock, 12)
        until(lambda: "no node is free" in paddock.jobs.inspect("upper@head").reason, "what holds the workers")
        members.behave()
        # Three for each of the two that share the pool.
        until(lambda: joined(paddock) == 6, "six workers")
        (tmp_path / "go").touch()
        finish(paddock)
        finish(paddock, "again")

        until(lambda: not members.pids(), "idle workers that leave")
        assert [*members.exit_codes().values()] == [0] * 6
        pool = pool_of(paddock)
        assert pool is not None
        assert (pool.pipelines, pool.reason) == (("default/again", "default/upper"), "")
        assert [token.pool for token in paddock.pools.list_tokens()] == [pool.name]
        for name in ("upper", "again"):
            paddock.pipelines.delete(name)
        until(lambda: not paddock.pools.list() and not paddock.pools.list_tokens(), "a pool that is removed")
        assert (tmp_path / "members" / f"removed-{pool.name}").exists()


@pytest.mark.slow
def test_a_warm_minimum_goes_on_with_the_next_server(
    home_path: Path, members: LocalProvisioner, tmp_path: Path
) -> None:
    folder = tmp_path / "members"
    with provisioned_server(home_path, folder) as first, connect(url=first.url, environment={}) as paddock:
        paddock.repos.create("data")
        apply(paddock, tmp_path / "go", parallelism_spec={"constant": 2, "minimum": 2, "cool_down": "1s"})
        until(lambda: joined(paddock) == 2, "two workers, without work")
        put(paddock, 4)
        before = members.pids()
        first.process.kill()
        first.process.wait()
    port = int(first.url.rpartition(":")[2])
    with provisioned_server(home_path, folder, port=port), connect(url=first.url, environment={}) as paddock:
        (tmp_path / "go").touch()
        finish(paddock)
        assert members.pids() == before
        # One is lost: the next server starts another, with a token of its own.
        name, pid = next(iter(before.items()))
        os.killpg(pid, signal.SIGKILL)
        until(lambda: len(members.pids().keys() - {name}) == 2, "a worker in its place")


@pytest.mark.slow
def test_another_server_takes_over_with_the_members_that_there_are(
    postgres: RunningPostgres, members: LocalProvisioner, tmp_path: Path
) -> None:
    catalog, storage = postgres.create("fleet_taken_over"), (tmp_path / "store").as_uri()
    # Members know one address for all servers, as that of a load balancer.
    with relay_to("http://127.0.0.1:1") as way:
        start = partial(
            provisioned_server, None, tmp_path / "members", catalog=catalog, storage=storage, worker_url=way.url
        )
        with start() as first, start() as second, connect(url=second.url, environment={}) as paddock:
            way.target = first.url
            paddock.repos.create("data")
            apply(paddock, tmp_path / "go", parallelism_spec={"constant": 3, "cool_down": "1s"})
            put(paddock, 12)
            until(lambda: joined(paddock) == 3, "three workers")
            before = members.pids()
            first.process.kill()
            first.process.wait()
            way.target = second.url
            (tmp_path / "go").touch()
            finish(paddock)
            job = paddock.jobs.inspect("upper@head")
            assert (job.datums.run + job.datums.reused, job.datums.failed) == (12, 0)
            assert members.pids().keys() | members.exit_codes().keys() == before.keys()


def test_without_a_server_every_pipeline_runs_right_here(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    paddock.repos.create("data")
    apply(paddock, tmp_path / "go")
    put(paddock, 2)
    (job,) = paddock.process(workers=1)
    assert (job.state, job.datums.run) == (JobState.SUCCESS, 2)
