"""A Kubernetes API server: create, get, select, patch, delete and watch, with its refusals as the error tree. Plain JSON objects.

The only module that speaks HTTP to Kubernetes.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx2

from paddock.model.dataclass import dataclass
from paddock.model.errors import (
    AlreadyExists,
    Bug,
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Unavailable,
)
from paddock.runtime.engines.kubernetes.access import Access
from paddock.runtime.engines.kubernetes.objects import Object, Resource

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
WATCH_SECONDS = 240
"""How long a watch is asked to last; then it is taken up where it ended."""
WATCH_SILENCE_SECONDS = 90.0
"""Bookmarks come every minute: longer silence is a connection that died unnoticed."""
TRIES = 4
BACKOFF_SECONDS = 0.2
PAGE = 500


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """type: OPENED (first, when the server has accepted the watch; no object), ADDED, MODIFIED, DELETED or BOOKMARK (an object with a
    version only)."""

    type: str
    found: Object


class VersionGoneError(Exception):
    """The version to watch from is too old (410): list again."""


class KubernetesClient:
    """One API server, with a pool of connections. Thread-safe.

    A request that can't be sent or is answered by "too busy" is made again a few times (the server's Retry-After is
    respected), then Unavailable. So `create` and `delete` may have been done before: give objects names, and take
    AlreadyExists and NotFound for success where they are.
    """

    def __init__(self, access: Access, *, wait: Callable[[float], object] | None = None) -> None:
        """wait: sleeps between tries; by default until `close`."""
        self.access = access
        self._closed = threading.Event()
        self._watched: set[socket.socket] = set()
        self._wait = wait or self._closed.wait
        limits = httpx2.Limits(max_connections=16, max_keepalive_connections=8)
        self._client = httpx2.Client(
            base_url=access.server,
            # Where there is no TLS, one that trusts nobody: reading the system's authorities takes half a second.
            verify=access.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=limits,
            trust_env=False,
        )

    def close(self) -> None:
        """Break off whatever is under way; a watch ends with Unavailable."""
        self._closed.set()
        for connection in list(self._watched):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._client.close()

    def get(self, resource: Resource, name: str) -> Object:
        return self._json("GET", resource.path(name))

    def create(self, resource: Resource, found: Object) -> Object:
        """AlreadyExists: its name is taken. InvalidInput: it is refused as it is. LimitExceeded: a quota is used up."""
        return self._json("POST", resource.path(), {"fieldValidation": "Strict"}, body=found)

    def patch(self, resource: Resource, name: str, changes: Object) -> Object:
        """Change an object by a merge patch (RFC 7396)."""
        return self._json(
            "PATCH",
            resource.path(name),
            {"fieldValidation": "Strict"},
            body=changes,
            content_type="application/merge-patch+json",
        )

    def delete(self, resource: Resource, name: str, *, uid: str = "", grace_seconds: int | None = None) -> None:
        """Begin to delete. NotFound: there is none. Conflict: the one of that name has another uid.

        What it owns is deleted after it. grace_seconds: in place of the pod's own; 0 lets go of a pod on a node that is gone.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self._json("DELETE", resource.path(name), body=options)

    def select(self, resource: Resource, *, labels: str = "", fields: str = "") -> tuple[list[Object], str]:
        """All that match, read page by page, and the version to watch from."""
        while True:
            try:
                return self._pages(resource, labels, fields)
            except VersionGoneError:  # a later page of a list that is too old by now
                continue

    def watch(self, resource: Resource, *, version: str, labels: str = "") -> Iterator[WatchEvent]:
        """Events after a version, until the server ends the watch or the connection breaks (Unavailable).

        VersionGoneError: changes after that version are not known any more.
        """
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": labels,
        }
        timeout = httpx2.Timeout(WATCH_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        with (
            self._translated(),
            self._client.stream(
                "GET",
                resource.path(),
                params=parameters,
                headers=self._headers(),
                timeout=timeout,
                extensions=self.access.extensions,
            ) as response,
        ):
            if response.is_error:
                response.read()
                raise self._error(response, "watch", resource.path())
            connection = response.extensions["network_stream"].get_extra_info("socket")
            self._watched.add(connection)
            try:
                yield WatchEvent("OPENED", {})
                for line in response.iter_lines():
                    if line.strip():
                        yield self._watch_event(line, resource)
            finally:
                self._watched.discard(connection)

    # ---- inside --------------------------------------------------------------------------------------------

    def _pages(self, resource: Resource, labels: str, fields: str) -> tuple[list[Object], str]:
        found: list[Object] = []
        parameters = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        while True:
            page = self._json("GET", resource.path(), parameters)
            found += page.get("items") or []
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            parameters["continue"] = metadata["continue"]

    def _watch_event(self, line: str, resource: Resource) -> WatchEvent:
        try:
            event = json.loads(line)
            kind, found = str(event["type"]), event["object"]
        except (ValueError, KeyError, TypeError):
            raise Unavailable(
                f"the watch of {resource.plural} at {self.access.server} broke off within a line"
            ) from None
        if kind == "ERROR":
            if found.get("code") == 410:
                raise VersionGoneError(str(found.get("message", "")))
            raise Unavailable(f"the watch of {resource.plural} ended: {found.get('message', 'without a reason')}")
        return WatchEvent(kind, found)

    def _json(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        content = None if body is None else json.dumps(body).encode()
        given = {name: value for name, value in (parameters or {}).items() if value}
        for attempt in range(TRIES):
            try:
                with self._translated():
                    response = self._client.request(
                        method,
                        path,
                        params=given,
                        content=content,
                        headers={**self._headers(), "Content-Type": content_type},
                        extensions=self.access.extensions,
                    )
                if response.is_error:
                    raise self._error(response, method, path)
                found: Object = response.json()
                return found
            except Unavailable as error:
                if attempt == TRIES - 1 or self._closed.is_set():
                    raise
                self._wait(_pause(error, attempt))
            except ValueError:
                raise Unavailable(
                    f"{self.access.server} answered {path} without JSON; is it a Kubernetes API server?"
                ) from None
        raise Bug("the last try returns or raises")

    def _headers(self) -> dict[str, str]:
        authorization = self.access.authorization()
        return {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})

    @contextmanager
    def _translated(self) -> Iterator[None]:
        server = self.access.server
        try:
            yield
        except httpx2.TimeoutException as error:
            raise Unavailable(
                f"the Kubernetes API server {server} did not answer in time ({error}); it is asked again"
            ) from None
        except httpx2.TransportError as error:
            raise Unavailable(
                f"the Kubernetes API server {server} can't be reached ({error}); it is asked again"
            ) from None
        except RuntimeError as error:
            if not self._closed.is_set():
                raise
            raise Unavailable(f"the client of {server} was closed ({error})") from None

    def _error(self, response: httpx2.Response, method: str, path: str) -> Exception:
        try:
            status: Object = response.json()
            message = str(status["message"])
        except (ValueError, KeyError, TypeError):
            status, message = {}, response.text[:200] or "without a reason"
        return error_of(
            response.status_code,
            status,
            message,
            what=f"{method} {path}",
            retry_after=response.headers.get("Retry-After"),
        )


def error_of(code: int, status: Object, message: str, *, what: str, retry_after: str | None = None) -> Exception:
    """The error for a refusal of the API server: what to do about it decides its class."""
    reason = status.get("reason", "")
    match code:
        case 401:
            return PermissionDenied(f"Kubernetes does not know who asks ({message}); renew the token or certificate")
        case 403 if "exceeded quota" in message or "failed quota" in message or "maximum" in message:
            return LimitExceeded(f"Kubernetes refuses it for a quota: {message}; raise the quota, or ask for less")
        case 403 if " cannot " in message and "resource" in message:
            return PermissionDenied(f"Kubernetes allows it not: {message}; add the verb to the server's Role")
        case 403 if "violates PodSecurity" in message:
            return InvalidInput(
                f"Kubernetes refuses it: {message}; install Paddock with workers.podSecurity=restricted (PADDOCK_POD_SECURITY),"
                " and name a user by its number in transform.user where the image runs as root"
            )
        case 403:
            return InvalidInput(
                f"Kubernetes refuses it: {message}; change what the spec asks for, or the cluster's policy"
            )
        case 404:
            return NotFound(f"Kubernetes has no such object: {message}")
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(f"Kubernetes has it already: {message}")
        case 409 if "resourcequota" in message or "quota" in message:
            return _Busy(f"Kubernetes is counting a quota: {message}", retry_after)
        case 409:
            return Conflict(f"it has changed meanwhile: {message}")
        case 410:
            return VersionGoneError(message)
        case 400 | 405 | 415 | 422:
            return InvalidInput(f"Kubernetes refuses it: {message}; mend the field")
        case 429 | 500 | 502 | 503 | 504:
            return _Busy(f"Kubernetes is busy or in trouble ({code}): {message}; it is asked again", retry_after)
    return Bug(f"Kubernetes answered {what} with {code}: {message}")


class _Busy(Unavailable):
    """With how long to wait, where the server says."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.seconds = float(retry_after) if retry_after and retry_after.isdigit() else None


def _pause(error: PaddockError, attempt: int) -> float:
    asked = error.seconds if isinstance(error, _Busy) else None
    return min(asked, 10.0) if asked is not None else BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.0)
