"""Pods from specs, checked against the published schemas; and what their status says to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from paddock.model.errors import InvalidInput
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.runtime.engines.kubernetes.pods import (
    HOME_LABEL,
    POOL_LABEL,
    RUNNER,
    PodSettings,
    PoolIdentity,
    build_pod,
    build_secret,
    check_pod,
)
from paddock.runtime.engines.kubernetes.reasons import read_events, read_pod
from paddock.runtime.engines.provisioner import MemberState
from paddock.testing.kubernetes import pod_rules, schemas

HOME = "0123456789abcdef" * 2
IDENTITY = PoolIdentity(HOME, "kubernetes-5b76ad000bad")
SETTINGS = PodSettings(worker_image="paddock:1", url="http://paddock:1659")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def spec_of(transform: Mapping[str, Any] | None = None, **fields: Any) -> PipelineSpec:
    data = {"pipeline": "p", "input": {"pfs": {"repo": "a", "glob": "/*"}}, "engine": "kubernetes", **fields}
    return validate_spec({**data, "transform": {"cmd": ["true"], **(transform or {})}}).spec


def pod_of(
    transform: Mapping[str, Any] | None = None, *, settings: PodSettings = SETTINGS, **fields: Any
) -> dict[str, Any]:
    secret = build_secret(IDENTITY, "secret", None)
    schemas.check(secret)
    secret["metadata"]["uid"] = "42"
    pod = build_pod(spec_of(transform, **fields), settings, IDENTITY, f"{IDENTITY.prefix}-abcdefgh", secret)
    schemas.check(pod)
    pod_rules.check(pod)
    return pod


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in pod_rules.containers(pod) if one["name"] == name]
    return found


def test_the_users_container_has_its_image_and_nothing_of_ours_but_the_runner() -> None:
    pod = pod_of({"image": "edges:1"})
    user = container(pod, "user")
    assert user["image"] == "edges:1"
    assert user["command"] == ["/paddock/runner", "/paddock/runner.sock"]
    assert "securityContext" not in user
    assert "env" not in user
    assert [mount["mountPath"] for mount in user["volumeMounts"]] == ["/paddock", "/pfs", "/pfs/out"]
    assert "secret" not in json.dumps(pod).replace('"secretName"', "").replace('"secret": {', ""), (
        "the token is nowhere"
    )


def test_our_containers_may_do_nothing_that_they_need_not() -> None:
    pod = pod_of()
    for name in ("runner", "paddock"):
        security = container(pod, name)["securityContext"]
        assert security["runAsNonRoot"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security["allowPrivilegeEscalation"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["restartPolicy"] == "Never"
    command = container(pod, "paddock")["command"]
    assert command[:5] == [RUNNER, "--init", "paddock", "--url", "http://paddock:1659"]
    assert command[command.index("--name") + 1] == pod["metadata"]["name"]


def test_a_pod_is_found_by_its_labels_and_goes_with_its_secret() -> None:
    pod = pod_of(metadata={"labels": {"team": "vision", HOME_LABEL: "stolen"}, "annotations": {"why": "because"}})
    assert pod["metadata"]["labels"]["team"] == "vision"
    assert pod["metadata"]["labels"][HOME_LABEL] == HOME
    assert pod["metadata"]["labels"][POOL_LABEL] == IDENTITY.pool
    assert pod["metadata"]["annotations"] == {"why": "because"}
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Secret", "42", True)
    assert len(pod["metadata"]["name"]) <= 63


@pytest.mark.parametrize("pool", ["UPPER_case", "x" * 63, "--", "a-" * 31])
def test_any_pool_has_names_that_kubernetes_takes(pool: str) -> None:
    secret = build_secret(PoolIdentity(HOME, pool), "t", None)
    assert len(secret["metadata"]["name"]) <= 49
    assert secret["metadata"]["name"].strip("-") == secret["metadata"]["name"]


def test_resources_are_the_datums_in_the_users_container() -> None:
    pod = pod_of(
        resource_requests={"cpu": "500m", "memory": "1Gi", "disk": "2G"},
        resource_limits={"memory": "2Gi", "gpu": {"number": 2}},
        sidecar_resource_limits={"cpu": 2},
    )
    assert container(pod, "user")["resources"] == {
        "requests": {"cpu": "500m", "memory": str(1 << 30), "ephemeral-storage": str(2 * 10**9), "nvidia.com/gpu": "2"},
        "limits": {"memory": str(2 << 30), "nvidia.com/gpu": "2"},
    }
    assert container(pod, "paddock")["resources"] == {
        "requests": {"cpu": "2000m", "memory": str(256 << 20)},
        "limits": {"cpu": "2000m"},
    }
    variables = {one["name"]: one["value"] for one in container(pod, "paddock")["env"]}
    assert variables["PADDOCK_GPUS"] == "0,1"
    assert variables["PADDOCK_MEMORY"] == str(1 << 30)


def test_a_spec_without_resources_asks_for_a_cpu() -> None:
    assert container(pod_of(), "user")["resources"] == {"requests": {"cpu": "1000m"}}
    small = PodSettings(worker_image="paddock:1", url="http://x", cpu=0.1)
    assert container(pod_of(settings=small), "user")["resources"] == {"requests": {"cpu": "100m"}}
    assert container(pod_of(resource_limits={"cpu": 0.2}), "user")["resources"]["requests"] == {"cpu": "200m"}


def test_secrets_are_files_and_variables_of_the_users_container_alone() -> None:
    secrets = [
        {"name": "db", "key": "password", "env_var": "PASSWORD", "mount_path": "/db"},
        {"name": "ca", "mount_path": "/ca"},
    ]
    pod = pod_of({"secrets": secrets, "image_pull_secrets": ["registry"], "memory_volume": True, "user": "1000:100"})
    user = container(pod, "user")
    assert user["env"] == [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    assert [mount["mountPath"] for mount in user["volumeMounts"][3:]] == ["/db", "/ca"]
    assert user["securityContext"] == {"runAsUser": 1000, "runAsGroup": 100}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["pfs"]["emptyDir"] == {"medium": "Memory"}
    assert volumes["secret-1"]["secret"] == {"secretName": "ca"}
    assert "db" not in json.dumps(container(pod, "paddock"))


def test_placement_is_passed_on() -> None:
    pod = pod_of(
        scheduling_spec={"node_selector": {"disk": "fast"}, "priority_class_name": "high"},
        tolerations=[
            {"key": "spot", "operator": "EQUAL", "value": "yes", "effect": "NO_SCHEDULE"},
            {"operator": "EXISTS", "effect": "NO_EXECUTE", "toleration_seconds": 5},
            {"operator": "EXISTS"},
        ],
    )["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "disk": "fast"}
    assert pod["priorityClassName"] == "high"
    assert pod["tolerations"] == [
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        {"operator": "Exists"},
    ]


def test_images_and_pull_policies_can_be_set() -> None:
    settings = PodSettings("ours:1", "http://x", user_image="theirs:1", pull_policy="Never", pull_secrets=("a", "b"))
    pod = pod_of(settings=settings)
    assert {(one["image"], one["imagePullPolicy"]) for one in pod_rules.containers(pod)} == {
        ("ours:1", "Never"),
        ("theirs:1", "Never"),
    }
    assert pod["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize(
    ("user", "expected"), [("", {}), ("app", {}), ("1000:100", {"runAsUser": 1000, "runAsGroup": 100})]
)
def test_every_container_keeps_to_the_strictest_level_where_that_is_wished(user: str, expected: dict[str, int]) -> None:
    transform = {"user": user} if user else {}
    assert pod_rules.security_faults(pod_of(transform), "restricted"), "an image is untouched otherwise"
    pod = pod_of(transform, settings=PodSettings("ours:1", "http://x", restricted=True))
    assert pod_rules.security_faults(pod, "restricted") == []
    unprivileged = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container(pod, "user")["securityContext"] == {**unprivileged, **expected}


def test_a_quota_of_limits_can_be_kept_to_in_every_container() -> None:
    limits = {"cpu": 1, "memory": "1Gi"}
    pod = pod_of(resource_limits=limits, sidecar_resource_limits=limits)
    for one in pod_rules.containers(pod):
        assert one["resources"]["limits"].keys() == {"cpu", "memory"}


def test_a_worker_with_the_stores_credentials_goes_there_itself() -> None:
    worker = container(pod_of(settings=PodSettings("ours:1", "http://x", storage_secret="s3")), "paddock")
    assert "--direct" in worker["command"]
    assert worker["envFrom"] == [{"secretRef": {"name": "s3"}}]


def test_patches_change_the_pod() -> None:
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    pod = pod_of(
        pod_spec={"runtimeClassName": "gvisor", "nodeSelector": {"kubernetes.io/os": None}},
        pod_patch=[
            {"op": "add", "path": "/volumes/-", "value": volume},
            {"op": "add", "path": "/containers/0/volumeMounts/-", "value": {"name": "models", "mountPath": "/models"}},
            {"op": "test", "path": "/containers/0/name", "value": "user"},
            {"op": "test", "path": "/containers/1/name", "value": "paddock"},
        ],
    )
    assert pod["spec"]["runtimeClassName"] == "gvisor"
    assert pod["spec"]["nodeSelector"] == {}
    assert pod["spec"]["volumes"][-1] == volume


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"pod_patch": [{"op": "remove", "path": "/nothing"}]},
            "pod_patch: operation 0 (remove /nothing): there is nothing at",
        ),
        (
            {"pod_patch": [{"op": "remove", "path": "/containers/1"}]},
            "pod_patch: leaves the pod without its containers user and",
        ),
        ({"pod_spec": {"containers": []}}, "pod_spec: leaves the pod without its containers user and paddock; add to"),
        ({"pod_spec": {"restartPolicy": "Always"}}, "pod_spec: changes restartPolicy; leave it at Never"),
        (
            {"pod_patch": [{"op": "replace", "path": "/volumes", "value": []}]},
            "pod_patch: takes away a volume of Paddock's",
        ),
        ({"pod_patch": [{"op": "replace", "path": "", "value": []}]}, "pod_patch: leaves the pod without"),
        ({"metadata": {"labels": {"a b": "c"}}}, "metadata.labels.a b: is no key for Kubernetes"),
        ({"metadata": {"labels": {"a": "b c"}}}, "metadata.labels.a: 'b c' is no label's value"),
        ({"metadata": {"annotations": {"a/b/c": ""}}}, "metadata.annotations.a/b/c: is no key"),
        (
            {"scheduling_spec": {"node_selector": {"a": "b c"}}},
            "scheduling_spec.node_selector.a: no node can have the label",
        ),
    ],
)
def test_what_makes_no_pod_is_refused_with_its_place(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_pod(spec_of(**fields))
    assert [str(problem)[: len(expected)] for problem in caught.value.problems] == [expected]


# ---- what a status says ------------------------------------------------------------------------------------------


def status(
    phase: str = "Pending",
    *,
    user: Mapping[str, Any] | None = None,
    worker: Mapping[str, Any] | None = None,
    init: Mapping[str, Any] | None = None,
    conditions: Mapping[str, tuple[str, str, str]] | None = None,
    deleted: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A pod in this state. user, worker, init: state and its fields; conditions: type → (status, reason, message)."""
    pod = pod_of({"image": "edges:1"}, resource_limits={"memory": "1Gi"})
    pod["spec"]["nodeName"] = "node-1"
    if deleted:
        pod["metadata"] |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30}
    statuses = [
        {"name": name, "image": container(pod, name)["image"], "state": dict(state)}
        for name, state in (("user", user), ("paddock", worker))
        if state is not None
    ]
    pod["status"] = {
        "phase": phase,
        "containerStatuses": statuses,
        "initContainerStatuses": [{"name": "runner", "image": "paddock:1", "state": dict(init)}] if init else [],
        "conditions": [
            {"type": kind, "status": value, "reason": reason, "message": message}
            for kind, (value, reason, message) in (conditions or {}).items()
        ],
        **more,
    }
    return pod


RUNNING = {"running": {}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


NOT_SCHEDULED = (
    "0/2 nodes are available: 2 Insufficient memory. preemption: 0/2 nodes are available: 2 No preemption victims."
)
CASES: list[tuple[dict[str, Any], MemberState, str, bool]] = [
    (status("Succeeded"), MemberState.ENDED, "", True),
    (status("Running", user=RUNNING, worker=RUNNING), MemberState.STARTED, "", True),
    (status("Running", user=waiting("ContainerCreating"), worker=RUNNING), MemberState.WAITING, "", True),
    (
        status(init=RUNNING, user=waiting("PodInitializing"), worker=waiting("PodInitializing")),
        MemberState.WAITING,
        "",
        True,
    ),
    (
        status(conditions={"PodScheduled": ("False", "Unschedulable", NOT_SCHEDULED)}),
        MemberState.WAITING,
        "no node can take the pod: 0/2 nodes are available: 2 Insufficient memory; ask for less (resource_requests), add nodes, or",
        True,
    ),
    (
        status(conditions={"PodScheduled": ("False", "Unschedulable", "1 node(s) had untolerated taint {spot: yes}.")}),
        MemberState.WAITING,
        "no node can take the pod: 1 node(s) had untolerated taint {spot: yes}; add to tolerations",
        True,
    ),
    (
        status(
            conditions={
                "PodScheduled": ("False", "Unschedulable", "2 node(s) didn't match Pod's node affinity/selector.")
            }
        ),
        MemberState.WAITING,
        "no node can take the pod: 2 node(s) didn't match Pod's node affinity/selector; mend scheduling_spec.node_selector",
        True,
    ),
    (
        status(user=waiting("ImagePullBackOff", 'Back-off pulling image "edges:1"'), worker=RUNNING),
        MemberState.WAITING,
        'image edges:1 can\'t be pulled: Back-off pulling image "edges:1"; check the name (transform.image), the registry',
        False,
    ),
    (
        status(user=waiting("InvalidImageName")),
        MemberState.WAITING,
        "'edges:1' is not the name of an image; mend",
        False,
    ),
    (
        status(user=waiting("ErrImageNeverPull")),
        MemberState.WAITING,
        "image edges:1 is not on the node, and the pull",
        False,
    ),
    (
        status(user=waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")),
        MemberState.WAITING,
        (
            "the container of the user's image can't be set up: container has runAsNonRoot and image will run as root;"
            " name a user by its number in transform.user"
        ),
        False,
    ),
    (
        status(user=waiting("CreateContainerConfigError", 'secret "db" not found')),
        MemberState.WAITING,
        "the container of the user's image can't be set up: secret \"db\" not found; create the Secret or key",
        False,
    ),
    (
        status("Running", user=ended(137, "OOMKilled"), worker=RUNNING),
        MemberState.STARTED,
        "the container of the user's image needed more memory than it may have (its limit is 1 GiB), and was ended; raise",
        True,
    ),
    (
        status("Failed", user=ended(137, "OOMKilled"), worker=ended(1, "Error", "lost\nthe runner has gone\n")),
        MemberState.ENDED,
        "the container of the user's image needed more memory than it may have (its limit is 1 GiB)",
        True,
    ),
    (
        status("Failed", user=ended(0, "Completed"), worker=ended(137, "OOMKilled")),
        MemberState.ENDED,
        "Paddock's container needed more memory than it may have, and was ended; raise sidecar_resource_limits.memory",
        True,
    ),
    (
        status("Failed", user=ended(0, "Completed"), worker=ended(3, "Error", "error: name the token\n")),
        MemberState.ENDED,
        "Paddock's container ended with exit code 3: error: name the token",
        True,
    ),
    (
        status("Failed", user=ended(128, "StartError", "exec /paddock/runner: exec format error"), worker=ended(143)),
        MemberState.ENDED,
        "the container of the user's image can't be started: exec /paddock/runner: exec format error; is the image for this",
        False,
    ),
    (
        status("Failed", init=ended(127, "Error", "sh: no runner")),
        MemberState.ENDED,
        "container runner failed with exit code 127: sh: no runner; is PADDOCK_WORKER_IMAGE Paddock's image?",
        True,
    ),
    (
        status("Failed", reason="Evicted", message="The node was low on resource: memory. "),
        MemberState.ENDED,
        "its node ended the pod to stay in work: The node was low on resource: memory; ask for more (resource_requests)",
        True,
    ),
    (
        status("Failed", conditions={"DisruptionTarget": ("True", "PreemptionByScheduler", "preempting")}),
        MemberState.ENDED,
        "a pod of higher priority took its place; another one is started",
        True,
    ),
    (
        status("Failed", conditions={"DisruptionTarget": ("True", "DeletionByPodGC", "")}),
        MemberState.ENDED,
        "node node-1 is gone; another one is started",
        True,
    ),
    (
        status("Failed", reason="Terminated", message="Pod was terminated in response to imminent node shutdown."),
        MemberState.ENDED,
        "its node was shut down: Pod was terminated in response to imminent node shutdown; another one",
        True,
    ),
    (
        status(
            "Failed", reason="DeadlineExceeded", message="Pod was active on the node longer than the specified deadline"
        ),
        MemberState.ENDED,
        "the pod ran longer than its activeDeadlineSeconds",
        True,
    ),
    (
        status("Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
        MemberState.ENDED,
        "node node-1 refused the pod (OutOfcpu): Node didn't have enough resource: cpu",
        True,
    ),
    (
        status(
            "Running",
            user=RUNNING,
            worker=RUNNING,
            # As the node controller leaves it: it takes Ready back, and gives no reason.
            conditions={"Ready": ("False", "", ""), "ContainersReady": ("True", "", "")},
        ),
        MemberState.STARTED,
        "node node-1 does not answer; what ran there goes to other workers",
        True,
    ),
    (
        status(
            "Running",
            user=RUNNING,
            worker=RUNNING,
            conditions={"Ready": ("False", "ReadinessGatesNotReady", "a gate"), "ContainersReady": ("True", "", "")},
        ),
        MemberState.STARTED,
        "",
        True,
    ),
    (
        status("Running", user=RUNNING, worker=RUNNING, deleted="2029-12-31T23:59:59Z"),
        MemberState.STARTED,
        "",
        True,
    ),
    (
        status(
            "Running",
            user=RUNNING,
            worker=RUNNING,
            deleted="2030-01-01T00:00:20Z",
            conditions={"DisruptionTarget": ("True", "EvictionByEvictionAPI", "")},
        ),
        MemberState.STARTED,
        "its node is being drained; another one is started elsewhere",
        True,
    ),
    (
        status("Running", user=RUNNING, worker=RUNNING, deleted="2029-12-31T23:59:00Z"),
        MemberState.ENDED,
        "node node-1 does not confirm that the pod has ended",
        True,
    ),
    (status("Failed", message="something new"), MemberState.ENDED, "the pod failed: something new; another one", True),
]


@pytest.mark.parametrize(
    ("pod", "state", "reason", "retry"), CASES, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_a_status_becomes_a_state_and_a_reason(
    pod: dict[str, Any], state: MemberState, reason: str, retry: bool
) -> None:
    seen = read_pod(pod, NOW)
    assert (seen.state, seen.retry) == (state, retry)
    assert seen.reason[: len(reason)] == reason
    assert bool(seen.reason) == bool(reason)


@pytest.mark.parametrize(
    ("reason", "cause", "taken"),
    [
        ("", "PreemptionByScheduler", True),
        ("NodeLost", "", True),
        ("Evicted", "TerminationByKubelet", False),
        ("DeadlineExceeded", "", False),
        ("", "", False),
    ],
)
def test_a_pod_that_is_taken_away_says_nothing_of_what_it_ran(reason: str, cause: str, taken: bool) -> None:
    conditions = {"DisruptionTarget": ("True", cause, "")} if cause else {}
    assert read_pod(status("Failed", reason=reason, conditions=conditions), NOW).taken is taken


def test_only_events_tell_why_a_volume_is_not_there() -> None:
    pod = status(init=waiting("PodInitializing"), user=waiting("PodInitializing"), worker=waiting("PodInitializing"))
    assert read_pod(pod, NOW).mounting
    message = 'MountVolume.SetUp failed for volume "secret-0" : secret "db" not found'
    events = [
        {"type": "Normal", "reason": "Scheduled", "message": "", "lastTimestamp": "2030-01-01T00:00:09Z"},
        {"type": "Warning", "reason": "FailedMount", "message": message, "lastTimestamp": "2030-01-01T00:00:02Z"},
        {"type": "Warning", "reason": "FailedMount", "message": "older", "lastTimestamp": "2030-01-01T00:00:01Z"},
    ]
    assert (
        read_events(events)
        == f"a volume can't be mounted: {message}; create the Secret or volume that is missing, or mend the spec"
    )
    assert read_events(events[:1]) == ""
