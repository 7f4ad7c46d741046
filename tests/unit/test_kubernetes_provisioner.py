"""The provisioner against the API server of `paddock.testing.kubernetes`; the tests are the scheduler and the kubelet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from paddock.model.errors import InvalidInput, LimitExceeded, PermissionDenied, Unavailable
from paddock.pipelines.spec import validate_spec
from paddock.runtime.engines.kubernetes import provisioner as module
from paddock.runtime.engines.kubernetes import watching
from paddock.runtime.engines.kubernetes.access import Access
from paddock.runtime.engines.kubernetes.client import KubernetesClient
from paddock.runtime.engines.kubernetes.provisioner import KubernetesProvisioner
from paddock.runtime.engines.provisioner import Member, MemberState, PoolTemplate, Site
from paddock.settings import Settings
from paddock.testing.helm import HelmError, Release, helm_installed, render
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.kinds import DEPLOYMENTS, EVENTS, NAMESPACES, PODS, QUOTAS, SECRETS
from paddock.testing.kubernetes.rights import Rule
from paddock.testing.kubernetes.statuses import RefusedError

HOME = "0123456789abcdef" * 2
POOL = "kubernetes-5b76ad000bad"
OTHER = "kubernetes-000000000000"
RIGHTS = [
    Rule(["pods"], ["get", "list", "watch", "create", "delete"]),
    Rule(["secrets"], ["create", "patch", "delete"]),
    Rule(["events"], ["list"]),
    Rule(["deployments"], ["get"], groups=["apps"], names=["paddock"]),
]
"""What note 034 promises to be enough."""
POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "b"}]}}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "paddock"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]},
    },
}
CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"


def template(pool: str = POOL, token: str = "secret", **fields: Any) -> PoolTemplate:
    data = {
        "pipeline": "p",
        "transform": {"cmd": ["true"], "image": "edges:1"},
        "input": {"pfs": {"repo": "a", "glob": "/*"}},
        "engine": "kubernetes",
        **fields,
    }
    return PoolTemplate(pool, validate_spec(data).spec, token)


@dataclass
class World:
    """A provisioner, its API server, and a clock that the test moves."""

    server: ApiServer
    provisioner: KubernetesProvisioner
    clock: list[float] = field(default_factory=lambda: [1000.0])

    def pods(self) -> list[dict[str, Any]]:
        return self.server.objects.select(PODS, "default")

    def names(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods()]

    def until(self, wanted: Callable[[Sequence[Member]], bool]) -> Sequence[Member]:
        """The members, once they are as wanted; woken by what the watch tells."""
        view = self.provisioner.view
        for _ in range(200):
            with view.changed:
                members = self.provisioner.members()
                if wanted(members):
                    return members
                view.changed.wait(0.1)
        raise AssertionError(f"never seen: {members}")

    def set(self, name: str, phase: str, **status: Any) -> None:
        with self.server.objects.changing(PODS, "default", name) as pod:
            pod["spec"]["nodeName"] = "node-1"
            pod["status"] = {"phase": phase, **status}

    def run(self, name: str) -> None:
        running = [
            {"name": one, "image": one, "imageID": one, "ready": True, "restartCount": 0, "state": {"running": {}}}
            for one in ("user", "paddock")
        ]
        self.set(name, "Running", containerStatuses=running)


@contextmanager
def provisioned(server: ApiServer, clock: list[float], **settings: Any) -> Iterator[KubernetesProvisioner]:
    given = {"worker_image": "paddock:1", "kubernetes_owner": "", **settings}
    site = Site(HOME, "http://paddock:1659", None, Settings(**given))
    client = KubernetesClient(Access(server.url, "default", token=server.token), wait=lambda _seconds: None)
    made = KubernetesProvisioner(site, client=client, monotonic=lambda: clock[0])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def world() -> Iterator[World]:
    clock = [1000.0]
    with ApiServer(token="t", rules=RIGHTS) as server, provisioned(server, clock) as provisioner:
        yield World(server, provisioner, clock)


def states(members: Sequence[Member]) -> list[MemberState]:
    return sorted(member.state for member in members)


def test_members_are_asked_for_seen_run_and_end(world: World) -> None:
    world.provisioner.start(template(), 2)
    members = world.provisioner.members()
    assert states(members) == [MemberState.WAITING] * 2
    assert {member.name for member in members} == set(world.names())
    assert {member.pool for member in members} == {POOL}
    first, second = world.names()
    world.run(first)
    world.until(lambda members: states(members) == [MemberState.STARTED, MemberState.WAITING])
    world.set(first, "Succeeded")
    ended = world.until(lambda members: MemberState.ENDED in states(members))
    assert [member.reason for member in ended if member.state is MemberState.ENDED] == [""]
    left = world.until(lambda members: len(members) == 1)
    assert [member.name for member in left] == [second], "one that ended in good order is deleted once that was told"
    assert world.names() == [second]


def test_the_token_is_in_a_secret_and_is_replaced(world: World) -> None:
    world.provisioner.start(template(token="first"), 1)
    world.provisioner.start(template(token="second"), 1)
    (secret,) = world.server.objects.select(SECRETS, "default")
    assert secret["data"] == {"token": "c2Vjb25k"}
    assert {pod["metadata"]["ownerReferences"][0]["uid"] for pod in world.pods()} == {secret["metadata"]["uid"]}


def test_removing_a_pool_leaves_nothing_behind(world: World) -> None:
    world.provisioner.start(template(), 2)
    world.run(world.names()[0])
    world.provisioner.start(template(OTHER), 1)
    world.provisioner.remove_pool(OTHER)
    world.provisioner.remove_pool(OTHER)
    assert {member.pool for member in world.until(lambda members: len(members) == 2)} == {POOL}
    world.provisioner.remove_pool(POOL)
    for pod in world.pods():  # the one on a node has its grace; its kubelet lets go of it
        world.server.objects.delete(PODS, "default", pod["metadata"]["name"], {"gracePeriodSeconds": 0})
    assert world.server.objects.select(SECRETS, "default") == []
    assert [member.reason for member in world.until(lambda members: MemberState.STARTED not in states(members))] in (
        [],
        [""],
    )
    assert world.pods() == []


def test_all_goes_with_the_servers_deployment() -> None:
    with ApiServer(rules=RIGHTS) as server, provisioned(server, [0.0], kubernetes_owner="paddock") as provisioner:
        with pytest.raises(
            InvalidInput, match="PADDOCK_KUBERNETES_OWNER names the Deployment paddock, which is not there"
        ):
            provisioner.start(template(), 1)
        server.objects.create(DEPLOYMENTS, "default", DEPLOYMENT)
        provisioner.start(template(), 2)
        server.objects.delete(DEPLOYMENTS, "default", "paddock", {})
        assert server.objects.select(PODS, "default") == server.objects.select(SECRETS, "default") == []


def test_another_server_finds_the_members(world: World) -> None:
    world.provisioner.start(template(), 2)
    with provisioned(world.server, world.clock) as successor:
        assert {member.name for member in successor.members()} == set(world.names())
        successor.cancel(world.names())
    world.until(lambda members: not members)


def test_a_pod_of_another_home_is_not_ours(world: World) -> None:
    world.provisioner.start(template(), 1)
    with world.server.objects.changing(PODS, "default", world.names()[0]) as pod:
        pod["metadata"]["labels"]["paddock/home"] = "f" * 32
    world.until(lambda members: not members)


def test_a_failed_member_tells_why_and_is_kept_for_a_while(world: World) -> None:
    world.provisioner.start(template(), 1)
    (name,) = world.names()
    world.set(name, "Failed", reason="Evicted", message="The node was low on resource: memory.")
    (member,) = world.until(lambda members: states(members) == [MemberState.ENDED])
    assert member.reason.startswith("its node ended the pod to stay in work: The node was low on resource: memory")
    world.clock[0] += module.FAILED_KEPT_SECONDS - 1
    assert len(world.provisioner.members()) == 1
    assert world.names() == [name]
    world.clock[0] += 2
    assert world.provisioner.members() == []
    assert world.names() == []


def test_a_member_that_was_cancelled_ends_without_a_reason(world: World) -> None:
    world.provisioner.start(template(), 2)
    first, second = world.names()
    world.run(first)
    world.until(lambda members: MemberState.STARTED in states(members))
    world.provisioner.cancel([first, second, "never-there"])
    members = world.until(lambda members: states(members) == [MemberState.ENDED, MemberState.STARTED])
    assert {member.reason for member in members} == {""}
    world.set(first, "Failed", containerStatuses=[])
    world.until(lambda members: states(members) == [MemberState.ENDED])
    world.server.objects.delete(PODS, "default", first, {"gracePeriodSeconds": 0})
    world.until(lambda members: not members)


def test_a_pod_that_somebody_deletes_ends_with_that_reason(world: World) -> None:
    world.provisioner.start(template(), 1)
    world.server.objects.delete(PODS, "default", world.names()[0], {})
    (member,) = world.until(lambda members: states(members) == [MemberState.ENDED])
    assert member.reason == "somebody deleted the pod; another one is started where there is work"
    assert world.provisioner.members() == []


def test_a_missing_volume_is_known_from_events(world: World) -> None:
    world.provisioner.start(template(), 1)
    (pod,) = world.pods()
    name = pod["metadata"]["name"]
    world.set(name, "Pending")
    message = 'MountVolume.SetUp failed for volume "secret-0" : secret "db" not found'
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]},
        "type": "Warning",
        "reason": "FailedMount",
        "message": message,
    }
    world.server.objects.create(EVENTS, "default", event)
    world.until(lambda members: bool(world.provisioner._mounting))  # it is known to be on a node
    assert world.provisioner.members()[0].reason == ""
    world.clock[0] += module.MOUNTING_SECONDS
    assert world.provisioner.members()[0].reason.startswith(f"a volume can't be mounted: {message}; create the Secret")
    world.run(name)
    assert world.until(lambda members: states(members) == [MemberState.STARTED])[0].reason == ""


def test_a_used_up_quota_starts_what_it_allows(world: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    world.server.objects.create(QUOTAS, "default", quota)
    with pytest.raises(LimitExceeded, match=r"exceeded quota: few.*raise the quota, or ask for less"):
        world.provisioner.start(template(), 5)
    assert len(world.provisioner.members()) == 2


def test_what_kubernetes_does_not_take_is_the_specs_fault(world: World) -> None:
    with pytest.raises(InvalidInput, match=r'unknown field "spec.hostNetwrok"'):
        world.provisioner.start(template(pod_spec={"hostNetwrok": True}), 1)
    assert world.provisioner.members() == []


def test_a_missing_right_is_named() -> None:
    clock = [0.0]
    with (
        ApiServer(rules=RIGHTS[1:]) as server,
        provisioned(server, clock) as provisioner,
        pytest.raises(PermissionDenied, match='cannot list resource "pods"'),
    ):
        provisioner.members()
    with (
        ApiServer(rules=[RIGHTS[0]]) as server,
        provisioned(server, clock) as provisioner,
        pytest.raises(PermissionDenied, match='cannot create resource "secrets"'),
    ):
        provisioner.start(template(), 1)


@pytest.mark.skipif(not helm_installed() and "CI" not in os.environ, reason="Helm is missing: install the extra `dev`")
def test_the_charts_role_is_what_the_provisioner_uses_and_no_more() -> None:
    (rendered,) = render(CHART, Release({}))
    assert not isinstance(rendered, HelmError)
    rules = [Rule.of(rule) for found in rendered if found["kind"] == "Role" for rule in found["rules"]]
    clock = [1000.0]
    with ApiServer(token="t", rules=rules) as server, provisioned(server, clock, kubernetes_owner="paddock") as made:
        world = World(server, made, clock)
        server.objects.create(DEPLOYMENTS, "default", DEPLOYMENT)
        made.start(template(), 1)
        made.start(template(token="another"), 1)
        first, _ = world.names()
        world.set(first, "Pending")
        world.until(lambda _: first in made._mounting)
        clock[0] += module.MOUNTING_SECONDS
        made.members()  # reads events
        with server.objects.changed:
            ghost = server.objects.create(PODS, "default", {**POD, "metadata": {"name": "ghost"}})
            server.objects.delete(PODS, "default", "ghost", {})
        made.view.add(ghost)
        clock[0] += watching.CONFIRM_SECONDS + 1
        made.members()  # asks for one that was never shown
        made.remove_pool(POOL)
        used = {(request.kind.group, request.resource, request.verb) for request in server.requests}
    granted = {
        (group, what, verb) for rule in rules for group in rule.groups for what in rule.resources for verb in rule.verbs
    }
    assert used == granted


def test_a_pod_that_is_gone_before_it_was_ever_shown_is_forgotten(world: World) -> None:
    world.provisioner.members()
    with world.server.objects.changed:
        made = world.server.objects.create(PODS, "default", {**POD, "metadata": {"name": "ghost"}})
        world.server.objects.delete(PODS, "default", "ghost", {})
        world.server.objects.forget_history()
    world.provisioner.view.add(made)  # as if the answer came late
    world.clock[0] += watching.CONFIRM_SECONDS + 1
    world.until(lambda members: not members)


def test_a_create_whose_answer_was_lost_makes_one_member(world: World) -> None:
    world.provisioner.members()
    world.server.trouble.lose_answers = 2
    world.provisioner.start(template(), 1)
    assert len(world.until(lambda members: len(members) == 1)) == len(world.pods()) == 1


def test_a_broken_watch_is_taken_up_where_it_ended(world: World) -> None:
    world.provisioner.start(template(), 1)
    (name,) = world.names()
    world.until(lambda members: len(members) == 1)
    lists = sum(request.verb == "list" for request in world.server.requests)
    world.server.break_watches()
    world.run(name)
    world.until(lambda members: states(members) == [MemberState.STARTED])
    assert sum(request.verb == "list" for request in world.server.requests) == lists


def test_after_410_it_lists_again_and_misses_no_end(world: World) -> None:
    world.provisioner.start(template(), 2)
    first, second = world.names()
    world.until(lambda members: len(members) == 2)
    with world.server.objects.changed:  # no watch looks in between
        world.server.objects.delete(PODS, "default", first, {})
        world.run(second)
        world.server.objects.forget_history()
    members = world.until(lambda members: MemberState.STARTED in states(members))
    assert {member.name: member.state for member in members} == {first: MemberState.ENDED, second: MemberState.STARTED}


def test_an_api_server_that_is_away_is_told_after_a_while_and_forgotten_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BACKOFF_SECONDS_MAX", 0.01)
    world.provisioner.start(template(), 1)
    world.until(lambda members: len(members) == 1)
    world.server.trouble.refuse = lambda _request: RefusedError(503, "ServiceUnavailable", "restarting")
    world.server.break_watches()
    view = world.provisioner.view
    with view.changed:
        assert view.changed.wait_for(lambda: view._out_since is not None, 10)
    assert len(world.provisioner.members()) == 1, "what was seen a moment ago still holds"
    world.clock[0] += watching.STALE_SECONDS + 1
    with pytest.raises(Unavailable, match="restarting"):
        world.provisioner.members()
    world.server.trouble.refuse = lambda _request: None
    with view.changed:
        assert view.changed.wait_for(lambda: view._out_since is None, 10)
    assert len(world.provisioner.members()) == 1


def test_an_answer_that_makes_no_sense_is_told_and_watching_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BACKOFF_SECONDS_MAX", 0.01)
    view = world.provisioner.view
    world.provisioner.start(template(), 1)
    world.until(lambda members: len(members) == 1)
    take, nonsense = view._take, [{"metadata": []}]

    def confused(kind: str, found: dict[str, Any]) -> None:
        take(kind, nonsense.pop() if nonsense else found)

    monkeypatch.setattr(view, "_take", confused)
    world.run(world.names()[0])
    world.until(lambda members: states(members) == [MemberState.STARTED])
    assert not nonsense


def test_a_namespace_that_enforces_restricted_takes_pods_that_keep_to_it(world: World) -> None:
    with world.server.objects.changing(NAMESPACES, "", "default") as namespace:
        namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    with pytest.raises(InvalidInput, match=r"violates PodSecurity.*workers\.podSecurity=restricted"):
        world.provisioner.start(template(), 1)
    with provisioned(world.server, world.clock, pod_security="restricted") as restricted:
        restricted.start(template(), 1)
    assert len(world.pods()) == 1


def test_the_engine_needs_an_image() -> None:
    with pytest.raises(InvalidInput, match="set PADDOCK_WORKER_IMAGE"):
        KubernetesProvisioner(Site(HOME, "http://x", None, Settings()))


def test_closing_is_quick_and_leaves_the_members(world: World) -> None:
    world.provisioner.start(template(), 1)
    world.provisioner.members()
    world.provisioner.close()
    world.provisioner.view._thread.join(5)
    assert not world.provisioner.view._thread.is_alive()
    assert len(world.pods()) == 1
