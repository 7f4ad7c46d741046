"""An API server on loopback, in this process: HTTP over `Objects`, with watches, patches, discovery and (if wished) rights.

`kubectl` works against it. It serves what tests need of Kubernetes, by the rules of Kubernetes; what it does not know it refuses.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx2

from paddock.model.json_patches import apply_operations, check_operations, merge
from paddock.testing.http_relay import ask, body_of, pass_back
from paddock.testing.kubernetes import protobuf
from paddock.testing.kubernetes.discovery import document_at
from paddock.testing.kubernetes.kinds import BY_PATH, PODS, REVIEWS, SERVICES, Kind
from paddock.testing.kubernetes.objects import Change, Objects
from paddock.testing.kubernetes.rights import Deed, Rule, review, rules_of
from paddock.testing.kubernetes.selectors import Selector, selector
from paddock.testing.kubernetes.statuses import Object, RefusedError, forbidden, not_found

BOOKMARK_SECONDS = 0.2
"""A minute on a real one; a test does not wait so long."""
WATCH_SECONDS_MAX = 600
_PROXY = re.compile(r"/api/v1/namespaces/([^/]+)/services/(?:http:)?([^/:]+)(?::\w+)?/proxy(/.*)?")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, understood. verb: as RBAC names it."""

    verb: str
    kind: Kind
    namespace: str | None
    name: str
    subresource: str
    query: Mapping[str, str]

    @property
    def resource(self) -> str:
        return self.kind.plural + (f"/{self.subresource}" if self.subresource else "")


@dataclass(slots=True)
class Trouble:
    """What is to go wrong with requests, set by tests."""

    refuse: Callable[[Request], RefusedError | None] = lambda _request: None
    """Asked first; what it returns is the answer."""
    lose_answers: int = 0
    """So many writes are done, and their answer is lost: the connection breaks."""
    stopped_watches: int = field(default=0)


class ApiServer:
    """Serves on `url` while the `with` block lasts. token: asked for with each request. rules: what its holder may do; None: all.

    accounts: service accounts by their token, who may do what the Roles say that are bound to them.
    """

    def __init__(
        self,
        *,
        objects: Objects | None = None,
        token: str = "",
        rules: Sequence[Rule] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.objects = objects or Objects()
        self.token = token
        self.rules = rules
        self.accounts: dict[str, str] = {}
        self.find_service: Callable[[str, str], str] = lambda _namespace, _name: "http://127.0.0.1:1"
        """The URL at which a Service (namespace, name) is reached from here, for requests through the proxy of the API server."""
        self.http = httpx2.Client(timeout=None, trust_env=False)
        self.trouble = Trouble()
        self.requests: list[Request] = []
        """All that were understood."""
        self.logs: Callable[[str, str, str], str] = lambda _namespace, _pod, _container: ""
        """What a container has written, for `kubectl logs`."""
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="api-server", daemon=True)

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.break_watches()
        self._server.shutdown()
        self._server.server_close()
        self.http.close()

    def break_watches(self) -> None:
        """End all watches, as a proxy or a restart does."""
        with self.objects.changed:
            self.trouble.stopped_watches += 1
            self.objects.changed.notify_all()

    # ---- requests ------------------------------------------------------------------------------------------

    def admit(self, request: Request, token: str) -> None:
        self.requests.append(request)
        user = self.accounts.get(token, "")
        if self.token and token != self.token and not user:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if (trouble := self.trouble.refuse(request)) is not None:
            raise trouble
        rules = rules_of(self.objects, user, request.namespace or "") if user else self.rules
        deed = Deed(request.verb, request.resource, request.kind.group, request.name)
        if rules is not None and not any(rule.allows(deed) for rule in rules):
            who = f'User "{user or "system:serviceaccount:default:paddock"}"'
            why = f'{who} cannot {request.verb} resource "{request.resource}" in API group "{request.kind.group}" in the namespace "{request.namespace}"'
            raise forbidden(request.kind.full_plural, request.name, why)

    def answer(self, request: Request, body: Object, content_type: str) -> tuple[int, Object]:
        kind, namespace, name = request.kind, request.namespace or "", request.name
        match request.verb:
            case "get":
                return 200, self.objects.get(kind, namespace, name)
            case "list":
                return 200, self._list(request)
            case "create" if request.subresource:
                return 201, self._create_sub(request, body)
            case "create" if kind in REVIEWS:
                return 201, review(self.objects, body)
            case "create":
                return 201, self.objects.create(kind, namespace, body)
            case "update":
                status = request.subresource == "status"
                return 200, self.objects.update(kind, namespace, name, body, status=status)
            case "patch":
                return 200, self._patch(request, body, content_type)
            case "delete":
                return 200, self.objects.delete(kind, namespace, name, {**_delete_options(request), **body})
            case "deletecollection":
                found = self.objects.select(kind, request.namespace, _selector(request))
                for one in found:
                    self.objects.delete(kind, one["metadata"].get("namespace", ""), one["metadata"]["name"], body)
                return 200, _list_of(kind, found, self.objects.version)
        raise RefusedError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _list(self, request: Request) -> Object:
        with self.objects.changed:
            found = self.objects.select(request.kind, request.namespace, _selector(request))
            first = int(request.query.get("continue") or 0)
            limit = int(request.query.get("limit") or 0) or len(found)
            listed = _list_of(request.kind, found[first : first + limit], self.objects.version)
            if first + limit < len(found):
                listed["metadata"] |= {"continue": str(first + limit), "remainingItemCount": len(found) - first - limit}
            return listed

    def _patch(self, request: Request, body: Object, content_type: str) -> Object:
        kind, namespace, name = request.kind, request.namespace or "", request.name
        with self.objects.changed:
            if content_type == "application/apply-patch+yaml":
                return self._apply(request, body)
            before = self.objects.get(kind, namespace, name)
            if content_type == "application/json-patch+json":
                operations = body if isinstance(body, list) else [body]
                if faults := check_operations(operations):
                    raise RefusedError(400, "BadRequest", faults[0][1])
                try:
                    found = apply_operations(before, operations)
                except ValueError as error:
                    raise RefusedError(422, "Invalid", str(error)) from None
            elif content_type == "application/merge-patch+json":
                found = merge(before, body)
            else:
                raise RefusedError(
                    415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content_type}"
                )
            return self.objects.update(kind, namespace, name, found, status=request.subresource == "status")

    def _apply(self, request: Request, body: Object) -> Object:
        """Create the object, or make it as it is said here: everything belongs to whoever applies, so no field is anybody else's."""
        kind, namespace, name = request.kind, request.namespace or "", request.name
        try:
            before = self.objects.get(kind, namespace, name)
        except RefusedError:
            return self.objects.create(kind, namespace, body)
        return self.objects.update(
            kind, namespace, name, {**body, "metadata": {**before["metadata"], **body["metadata"]}}
        )

    def _create_sub(self, request: Request, body: Object) -> Object:
        namespace, name = request.namespace or "", request.name
        if request.kind == PODS and request.subresource == "eviction":
            with self.objects.changing(PODS, namespace, name) as pod:
                condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
                condition["message"] = "Eviction API: evicting"
                pod["status"].setdefault("conditions", []).append(condition)
            self.objects.delete(PODS, namespace, name, body.get("deleteOptions") or {})
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        raise not_found(request.kind.full_plural, f"{name}/{request.subresource}")

    def watch(self, request: Request) -> Iterator[Object | None]:
        """Events, one by one; None: nothing happened for a moment. Ends after the time asked for, or when watches are broken."""
        select = _selector(request)
        end = time.monotonic() + min(float(request.query.get("timeoutSeconds") or WATCH_SECONDS_MAX), WATCH_SECONDS_MAX)
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        with self.objects.changed:
            round_number = self.trouble.stopped_watches
            asked = request.query.get("resourceVersion") or ""
            since = int(asked) if asked not in ("", "0") else self.objects.version
            first = [] if asked not in ("", "0") else self._list(request)["items"]
        for found in first:
            yield {"type": "ADDED", "object": found}
        while time.monotonic() < end and not self._closing.is_set():
            with self.objects.changed:
                if self.objects.version == since:
                    self.objects.changed.wait(min(BOOKMARK_SECONDS, max(0.0, end - time.monotonic())))
                if self.trouble.stopped_watches != round_number:
                    return
                try:
                    changes = self.objects.changes(since)
                except RefusedError as error:
                    yield {"type": "ERROR", "object": error.status()}
                    return
                since = self.objects.version
            events = [event for change in changes if (event := _event(change, request, select)) is not None]
            yield from events
            if not events:
                yield _bookmark(request.kind, since) if bookmarks else None

    def understand(self, method: str, target: str) -> Request | Object:
        """The request, or the document that answers it. Refused (404): there is no such path."""
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = [unquote(part) for part in parts.path.split("/") if part]
        document = document_at(path)
        if document is not None:
            return document
        version, rest = (path[1], path[2:]) if path[:1] == ["api"] else ("/".join(path[1:3]), path[3:])
        namespace: str | None = None
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = BY_PATH.get((version, rest[0])) if rest else None
        if kind is None or path[:1] not in (["api"], ["apis"]):
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        name = rest[1] if len(rest) > 1 else ""
        verb = _verb(method, name, query)
        return Request(verb, kind, namespace, name, rest[2] if len(rest) > 2 else "", query)


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method == "GET" and query.get("watch") in ("true", "1"):
        return "watch"
    verbs = {
        "GET": "get" if name else "list",
        "POST": "create",
        "PUT": "update",
        "PATCH": "patch",
        "DELETE": "delete" if name else "deletecollection",
    }
    return verbs.get(method, method.lower())


def _selector(request: Request) -> Selector:
    labels, fields = request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
    if request.name:
        fields = ",".join(filter(None, (fields, f"metadata.name={request.name}")))
    return selector(request.kind.plural, labels=labels, fields=fields)


def _delete_options(request: Request) -> Object:
    options: Object = {}
    if "gracePeriodSeconds" in request.query:
        options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
    if "propagationPolicy" in request.query:
        options["propagationPolicy"] = request.query["propagationPolicy"]
    return options


def _list_of(kind: Kind, found: list[Object], version: int) -> Object:
    return {
        "kind": f"{kind.name}List",
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": str(version)},
        "items": found,
    }


def _event(change: Change, request: Request, select: Selector) -> Object | None:
    """A change as a watch tells it: an object that ceases to be selected is deleted for whoever watches."""
    if change.kind != request.kind or request.namespace not in (None, change.found["metadata"].get("namespace", "")):
        return None
    now = change.type != "DELETED" and select(change.found)
    before = change.before is not None and select(change.before)
    if not now and not before:
        return None
    kind = "DELETED" if not now else "MODIFIED" if before else "ADDED"
    return {"type": kind, "object": change.found}


def _bookmark(kind: Kind, version: int) -> Object:
    found = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(version)}}
    return {"type": "BOOKMARK", "object": found}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no fault, and a fault of the handler is one."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        try:
            self._answer()
        except RefusedError as error:
            self._send(error.code, error.status(), retry_after=error.retry_after)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 (the names that http.server calls)

    def _answer(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if (proxied := _PROXY.fullmatch(unquote(urlsplit(self.path).path))) is not None:
            self._relay(token, *proxied.groups(default="/"))
            return
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.api.understand(self.command, self.path)
        if isinstance(found, dict):
            self._send(200, found)
            return
        self.api.admit(found, token)
        if found.verb == "watch":
            self._watch(found)
            return
        if found.verb == "get" and found.kind == PODS and found.subresource == "log":
            self.api.objects.get(PODS, found.namespace or "", found.name)
            text = self.api.logs(found.namespace or "", found.name, found.query.get("container", ""))
            self._send_bytes(200, text.encode(), "text/plain")
            return
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        try:
            body = protobuf.decode(content) if content_type == protobuf.MEDIA_TYPE else json.loads(content or b"{}")
        except ValueError as error:
            raise RefusedError(400, "BadRequest", f"the object provided is unrecognized: {error}") from None
        code, document = self.api.answer(found, body, content_type)
        if found.verb != "get" and self.api.trouble.lose_answers:
            self.api.trouble.lose_answers -= 1
            self.close_connection = True
            return
        self._send(code, document)

    def _relay(self, token: str, namespace: str, service: str, path: str) -> None:
        """To a Service, by the path as it is without its escapes: those of a `/` get lost, as on a real one."""
        request = Request(_verb(self.command, service, {}), SERVICES, namespace, service, "proxy", {})
        self.api.admit(request, token)
        query = urlsplit(self.path).query
        url = self.api.find_service(namespace, service) + quote(path) + (f"?{query}" if query else "")
        try:
            with ask(self.api.http, self, url, body_of(self), {}) as answer:
                pass_back(self, answer)
        except httpx2.ConnectError as error:
            raise RefusedError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from None
        except httpx2.TransportError:
            self.close_connection = True

    def _watch(self, request: Request) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.api.watch(request):
            if event is not None:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, code: int, document: Object, *, retry_after: int = 0) -> None:
        self._send_bytes(code, json.dumps(document).encode(), "application/json", retry_after=retry_after)

    def _send_bytes(self, code: int, content: bytes, content_type: str, *, retry_after: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(content)
