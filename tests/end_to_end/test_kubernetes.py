"""A server with `engine: kubernetes` against the API server and the nodes of `paddock.testing.kubernetes`: real pods, as processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock.client.connection import connect
from paddock.model.records import Job, JobState
from paddock.model.services import Paddock
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.containers import SYSTEM_IMAGE, paddock_image
from paddock.testing.kubernetes.kinds import PODS, SECRETS
from paddock.testing.kubernetes.kubelet import Kubelet
from paddock.testing.kubernetes.rights import Rule
from paddock.testing.servers import running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the containers of the tests' nodes are made by root"),
]
LIMIT_SECONDS = 100
RIGHTS = [
    Rule(["pods"], ["get", "list", "watch", "create", "delete"]),
    Rule(["secrets"], ["create", "patch", "delete"]),
    Rule(["events"], ["list"]),
]


@dataclass(frozen=True)
class World:
    paddock: Paddock
    api: ApiServer
    kubelet: Kubelet

    def pods(self) -> list[dict[str, Any]]:
        return self.api.objects.select(PODS, "default")

    def secrets(self) -> list[str]:
        return [found["metadata"]["name"] for found in self.api.objects.select(SECRETS, "default")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, runner_program: Path) -> Iterator[World]:
    """One server and one cluster for all tests here: each has a repo and pipelines of its own."""
    folder = tmp_path_factory.mktemp("kubernetes")
    images = {"paddock:test": paddock_image(runner_program), "system:1": SYSTEM_IMAGE}
    nodes = {"one": {"cpu": "1"}, "two": {"cpu": "1"}}
    with (
        pytest.MonkeyPatch.context() as environment,
        ApiServer(token="t", rules=RIGHTS) as api,
        Kubelet(api, folder / "nodes", images, nodes=nodes) as kubelet,
    ):
        set_environment(environment, folder, api)
        with (
            running_server(folder / ".paddock", workers=0) as server,
            connect(url=server.url, environment={}) as paddock,
        ):
            yield World(paddock, api, kubelet)


def set_environment(monkeypatch: pytest.MonkeyPatch, folder: Path, api: ApiServer) -> None:
    config = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": api.url}}],
        "users": [{"name": "test", "user": {"token": api.token}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("PADDOCK_ENGINE", "kubernetes")
    monkeypatch.setenv("PADDOCK_WORKER_IMAGE", "paddock:test")
    monkeypatch.setenv("PADDOCK_WORKER_CPU", "250m")


def until(seen: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not seen():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def apply(world: World, name: str, script: str, *, transform: dict[str, Any] | None = None, **fields: Any) -> None:
    """A pipeline over the repo of its name and `-data`."""
    world.paddock.pipelines.apply(
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-e", "-c", script], "image": "system:1", **(transform or {})},
            "input": {"pfs": {"name": "data", "repo": f"{name}-data", "glob": "/*"}},
            "parallelism_spec": {"constant": 3, "cool_down": "1s"},
            **fields,
        }
    )


def put(world: World, name: str, count: int) -> None:
    branch = f"{name}-data@main"
    world.paddock.repos.create(f"{name}-data")
    world.paddock.commits.start(branch)
    for number in range(count):
        world.paddock.files.put(f"{branch}:/f{number}", b"text %d\n" % number)
    world.paddock.commits.finish(branch)


def job_of(world: World, name: str) -> Job:
    (job,) = world.paddock.jobs.list(pipeline=name)
    return job


def finish(world: World, name: str) -> None:
    (job,) = world.paddock.jobs.wait([f"{name}@head"], timeout_seconds=LIMIT_SECONDS)
    assert (job.state, job.reason) == (JobState.SUCCESS, "")


def read(world: World, address: str) -> bytes:
    return b"".join(world.paddock.files.read(address))


def running(world: World) -> list[str]:
    """Names of pods of which both containers run."""
    return [
        pod["metadata"]["name"]
        for pod in world.pods()
        if [list(one["state"]) for one in pod["status"].get("containerStatuses", ())] == [["running"], ["running"]]
    ]


def test_from_no_pod_to_many_and_back_and_nothing_is_left(world: World) -> None:
    """Pods are taken away in between, which costs time and nothing else."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": "c2VzYW1l"}}
    world.api.objects.create(SECRETS, "default", secret)
    secrets = [{"name": "db", "key": "password", "env_var": "PASSWORD", "mount_path": "/var/run/db"}]
    script = "sleep 3; (cat $data; echo $PASSWORD; cat /var/run/db/password) | tr a-z A-Z > /pfs/out/$(basename $data)"
    put(world, "upper", 12)
    assert world.pods() == []
    apply(world, "upper", script, transform={"secrets": secrets})
    until(lambda: len(running(world)) == 3, lambda: f"{job_of(world, 'upper')} {world.pods()}")
    first, second, _ = running(world)
    world.api.objects.delete(PODS, "default", first, {"gracePeriodSeconds": 0})
    world.kubelet.kill("default", second, "user", reason="OOMKilled")
    finish(world, "upper")
    outputs = [read(world, f"upper:/f{number}") for number in range(12)]
    assert outputs == [b"TEXT %d\nSESAME\nSESAME" % number for number in range(12)]
    until(lambda: not running(world), lambda: f"idle pods stay: {world.pods()}")
    world.paddock.pipelines.delete("upper")
    until(lambda: not world.pods() and world.secrets() == ["db"], lambda: f"left: {world.pods()} {world.secrets()}")


def test_what_holds_pods_up_is_told_and_what_heals_goes_on(world: World) -> None:
    put(world, "late", 1)
    apply(world, "late", "(cat $data; id -u; id -g) > /pfs/out/f0", transform={"image": "late:1", "user": "1000:100"})
    put(world, "large", 1)
    apply(world, "large", "cp $data /pfs/out/", resource_requests={"cpu": 64})
    pull = "image late:1 can't be pulled: "
    until(lambda: pull in job_of(world, "late").reason, lambda: f"{job_of(world, 'late')} {world.pods()}")
    room = "no node can take the pod: 0/2 nodes are available: 2 Insufficient cpu; ask for less (resource_requests)"
    until(lambda: room in job_of(world, "large").reason, lambda: f"{job_of(world, 'large')} {world.pods()}")
    world.kubelet.images["late:1"] = SYSTEM_IMAGE
    finish(world, "late")
    assert read(world, "late:/f0") == b"text 0\n1000\n100\n"
    for name in ("late", "large"):
        world.paddock.pipelines.delete(name)
    until(
        lambda: not world.pods() and world.secrets() in ([], ["db"]), lambda: f"left: {world.pods()} {world.secrets()}"
    )
