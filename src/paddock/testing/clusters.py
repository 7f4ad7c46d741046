"""A real cluster, as a test drives it: its nodes and namespaces, Deployments, evictions, and what to show of it when something fails."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from paddock.runtime.engines.kubernetes.access import Access
from paddock.testing import helm

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
POD_SECURITY = "pod-security.kubernetes.io/enforce"

ANSWER_SECONDS = 60.0
PROXY_SECONDS = 600.0
"""As long as Paddock's clients wait for an answer."""
POLL_SECONDS = 0.5
TRIES = 5
"""How often a question is asked that meets a server which is busy or away for a moment."""
LOG_LINES = 60
EVENTS_SHOWN = 60
CRASHES_MAX = 3
_PASSING = (429, 500, 502, 503, 504)


class ClusterError(Exception):
    """What the API server refuses."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Cluster:
    """Requests to an API server with all rights; answers are plain JSON. Thread-safe."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.http = self._client(httpx2.Timeout(ANSWER_SECONDS))
        self.proxied = self._client(httpx2.Timeout(PROXY_SECONDS, connect=ANSWER_SECONDS))
        """For what goes on to a Service, which may take its time."""

    def _client(self, timeout: httpx2.Timeout) -> httpx2.Client:
        verify = self.access.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx2.Client(base_url=self.access.server, verify=verify, timeout=timeout, trust_env=False)

    def close(self) -> None:
        self.http.close()
        self.proxied.close()

    def headers(self) -> dict[str, str]:
        authorization = self.access.authorization()
        return {"Authorization": authorization} if authorization else {}

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> Object:
        """The answer. ClusterError: it is refused. What only asks is asked again where the server is busy or away for a moment."""
        for tries_left in reversed(range(TRIES if method == "GET" else 1)):
            try:
                return self._request(method, path, body, content_type, query)
            except (ClusterError, httpx2.TransportError) as error:
                if not tries_left or (isinstance(error, ClusterError) and error.code not in _PASSING):
                    raise
                time.sleep(POLL_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _request(
        self, method: str, path: str, body: Object | None, content_type: str, query: Mapping[str, str]
    ) -> Object:
        content = None if body is None else json.dumps(body).encode()
        headers = {**self.headers(), "Accept": "application/json", "Content-Type": content_type}
        response = self.http.request(
            method, path, params=query, content=content, headers=headers, extensions=self.access.extensions
        )
        if response.is_error:
            raise ClusterError(response.status_code, response.text[:1000])
        found: Object = response.json()
        return found

    def items(self, path: str, labels: str = "") -> list[Object]:
        found: list[Object] = self.request("GET", path, labelSelector=labels)["items"]
        return found

    # ---- namespaces and nodes ------------------------------------------------------------------------------

    def create_namespace(self, name: str, security: str) -> None:
        """security: the level of Pod Security that it enforces (`baseline`, `restricted`)."""
        metadata = {"name": name, "labels": {POD_SECURITY: security}}
        self.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def enforce(self, namespace: str, security: str) -> None:
        """For pods that come from now on."""
        changes = {"metadata": {"labels": {POD_SECURITY: security}}}
        self.request("PATCH", f"/api/v1/namespaces/{namespace}", changes, content_type=MERGE_PATCH)

    def delete_namespace(self, name: str, *, seconds: float = 180) -> None:
        """Delete it with all that is in it, and wait until it is gone. Its pods have had the time that a test gives them."""
        self.request("DELETE", f"/api/v1/namespaces/{name}")
        for pod in self.items(f"/api/v1/namespaces/{name}/pods"):
            self.delete_pod(pod, grace_seconds=0)
        try:
            wait_until(
                f"namespace {name} is gone", lambda: not self._has(f"/api/v1/namespaces/{name}"), seconds=seconds
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe(name)}") from None

    def set_schedulable(self, node: str, *, schedulable: bool) -> None:
        """As `kubectl cordon` and `uncordon` do."""
        changes = {"spec": {"unschedulable": None if schedulable else True}}
        self.request("PATCH", f"/api/v1/nodes/{node}", changes, content_type=MERGE_PATCH)

    def schedulable_nodes(self) -> list[str]:
        """Those that take any pod."""
        return [
            node["metadata"]["name"]
            for node in self.items("/api/v1/nodes")
            if not node.get("spec", {}).get("unschedulable")
            and not any(taint["effect"] != "PreferNoSchedule" for taint in node.get("spec", {}).get("taints", ()))
        ]

    # ---- Deployments ---------------------------------------------------------------------------------------

    def wait_deployed(self, namespace: str, name: str, *, seconds: float) -> None:
        """Until a Deployment of servers is all that it was last told to be. AssertionError: it is not, and why, as far as can be seen."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"

        def deployed() -> bool:
            for pod in self.pods(namespace, "server"):
                if trouble := _hopeless(pod):
                    raise AssertionError(f"{pod['metadata']['name']} does not come: {trouble}")
            return _is_deployed(self.request("GET", path))

        wait_until(f"Deployment {name} is ready", deployed, seconds=seconds)

    # ---- pods ----------------------------------------------------------------------------------------------

    def pods(self, namespace: str, component: str = "") -> list[Object]:
        """Those of the chart and of its workers; component: `server` or `worker`."""
        labels = "app.kubernetes.io/name=paddock"
        return self.items(
            f"/api/v1/namespaces/{namespace}/pods",
            f"{labels},app.kubernetes.io/component={component}" if component else labels,
        )

    def delete_pod(self, pod: Object, *, grace_seconds: int) -> None:
        """One that is gone already is no error. grace_seconds 1: killed a second after it was told; with 0 the API server
        forgets it at once, and its node lets it go on for as long as its own grace is."""
        self._ignoring_absence("DELETE", _path_of(pod), {"gracePeriodSeconds": grace_seconds})

    def evict(self, pod: Object) -> bool:
        """As a drain does it; False where a disruption budget forbids it for now."""
        metadata = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        try:
            self._ignoring_absence("POST", f"{_path_of(pod)}/eviction", body)
        except ClusterError as error:
            if error.code == 429:
                return False
            raise
        return True

    def may(self, namespace: str, account: str, verb: str, resource: str, name: str = "", group: str = "") -> bool:
        """Whether a service account of the namespace may do that, as the cluster's rights have it. resource: `pods`, `pods/exec`."""
        spec = {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": _attributes(namespace, verb, resource, name, group),
        }
        return self._review({"kind": "SubjectAccessReview", "spec": spec})

    def missing_rights(self, namespace: str, needed: Mapping[str, str]) -> list[str]:
        """Which of the rights whoever asks here lacks. needed: verbs by `resource` or `resource.group`, as in `kubectl auth can-i`."""
        missing = []
        for place, verbs in needed.items():
            resource, _, group = place.partition(".")
            for verb in verbs.split():
                spec = {"resourceAttributes": _attributes(namespace, verb, resource, "", group)}
                if not self._review({"kind": "SelfSubjectAccessReview", "spec": spec}):
                    missing.append(f"{verb} {place}")
        return missing

    def _review(self, review: Object) -> bool:
        path = f"/apis/authorization.k8s.io/v1/{review['kind'].lower()}s"
        answer = self.request("POST", path, {"apiVersion": "authorization.k8s.io/v1", "metadata": {}, **review})
        return bool(answer["status"]["allowed"])

    # ---- what a person would look at -----------------------------------------------------------------------

    def describe(self, namespace: str) -> str:
        """Nodes, Deployments, claims, pods, events and the ends of logs, for the message of a test that failed."""
        sections: dict[str, Callable[[], Iterable[str]]] = {
            "nodes": lambda: map(_node_line, self.items("/api/v1/nodes")),
            "deployments": lambda: map(_status_line, self.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")),
            "claims": lambda: map(_status_line, self.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")),
            "pods": lambda: map(_pod_line, self.items(f"/api/v1/namespaces/{namespace}/pods")),
            "events": lambda: self._event_lines(namespace),
            "logs": lambda: self._log_lines(namespace),
        }
        lines = []
        for title, section in sections.items():
            lines.append(f"# {title}")
            try:
                lines += section()
            except (ClusterError, httpx2.HTTPError) as error:
                lines.append(f"can't be read: {error}")
        return "\n".join(lines)

    def _event_lines(self, namespace: str) -> Iterator[str]:
        events = self.items(f"/api/v1/namespaces/{namespace}/events")
        for event in sorted(events, key=_time_of)[-EVENTS_SHOWN:]:
            place = event.get("involvedObject", {}).get("name")
            yield f"{_time_of(event)} {place}: {event.get('reason')}: {event.get('message')}"

    def _log_lines(self, namespace: str) -> Iterator[str]:
        for pod in self.items(f"/api/v1/namespaces/{namespace}/pods"):
            for status in _statuses(pod):
                name = f"{pod['metadata']['name']}/{status['name']}"
                if status.get("restartCount"):
                    yield f"## {name}, before it was started again"
                    yield self._log(pod, status["name"], previous="true")
                yield f"## {name}"
                yield self._log(pod, status["name"])

    def _log(self, pod: Object, container: str, **more: str) -> str:
        query = {"container": container, "tailLines": str(LOG_LINES), **more}
        response = self.http.get(
            f"{_path_of(pod)}/log", params=query, headers=self.headers(), extensions=self.access.extensions
        )
        return response.text[-8000:]

    # ---- inside --------------------------------------------------------------------------------------------

    def _has(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except ClusterError as error:
            if error.code == 404:
                return False
            raise
        return True

    def _ignoring_absence(self, method: str, path: str, body: Object) -> None:
        try:
            self.request(method, path, body)
        except ClusterError as error:
            if error.code != 404:
                raise


def wait_until(what: str, condition: Callable[[], bool], *, seconds: float) -> None:
    """Ask until it is so. AssertionError: it never was, within the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        # A cluster is watched from outside here, at the pace at which it does something.
        time.sleep(POLL_SECONDS)


def is_running(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def is_worker(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"]["app.kubernetes.io/component"] == "worker")


def is_over(pod: Object) -> bool:
    """Whether it has ended, and is only kept to be looked at."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _is_deployed(deployment: Object) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return seen and all(status.get(count, 0) == wanted for count in ("replicas", "updatedReplicas", "readyReplicas"))


def _hopeless(pod: Object) -> str:
    """Why a pod will never run, where waiting does not help; empty where it may."""
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") in ("ErrImageNeverPull", "InvalidImageName"):
            return f"{status['name']}: {waiting['reason']}: {waiting.get('message', '')}"
        if status.get("restartCount", 0) >= CRASHES_MAX:
            last = status.get("lastState", {}).get("terminated", {})
            return f"{status['name']} ended {status['restartCount']} times, exit code {last.get('exitCode')}: {last.get('message', '')}"
    return ""


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _attributes(namespace: str, verb: str, resource: str, name: str, group: str) -> Object:
    plural, _, subresource = resource.partition("/")
    found = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": subresource}
    return found | ({"name": name} if name else {})


def _time_of(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))


def _node_line(node: Object) -> str:
    status, spec = node.get("status", {}), node.get("spec", {})
    ready = next((item["status"] for item in status.get("conditions", ()) if item["type"] == "Ready"), "?")
    taints = [f"{taint['key']}:{taint['effect']}" for taint in spec.get("taints") or ()]
    return f"{node['metadata']['name']} ready={ready} allocatable={json.dumps(status.get('allocatable', {}))} taints={taints}"


def _status_line(found: Object) -> str:
    return f"{found['metadata']['name']} {json.dumps(found.get('status', {}))}"


def _path_of(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _pod_line(pod: Object) -> str:
    status = pod.get("status", {})
    states = [f"{item['name']}={json.dumps(item.get('state', {}))}" for item in _statuses(pod)]
    conditions = [
        f"{item['type']}: {item.get('message', item.get('reason', ''))}"
        for item in status.get("conditions", ())
        if item.get("status") == "False" and item.get("message")
    ]
    node = pod["spec"].get("nodeName", "no node")
    return f"{pod['metadata']['name']} {status.get('phase')} {node} {' '.join(states)} {' '.join(conditions)}"


@dataclass(frozen=True, slots=True)
class Installation:
    """A release of the chart in a namespace of its own. values: with which it was installed. url: of its server, from here."""

    cluster: Cluster
    namespace: str
    values: dict[str, Any]
    url: str
    target: helm.Target

    def wait_ready(self, seconds: float) -> None:
        """Until the servers are those that were asked for. AssertionError: they are not, and why."""
        self.cluster.wait_deployed(self.namespace, self.target.name, seconds=seconds)


def image_values(image: str) -> dict[str, str]:
    """`repository:tag` or `repository@digest`, as the chart's values have it."""
    repository, at, digest = image.partition("@")
    if at:
        return {"repository": repository, "digest": digest}
    name, _, tag = image.rpartition(":")
    return {"repository": image, "tag": "latest"} if not name or "/" in tag else {"repository": name, "tag": tag}
