"""The nodes of `paddock.testing.kubernetes`: pods that really run, as the real ones do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.containers import SYSTEM_IMAGE
from paddock.testing.kubernetes.kinds import EVENTS, NODES, PODS, SECRETS
from paddock.testing.kubernetes.kubelet import Kubelet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers are made by root")


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    nodes = {"one": {"cpu": "2", "memory": "4Gi"}, "two": {"cpu": "1", "memory": "1Gi"}}
    with ApiServer() as server, Kubelet(server, tmp_path, {"system:1": SYSTEM_IMAGE}, nodes=nodes) as kubelet:
        yield kubelet


def pod(
    name: str, script: str, *, image: str = "system:1", container: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    one = {"name": "one", "image": image, "command": ["sh", "-c", script], **(container or {})}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 20, "containers": [one], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def create(kubelet: Kubelet, found: dict[str, Any]) -> None:
    kubelet._objects.create(PODS, "default", found)


def until(kubelet: Kubelet, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The pods, once they are as wanted; looks after each change, and for what changes nothing, as a log."""
    objects = kubelet._objects
    for _ in range(300):
        found = objects.select(PODS, None)
        assert kubelet.error is None
        if wanted(found):
            return found
        with objects.changed:
            objects.changed.wait(0.1)
    raise AssertionError(f"never seen: {found}")


def phase_of(found: list[dict[str, Any]], name: str) -> str:
    return next((str(one["status"]["phase"]) for one in found if one["metadata"]["name"] == name), "")


def state_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[str, Any] = (found[0]["status"].get("containerStatuses") or [{"state": {}}])[0]["state"]
    return state


def test_a_pod_runs_with_volumes_secrets_and_init_containers_and_its_end_is_reported(kubelet: Kubelet) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aGVsbG8="}}
    kubelet._objects.create(SECRETS, "default", secret)
    shared = {"name": "shared", "mountPath": "/shared"}
    container = {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}],
        "volumeMounts": [shared, {"name": "s", "mountPath": "/var/run/s"}],
    }
    init = {
        "name": "init",
        "image": "system:1",
        "command": ["sh", "-c", "echo made >/shared/file"],
        "volumeMounts": [shared],
    }
    volumes = [{"name": "shared", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s"}}]
    script = "cat /shared/file /var/run/s/token; echo; echo $A $$; exit 3"
    create(kubelet, pod("p", script, container=container, initContainers=[init], volumes=volumes))
    found = until(kubelet, lambda pods: phase_of(pods, "p") == "Failed")
    ended = state_of(found)["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "made\nhello\nhello 1\n")
    assert kubelet.log("default", "p", "one") == "made\nhello\nhello 1\n"


def test_a_deleted_pod_gets_a_signal_and_its_grace(kubelet: Kubelet) -> None:
    create(kubelet, pod("p", "trap 'echo draining; exit 0' TERM; echo ready; while :; do sleep 0.1; done"))
    until(kubelet, lambda pods: phase_of(pods, "p") == "Running" and "ready" in kubelet.log("default", "p", "one"))
    kubelet._objects.delete(PODS, "default", "p", {})
    until(kubelet, lambda pods: not pods)


def test_one_that_does_not_end_is_killed(kubelet: Kubelet) -> None:
    create(kubelet, pod("p", "trap '' TERM; echo ready; while :; do sleep 1; done", terminationGracePeriodSeconds=1))
    until(kubelet, lambda pods: phase_of(pods, "p") == "Running" and "ready" in kubelet.log("default", "p", "one"))
    kubelet._objects.delete(PODS, "default", "p", {})
    until(kubelet, lambda pods: not pods)


def test_pods_go_where_there_is_room_and_the_others_say_why_not(kubelet: Kubelet) -> None:
    wanted = {"resources": {"requests": {"cpu": "1500m"}}}
    for name in ("a", "b"):
        create(kubelet, pod(name, "sleep 60", container=wanted))
    found = until(kubelet, lambda pods: any(one["status"].get("conditions", [{}])[0].get("message") for one in pods))
    messages = [one["status"]["conditions"][0].get("message", "") for one in found]
    assert any(message.startswith("0/2 nodes are available: 2 Insufficient cpu.") for message in messages)
    placed = next(one for one in found if one["spec"].get("nodeName"))
    assert placed["spec"]["nodeName"] == "one"
    kubelet._objects.delete(PODS, "default", placed["metadata"]["name"], {"gracePeriodSeconds": 0})
    until(kubelet, lambda pods: len(pods) == 1 and pods[0]["status"]["phase"] == "Running")


@pytest.mark.parametrize(
    ("image", "container", "reason"),
    [
        ("Wrong Name", {}, "InvalidImageName"),
        ("nowhere:1", {}, "ImagePullBackOff"),
        ("nowhere:1", {"imagePullPolicy": "Never"}, "ErrImageNeverPull"),
        (
            "system:1",
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "CreateContainerConfigError",
        ),
    ],
)
def test_what_can_not_start_waits_with_its_reason(
    kubelet: Kubelet, image: str, container: dict[str, Any], reason: str
) -> None:
    create(kubelet, pod("p", "true", image=image, container=container))
    until(kubelet, lambda pods: state_of(pods).get("waiting", {}).get("reason") == reason)


def test_a_missing_secret_volume_is_told_by_an_event_and_heals(kubelet: Kubelet) -> None:
    create(kubelet, pod("p", "true", volumes=[{"name": "s", "secret": {"secretName": "late"}}]))
    until(kubelet, lambda _pods: len(kubelet._objects.select(EVENTS, "default")) == 1)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}, "data": {}}
    kubelet._objects.create(SECRETS, "default", secret)
    until(kubelet, lambda pods: phase_of(pods, "p") == "Succeeded")


def test_a_lost_node_reports_nothing_any_more(kubelet: Kubelet) -> None:
    create(kubelet, pod("p", "sleep 60", container={"resources": {"requests": {"cpu": "1500m"}}}))
    until(kubelet, lambda pods: phase_of(pods, "p") == "Running")
    kubelet.lose_node("one")
    (found,) = kubelet._objects.select(PODS, None)
    assert found["status"]["phase"] == "Running"
    conditions = {one["type"]: one for one in found["status"]["conditions"]}
    assert conditions["Ready"] == {"type": "Ready", "status": "False"}, "the node controller gives no reason"
    assert conditions["ContainersReady"]["status"] == "True", "what the node said last"
    assert kubelet._objects.get(NODES, "", "one")["status"]["conditions"][0]["status"] == "Unknown"
