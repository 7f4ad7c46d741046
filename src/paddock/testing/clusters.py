"""A real cluster, as a test drives it: its nodes and namespaces, evictions, and a way to a Service from outside.

The way leads through the API server's own proxy, so it needs neither kubectl nor a route to the pods.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import httpx2

from paddock.runtime.engines.kubernetes.access import Access

Object = dict[str, Any]

ANSWER_SECONDS = 60.0
POLL_SECONDS = 0.5
LOG_LINES = 60
_NOT_PASSED_ON = {"connection", "host", "keep-alive", "transfer-encoding", "authorization", "te", "upgrade"}


class ClusterError(Exception):
    """What the API server refuses."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Cluster:
    """Requests to an API server with all rights; answers are plain JSON."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.http = httpx2.Client(
            base_url=access.server,
            verify=access.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()

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
        content = None if body is None else json.dumps(body).encode()
        headers = {**self.headers(), "Accept": "application/json", "Content-Type": content_type}
        response = self.http.request(method, path, params=query, content=content, headers=headers)
        if response.is_error:
            raise ClusterError(response.status_code, response.text[:1000])
        found: Object = response.json()
        return found

    def items(self, path: str, labels: str = "") -> list[Object]:
        found: list[Object] = self.request("GET", path, labelSelector=labels)["items"]
        return found

    # ---- namespaces and nodes ------------------------------------------------------------------------------

    def create_namespace(self, name: str) -> None:
        metadata = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
        self.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def delete_namespace(self, name: str, *, seconds: float = 120) -> None:
        """Delete it with all that is in it, and wait until it is gone."""
        self.request("DELETE", f"/api/v1/namespaces/{name}")
        wait_until(f"namespace {name} is gone", lambda: not self._has(f"/api/v1/namespaces/{name}"), seconds=seconds)

    def set_schedulable(self, node: str, *, schedulable: bool) -> None:
        """As `kubectl cordon` and `uncordon` do."""
        changes = {"spec": {"unschedulable": None if schedulable else True}}
        self.request("PATCH", f"/api/v1/nodes/{node}", changes, content_type="application/merge-patch+json")

    def schedulable_nodes(self) -> list[str]:
        """Those that take any pod."""
        return [
            node["metadata"]["name"]
            for node in self.items("/api/v1/nodes")
            if not node.get("spec", {}).get("unschedulable")
            and not any(taint["effect"] != "PreferNoSchedule" for taint in node.get("spec", {}).get("taints", ()))
        ]

    # ---- pods ----------------------------------------------------------------------------------------------

    def pods(self, namespace: str, component: str = "") -> list[Object]:
        """Those of the chart and of its workers; component: `server` or `worker`."""
        labels = "app.kubernetes.io/name=paddock"
        return self.items(
            f"/api/v1/namespaces/{namespace}/pods",
            f"{labels},app.kubernetes.io/component={component}" if component else labels,
        )

    def delete_pod(self, pod: Object, *, grace_seconds: int) -> None:
        """grace_seconds 0: as if it was killed. One that is gone already is no error."""
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
        """Whether a service account of the namespace may do that, as the cluster's rights have it."""
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "name": name}
        spec = {"user": f"system:serviceaccount:{namespace}:{account}", "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool(
            self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
        )

    # ---- what a person would look at -----------------------------------------------------------------------

    def describe(self, namespace: str) -> str:
        """Pods, events and the ends of logs, for the message of a test that failed."""
        lines = [f"# pods of {namespace}"]
        pods = self.items(f"/api/v1/namespaces/{namespace}/pods")
        lines += [_pod_line(pod) for pod in pods]
        lines.append("# events")
        events = self.items(f"/api/v1/namespaces/{namespace}/events")
        lines += [
            f"{event.get('lastTimestamp') or event['metadata'].get('creationTimestamp')} {event['involvedObject'].get('name')}:"
            f" {event.get('reason')}: {event.get('message')}"
            for event in events[-40:]
        ]
        for pod in pods:
            for container in pod["spec"]["containers"]:
                lines.append(f"# log of {pod['metadata']['name']}/{container['name']}")
                lines.append(self._log(pod, container["name"]))
        return "\n".join(lines)

    def _log(self, pod: Object, container: str) -> str:
        query = {"container": container, "tailLines": str(LOG_LINES)}
        response = self.http.get(f"{_path_of(pod)}/log", params=query, headers=self.headers())
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


def _path_of(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _pod_line(pod: Object) -> str:
    status = pod.get("status", {})
    states = [
        f"{item['name']}={json.dumps(item.get('state', {}))}"
        for item in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    ]
    conditions = [
        f"{item['type']}: {item.get('message', item.get('reason', ''))}"
        for item in status.get("conditions", ())
        if item.get("status") == "False" and item.get("message")
    ]
    node = pod["spec"].get("nodeName", "no node")
    return f"{pod['metadata']['name']} {status.get('phase')} {node} {' '.join(states)} {' '.join(conditions)}"


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    namespace: str
    name: str
    port: int

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/http:{self.name}:{self.port}/proxy"


@dataclass(frozen=True, slots=True)
class Installation:
    """A release of the chart in a namespace of its own. url: of its server, from here."""

    cluster: Cluster
    namespace: str
    values: dict[str, Any]
    url: str
    upgrade: Callable[[Mapping[str, Any]], None]
    """To other values; waits until all is ready."""
    uninstall: Callable[[], None]


def image_values(image: str) -> dict[str, str]:
    """`repository:tag` or `repository@digest`, as the chart's values have it."""
    repository, at, digest = image.partition("@")
    if at:
        return {"repository": repository, "digest": digest}
    name, _, tag = image.rpartition(":")
    return {"repository": image, "tag": "latest"} if not name or "/" in tag else {"repository": name, "tag": tag}


class ServiceProxy:
    """Serves on `url`, on loopback, what a Service of the cluster serves, while the `with` block lasts."""

    def __init__(self, cluster: Cluster, service: ServiceAddress) -> None:
        handler = type("Handler", (_Handler,), {"cluster": cluster, "service": service})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ServiceProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="service-proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    service: ServiceAddress
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _relay(self) -> None:
        try:
            with self.cluster.http.stream(
                self.command,
                self.service.path + self.path,
                headers={"accept-encoding": "identity", **_passed_on(self.headers.items()), **self.cluster.headers()},
                content=self._body(),
            ) as answer:
                self.send_response(answer.status_code)
                for name, value in _passed_on(answer.headers.items()).items():
                    if name != "content-length":
                        self.send_header(name, value)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in answer.iter_raw():
                    if part:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")
        except (httpx2.HTTPError, OSError):
            # As a proxy whose server is gone: the connection ends, and the client says so.
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _relay  # noqa: N815 (the names that http.server calls)

    def _body(self) -> bytes | Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def _passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers if name.lower() not in _NOT_PASSED_ON}
