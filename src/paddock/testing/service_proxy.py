"""A Service of a cluster on loopback: requests go through the API server's own proxy, so neither kubectl nor a route to pods is needed.

The proxy takes paths apart and puts them together again: a `/` that is escaped in one arrives as a plain one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import httpx2

from paddock.testing.clusters import Cluster
from paddock.testing.http_relay import ask, body_of, pass_back

RETRY_SECONDS = 20.0
"""How long a request is made again that reaches no pod, as when the only one is being replaced."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    namespace: str
    name: str
    port: int

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/http:{self.name}:{self.port}/proxy"


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
        cluster, body, url = self.cluster, body_of(self), self.service.path + self.path
        end = time.monotonic() + (RETRY_SECONDS if isinstance(body, bytes) else 0.0)
        try:
            while True:
                headers, extensions = cluster.headers(), cluster.access.extensions
                with ask(cluster.proxied, self, url, body, headers, extensions) as answer:
                    if not _found_no_pod(answer):
                        pass_back(self, answer)
                        return
                if time.monotonic() >= end:
                    break
                time.sleep(0.5)  # The cluster is watched from outside, and says nothing when a pod is there.
        except (httpx2.HTTPError, OSError):
            pass
        # As a proxy whose server is gone: the connection ends, and the client says so.
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _relay  # noqa: N815 (the names that http.server calls)


def _found_no_pod(answer: httpx2.Response) -> bool:
    """Whether the API server itself says so, as a `Status`: the request went nowhere then."""
    if answer.status_code != 503 or not answer.headers.get("content-type", "").startswith("application/json"):
        return False
    answer.read()
    return b'"Status"' in answer.content
