"""The fleet beside a real scheduler, with an engine that goes wrong: what is said, how it heals, what is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import NotFound
from paddock.model.records import EngineName, JobState
from paddock.runtime import fleet as fleet_module
from paddock.runtime.capacity import Capacity
from paddock.runtime.cluster import Cluster
from paddock.runtime.engines.provisioner import Provisioner, Site
from paddock.runtime.server import Server
from paddock.settings import Settings
from paddock.testing.provisioning import Behaviour, LocalProvisioner

LIMIT_SECONDS = 60


@pytest.fixture
def members(tmp_path: Path) -> LocalProvisioner:
    folder = tmp_path / "members"
    folder.mkdir()
    return LocalProvisioner(folder)


@pytest.fixture
def cluster(paddock: EmbeddedPaddock) -> Cluster:
    return Cluster(paddock.home, url="http://127.0.0.1:1")


@pytest.fixture
def server(
    paddock: EmbeddedPaddock, members: LocalProvisioner, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A scheduler with its fleet; nobody can join, since there is no HTTP."""
    monkeypatch.setattr(fleet_module, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(fleet_module, "REOPEN_SECONDS", 0.02)
    monkeypatch.setattr(fleet_module, "UNNEEDED_SECONDS", 0.02)

    def open(engine: EngineName, site: Site) -> Provisioner:
        if engine != "slurm":
            raise NotFound("there is no kubectl; install it")
        return members

    paddock.repos.create("data")
    # Members have work to wait for, and none is ever started as a process.
    members.behave(Behaviour(hold="no node is free"))
    started = Server(
        paddock.home,
        workers=0,
        cluster=cluster,
        settings=Settings(engine="slurm", pool_workers_max=3),
        open_provisioner=open,
    )
    started.start()
    yield started
    started.stop()
    members.kill_all()
    assert started.error is None


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not seen():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.01)


def apply(paddock: EmbeddedPaddock, name: str = "p", **fields: Any) -> None:
    paddock.pipelines.apply(
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["true"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            **fields,
        }
    )


def says(paddock: EmbeddedPaddock, text: str) -> bool:
    """Whether pool, pipeline and job say it, looked at alone and in lists."""
    reasons = [
        *(pool.reason for pool in paddock.pools.list()),
        paddock.pipelines.inspect("p").reason,
        paddock.pipelines.list()[0].reason,
        paddock.jobs.inspect("p@head").reason,
        paddock.jobs.list()[0].reason,
    ]
    return len(reasons) == 5 and all(text in reason if text else not reason for reason in reasons)


def test_whatever_keeps_workers_from_starting_is_said(
    paddock: EmbeddedPaddock, server: Server, members: LocalProvisioner
) -> None:
    apply(paddock)
    paddock.files.put("data@main:/a", b"a")
    until(lambda: says(paddock, "no worker can start: no node is free"), "what holds the worker")
    assert len(members.members()) == 1
    (pool,) = paddock.pools.list()
    assert (pool.engine, pool.waiting, pool.pipelines) == ("slurm", 1, ("default/p",))
    members.behave(Behaviour(away="the cluster can't be reached; see that it runs"))
    until(lambda: says(paddock, "the cluster can't be reached"), "that the engine is away")
    members.behave(Behaviour(hold="the image is being fetched"))
    until(lambda: says(paddock, "the image is being fetched"), "that it is there again")

    # A change of what workers are like makes another pool; the old one goes, with what waits in it.
    members.behave(Behaviour(refuse="partition gpu does not exist; name another", hold="no node is free"))
    apply(paddock, resource_requests={"memory": "1Gi"})
    until(lambda: says(paddock, "partition gpu does not exist"), "why a start is refused")
    (other,) = paddock.pools.list()
    assert other.name != pool.name
    assert "it is tried again" in other.reason
    paddock.jobs.stop("p@head")
    assert paddock.jobs.inspect("p@head").reason == "stopped by the user"
    paddock.pipelines.delete("p")
    until(lambda: not paddock.pools.list() and not paddock.pools.list_tokens(), "pools that are removed")


def test_a_start_that_fails_is_told_and_tried_again(
    paddock: EmbeddedPaddock, server: Server, members: LocalProvisioner
) -> None:
    members.behave(Behaviour(fail="the image has no such command"))
    apply(paddock)
    paddock.files.put("data@main:/a", b"a")
    until(lambda: says(paddock, "the image has no such command; it is tried again"), "the failure")
    members.behave(Behaviour(hold="no node is free"))
    until(lambda: says(paddock, "no node is free"), "the next start")


def test_a_job_says_that_its_first_worker_comes_and_a_minimum_is_there_without_work(
    paddock: EmbeddedPaddock, server: Server, members: LocalProvisioner
) -> None:
    members.behave(Behaviour(hold=" "))
    apply(paddock, parallelism_spec={"minimum": 2})
    until(lambda: len(members.members()) == 2, "the minimum")
    apply(paddock, "q", parallelism_spec={"minimum": 2})
    until(lambda: any(pool.pipelines == ("default/p", "default/q") for pool in paddock.pools.list()), "a shared pool")
    assert len(members.members()) == 2
    paddock.files.put("data@main:/a", b"a")
    until(lambda: paddock.jobs.inspect("q@head").reason == "its first worker is being started by slurm", "who comes")
    paddock.pipelines.delete("q")
    paddock.pipelines.delete("p")
    until(lambda: all(folder.state == "ended" for folder in members.members()), "workers that are cancelled")


def test_engines_that_can_not_be_used_and_pools_without_workers_say_so(
    paddock: EmbeddedPaddock, server: Server, cluster: Cluster
) -> None:
    apply(paddock, engine="kubernetes")
    apply(paddock, "q", engine="local", pool="lab", resource_requests={"memory": "1Gi"})
    paddock.files.put("data@main:/a", b"a")

    def reason(pipeline: str) -> str:
        return paddock.jobs.inspect(f"{pipeline}@head").reason

    until(lambda: "no worker can start: there is no kubectl; install it" in reason("p"), "the engine's fault")
    until(lambda: "no worker of pool lab has joined: start one with `paddock worker`" in reason("q"), "the pool's")
    assert paddock.pipelines.inspect("q").reason == reason("q")
    assert paddock.jobs.inspect("p@head").state == JobState.RUNNING

    # One joins that is too small for its datums.
    assert cluster.engine is not None
    cluster.engine.join(pool="lab", host="small", capacity=Capacity(4, 1 << 20, 1 << 30))
    until(lambda: "resource_requests.memory asks for 1" in reason("q"), "what is too small")
    assert reason("q").startswith("datums don't fit on the workers that have joined: ")
    (lab,) = [pool for pool in paddock.pools.list() if pool.name == "lab"]
    assert (lab.engine, lab.idle, lab.pipelines) == ("local", 1, ("default/q",))


def test_the_next_server_removes_what_nobody_needs_any_more(
    paddock: EmbeddedPaddock, server: Server, members: LocalProvisioner
) -> None:
    apply(paddock, parallelism_spec={"minimum": 1})
    until(lambda: [pool.waiting for pool in paddock.pools.list()] == [1], "a worker that waits")
    # The engine is away when the pipeline goes, and the server ends before it is back.
    members.behave(Behaviour(away="the cluster can't be reached"))
    paddock.pipelines.delete("p")
    until(lambda: [pool.pipelines for pool in paddock.pools.list()] == [()], "a pool that serves nobody")
    server.stop()
    members.behave(Behaviour(hold="no node is free"))
    following = Server(
        paddock.home,
        workers=0,
        cluster=Cluster(paddock.home, url="http://127.0.0.1:1"),
        settings=Settings(engine="slurm"),
        open_provisioner=lambda _engine, _site: members,
    )
    following.start()
    until(lambda: not paddock.pools.list() and not paddock.pools.list_tokens(), "a pool that is removed")
    following.stop()
    assert [member.state for member in members.members()] == ["ended"]
