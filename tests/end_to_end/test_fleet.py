"""Pools whose workers are started as they are needed: a real server, and members that are real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.model.records import JobState, Pool
from paddock.model.services import Paddock
from paddock.testing.provisioning import Behaviour, LocalProvisioner, provisioned_server

LIMIT_SECONDS = 120


@pytest.fixture
def members(tmp_path: Path) -> Iterator[LocalProvisioner]:
    folder = tmp_path / "members"
    folder.mkdir()
    provisioner = LocalProvisioner(folder)
    yield provisioner
    provisioner.kill_all()


@pytest.fixture
def paddock(home_path: Path, members: LocalProvisioner, tmp_path: Path) -> Iterator[Paddock]:
    with provisioned_server(home_path, tmp_path / "members") as server, connect(url=server.url, environment={}) as it:
        it.repos.create("data")
        yield it


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not seen():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.05)


def apply(paddock: Paddock, name: str = "upper", *, script: str = "", **fields: Any) -> None:
    paddock.pipelines.apply(
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-e", "-c", script or "tr a-z A-Z < $data > /pfs/out/$(basename $data)"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "parallelism_spec": {"constant": 3, "cool_down": "1s"},
            **fields,
        }
    )


def put(paddock: Paddock, count: int, prefix: str = "f") -> None:
    paddock.commits.start("data@main")
    for number in range(count):
        paddock.files.put(f"data@main:/{prefix}{number}", b"text %d\n" % number)
    paddock.commits.finish("data@main")


def finish(paddock: Paddock, pipeline: str = "upper") -> None:
    (job,) = paddock.jobs.wait([f"{pipeline}@head"], timeout_seconds=LIMIT_SECONDS)
    assert (job.state, job.reason) == (JobState.SUCCESS, "")


def pool_of(paddock: Paddock, pipeline: str = "default/upper") -> Pool | None:
    return next((pool for pool in paddock.pools.list() if pipeline in pool.pipelines), None)


def joined(pool: Pool | None) -> int:
    return 0 if pool is None else pool.idle + pool.busy


def test_from_none_to_many_and_back_to_none(paddock: Paddock, members: LocalProvisioner) -> None:
    apply(paddock, script="sleep 1; cp $data /pfs/out/")
    until(lambda: pool_of(paddock) is not None, "the pool, without workers")
    assert members.pids() == {}
    put(paddock, 12)
    until(lambda: joined(pool_of(paddock)) == 3, "three workers")
    finish(paddock)
    pool = pool_of(paddock)
    assert pool is not None
    assert (pool.engine, pool.name[:6], pool.reason) == ("slurm", "slurm-", "")
    until(lambda: not members.pids(), "idle workers that leave")
    assert set(members.exit_codes().values()) == {0}
    assert len(members.exit_codes()) == 3
    assert len(list(paddock.files.list("upper:/"))) == 12


def test_a_minimum_stays_and_the_pool_goes_with_its_last_pipeline(
    paddock: Paddock, members: LocalProvisioner, tmp_path: Path
) -> None:
    apply(paddock, parallelism_spec={"constant": 2, "minimum": 1, "cool_down": "1s"})
    apply(paddock, "again", parallelism_spec={"constant": 2, "cool_down": "1s"})
    until(lambda: joined(pool_of(paddock)) == 1, "a warm worker")
    (warm,) = members.pids()
    put(paddock, 2)
    finish(paddock)
    finish(paddock, "again")
    # Both were served by the one that was there: they share it.
    assert [*members.pids()] == [warm]
    pool = pool_of(paddock)
    assert pool is not None
    assert pool.pipelines == ("default/again", "default/upper")
    assert [token.pool for token in paddock.pools.list_tokens()] == [pool.name]
    paddock.pipelines.delete("again")
    paddock.pipelines.delete("upper")
    until(lambda: not members.pids(), "the last worker that leaves")
    until(lambda: not paddock.pools.list() and not paddock.pools.list_tokens(), "a pool that is removed")
    assert (tmp_path / "members" / f"removed-{pool.name}").exists()


def test_why_workers_do_not_start_is_said_and_heals(paddock: Paddock, members: LocalProvisioner) -> None:
    def reasons() -> Mapping[str, str]:
        pool = pool_of(paddock)
        return {
            "pool": "" if pool is None else pool.reason,
            "pipeline": paddock.pipelines.inspect("upper").reason,
            "in list": paddock.pipelines.list()[0].reason,
            "job": paddock.jobs.inspect("upper@head").reason,
            "in jobs": paddock.jobs.list()[0].reason,
        }

    def said(text: str) -> bool:
        return all(text in reason for reason in reasons().values())

    members.behave(Behaviour(hold="no node has a GPU; ask for none"))
    apply(paddock)
    put(paddock, 3)
    until(lambda: said("no worker can start: no node has a GPU"), "what holds the workers")
    assert members.pids() == {}
    members.behave(Behaviour(away="the cluster can't be reached; see that it runs"))
    until(lambda: said("the cluster can't be reached"), "that the engine is away")
    members.behave()
    finish(paddock)
    until(lambda: not any(reasons().values()), "reasons that are taken off")
    members.behave(Behaviour(refuse="partition gpu does not exist; name another"))
    until(lambda: not members.pids(), "idle workers that leave")
    put(paddock, 3, "g")
    until(lambda: said("partition gpu does not exist"), "why a start is refused")
    paddock.jobs.stop("upper@head")
    assert paddock.jobs.inspect("upper@head").reason == "stopped by the user"


def test_starts_that_fail_are_told_and_repeated_until_one_succeeds(paddock: Paddock, members: LocalProvisioner) -> None:
    members.behave(Behaviour(fail="the image has no such command"))
    apply(paddock)
    put(paddock, 3)
    until(lambda: "has no such command; it is tried again" in paddock.jobs.inspect("upper@head").reason, "the failure")
    members.behave()
    finish(paddock)


def test_members_go_on_with_the_next_server(home_path: Path, members: LocalProvisioner, tmp_path: Path) -> None:
    folder = tmp_path / "members"
    with provisioned_server(home_path, folder) as first, connect(url=first.url, environment={}) as paddock:
        paddock.repos.create("data")
        apply(
            paddock,
            script=f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; cp $data /pfs/out/",
            parallelism_spec={"constant": 2, "minimum": 2, "cool_down": "60s"},
        )
        put(paddock, 4)
        until(lambda: joined(pool_of(paddock)) == 2, "two workers")
        before = members.pids()
        first.process.kill()
        first.process.wait()
    port = int(first.url.rpartition(":")[2])
    with provisioned_server(home_path, folder, port=port), connect(url=first.url, environment={}) as paddock:
        until(lambda: joined(pool_of(paddock)) == 2, "the same two workers")
        (tmp_path / "go").touch()
        finish(paddock)
        assert members.pids() == before
        # One is lost: the next server starts another, with a token of its own.
        name, pid = next(iter(before.items()))
        os.killpg(pid, signal.SIGKILL)
        until(lambda: len(members.pids().keys() - {name}) == 2, "a worker in its place")
        until(lambda: joined(pool_of(paddock)) == 2, "two workers again")
