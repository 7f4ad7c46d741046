"""What the steps for real clusters ask of one, against the API server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from paddock.runtime.engines.kubernetes.access import Access
from paddock.testing import clusters
from paddock.testing.clusters import Cluster, ClusterError
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.kinds import DEPLOYMENTS, NAMESPACES, PODS, ROLE_BINDINGS, ROLES
from paddock.testing.kubernetes.statuses import RefusedError

LABELS = {"app.kubernetes.io/name": "paddock", "app.kubernetes.io/component": "server"}
SPEC = {"containers": [{"name": "server", "image": "paddock:1"}]}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "paddock"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": SPEC},
    },
}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(clusters, "POLL_SECONDS", 0.01)
    found = Cluster(Access(api.url, "default"))
    found.create_namespace("lab", "baseline")
    yield found
    found.close()


def set_status(api: ApiServer, **status: Any) -> None:
    with api.objects.changing(PODS, "lab", "paddock-1") as pod:
        container = {"name": "server", "image": "paddock:1", "imageID": "", "ready": False, "restartCount": 0, **status}
        pod["status"]["containerStatuses"] = [container]


def test_a_deployment_is_waited_for_and_given_up_where_that_is_hopeless(api: ApiServer, cluster: Cluster) -> None:
    api.objects.create(DEPLOYMENTS, "lab", DEPLOYMENT)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "paddock-1", "labels": LABELS}, "spec": SPEC}
    api.objects.create(PODS, "lab", pod)
    with pytest.raises(AssertionError, match="Deployment paddock is ready: not within 0 s"):
        cluster.wait_deployed("lab", "paddock", seconds=0)
    set_status(api, state={"waiting": {"reason": "ErrImageNeverPull", "message": "it is not here"}})
    with pytest.raises(AssertionError, match="server: ErrImageNeverPull: it is not here"):
        cluster.wait_deployed("lab", "paddock", seconds=60)
    ended = {"terminated": {"exitCode": 7, "message": "no permission for it"}}
    set_status(api, state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3, lastState=ended)
    with pytest.raises(AssertionError, match="server ended 3 times, exit code 7: no permission for it"):
        cluster.wait_deployed("lab", "paddock", seconds=60)
    shown = cluster.describe("lab")
    assert "paddock-1 Pending" in shown
    assert "## paddock-1/server, before it was started again" in shown
    set_status(api)
    ready = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    with api.objects.changing(DEPLOYMENTS, "lab", "paddock") as deployment:
        deployment["status"] = ready
    cluster.wait_deployed("lab", "paddock", seconds=60)
    with api.objects.changing(DEPLOYMENTS, "lab", "paddock") as deployment:
        deployment["metadata"]["generation"] = 2  # changed, and nobody has looked at it yet
    with pytest.raises(AssertionError, match="not within 0 s"):
        cluster.wait_deployed("lab", "paddock", seconds=0)


def test_rights_are_those_of_the_roles_that_are_bound(api: ApiServer, cluster: Cluster) -> None:
    rights = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rights}/v1", "kind": "Role", "metadata": {"name": "reader"}}
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}]
    api.objects.create(ROLES, "lab", {**role, "rules": rules})
    binding = {"apiVersion": f"{rights}/v1", "kind": "RoleBinding", "metadata": {"name": "reader"}}
    subject = {"kind": "ServiceAccount", "name": "paddock", "namespace": "lab"}
    reference = {"apiGroup": rights, "kind": "Role", "name": "reader"}
    api.objects.create(ROLE_BINDINGS, "lab", {**binding, "roleRef": reference, "subjects": [subject]})
    assert cluster.may("lab", "paddock", "get", "pods")
    assert cluster.may("lab", "paddock", "get", "pods/log")
    assert not cluster.may("lab", "paddock", "delete", "pods")
    assert not cluster.may("lab", "other", "get", "pods")
    assert cluster.missing_rights("lab", {"pods": "get delete", "deployments.apps": "patch"}) == []


def test_a_question_is_asked_again_where_the_server_is_busy_and_a_change_is_not(
    api: ApiServer, cluster: Cluster
) -> None:
    busy = [RefusedError(500, "InternalError", "etcdserver: request timed out")] * 2
    api.trouble.refuse = lambda request: busy.pop() if busy else None
    assert cluster.pods("lab") == []
    busy.append(RefusedError(500, "InternalError", "etcdserver: request timed out"))
    with pytest.raises(ClusterError, match="500"):
        cluster.set_schedulable("none", schedulable=False)


def test_a_namespace_goes_with_pods_that_take_their_time(api: ApiServer, cluster: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "slow"}, "spec": {**SPEC, "nodeName": "far"}}
    api.objects.create(PODS, "lab", pod)
    cluster.delete_namespace("lab", seconds=20)
    assert "lab" not in {found["metadata"]["name"] for found in api.objects.select(NAMESPACES, None)}
