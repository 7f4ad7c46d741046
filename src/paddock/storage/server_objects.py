"""Objects through a Paddock server, for workers that can't reach the object store themselves.

The standard library's HTTP client: a worker starts in a few tens of milliseconds and uses two verbs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlsplit

from paddock.model.errors import (
    AlreadyExists,
    Bug,
    InvalidInput,
    PaddockError,
    PermissionDenied,
    Unavailable,
    error_of_code,
)
from paddock.storage.objects import Bytes, ObjectInfo, ObjectWriter, Reading
from paddock.storage.os_errors import translate

TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
TRIES = 6
"""Of each request, over some 15 seconds: as long as the scheduler waits for a host that is cut off."""
COPY_BYTES = 1 << 20


class ServerObjects:
    """Implements `storage.objects.ObjectStore` for what workers do: reading ranges that batches give, and writing. All else is the server's alone.

    Each thread has a connection of its own. Requests are repeated after failures that can pass: reading changes nothing, and
    an object that is there already, after a first try whose answer was lost, is the one that was written.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        permits: Mapping[str, str] = {},
        elsewhere: Callable[[], Sequence[str]] = tuple,
        scratch: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """url: of the API's objects. permits: by key, what to show to read an object; looked at with each request. elsewhere: the same
        objects' URLs at other servers, one of which takes over where one does not answer. scratch: where objects are kept until they
        have been sent."""
        self._first = self._place = _Place.at(url)
        self._elsewhere = elsewhere
        self._headers = {"Authorization": f"Bearer {token}"}
        self._permits = permits
        self._scratch = scratch
        self._sleep = sleep
        self._local = threading.local()

    reading = Reading(gap_bytes=256 << 10, run_bytes=8 << 20, at_once=4)

    def create(self, key: str) -> ObjectWriter:
        return _Writer(self, key, tempfile.TemporaryFile(dir=self._scratch))

    def read(self, key: str) -> bytes:
        raise PermissionDenied(f"object {key} can't be read as a whole by a worker")

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        shown = {"Range": f"bytes={offset}-{offset + length - 1}", "Paddock-Permit": self._permits.get(key, "")}
        data = self._request("GET", key, shown)
        if len(data) != length:
            raise Unavailable(f"object {key}: {self._place.url} sent {len(data)} of {length} bytes; try again")
        return data

    def info(self, key: str) -> ObjectInfo:
        raise PermissionDenied(f"a worker can't ask about object {key}")

    def exists(self, key: str) -> bool:
        raise PermissionDenied(f"a worker can't ask about object {key}")

    def delete(self, key: str) -> None:
        raise PermissionDenied(f"object {key} can't be deleted by a worker")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        raise PermissionDenied(f"objects below {prefix!r} can't be listed by a worker")

    def put(self, key: str, body: IO[bytes], size: int) -> None:
        """Send a whole object; durable when this returns."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        tries = 0

        def again() -> Any:
            nonlocal tries
            tries += 1
            body.seek(0)
            return iter(lambda: body.read(COPY_BYTES), b"")

        try:
            self._request("PUT", key, headers, again)
        except AlreadyExists:
            if tries == 1:
                raise

    def _request(
        self, verb: str, key: str, headers: Mapping[str, str] = {}, body: Callable[[], Any] | None = None
    ) -> bytes:
        for attempt in range(TRIES):
            try:
                return self._once(verb, key, headers, None if body is None else body())
            except Unavailable:
                self._move()
                if attempt == TRIES - 1:
                    raise
            self._sleep(random.uniform(0.5, 1.0) * 0.25 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, verb: str, key: str, headers: Mapping[str, str], body: Any) -> bytes:
        place = self._place
        try:
            connection = self._connection(place)
            connection.request(verb, f"{place.path}/{quote(key)}", body, {**self._headers, **headers})
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"object {key}: {place.url} can't be reached ({error}); try again") from None
        if response.status < http.HTTPStatus.MULTIPLE_CHOICES:
            return data
        raise _error(response.status, data, key, place.url)

    def _connection(self, place: _Place) -> http.client.HTTPConnection:
        """This thread's, which it goes on using."""
        there: tuple[_Place, http.client.HTTPConnection] | None = getattr(self._local, "connection", None)
        if there is not None and there[0] == place:
            return there[1]
        self._drop()
        connection = (
            http.client.HTTPSConnection(
                place.host, place.port, timeout=CONNECT_SECONDS, context=ssl.create_default_context()
            )
            if place.secure
            else http.client.HTTPConnection(place.host, place.port, timeout=CONNECT_SECONDS)
        )
        connection.connect()
        connection.sock.settimeout(TIMEOUT_SECONDS)
        self._local.connection = (place, connection)
        return connection

    def _drop(self) -> None:
        there = getattr(self._local, "connection", None)
        if there is not None:
            there[1].close()
            self._local.connection = None

    def _move(self) -> None:
        """Ask the next server from now on, where there is another one."""
        self._drop()
        places = list(dict.fromkeys([self._first, *map(_Place.at, self._elsewhere())]))
        after = places.index(self._place) + 1 if self._place in places else 0
        self._place = places[after % len(places)]


class _Place(NamedTuple):
    url: str
    secure: bool
    host: str
    port: int | None
    path: str

    @classmethod
    def at(cls, url: str) -> _Place:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{url!r} is not the URL of a server; write for example http://host:1659")
        return cls(url, parts.scheme == "https", parts.hostname, parts.port, parts.path.rstrip("/"))


class _Writer:
    """Keeps an object in a file without a name until it is finished, so that sending can be repeated."""

    def __init__(self, objects: ServerObjects, key: str, spool: IO[bytes]) -> None:
        self._objects = objects
        self._key = key
        self._spool = spool

    def write(self, data: Bytes) -> None:
        with self._translated():
            self._spool.write(data)

    def finish(self) -> None:
        with self._translated():
            size = self._spool.seek(0, os.SEEK_END)  # the last bytes may meet a full disk only now
        self._objects.put(self._key, self._spool, size)
        self._spool.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, "write", f"a temporary file for object {self._key}") from error

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._spool.close()


def _error(status: int, data: bytes, key: str, url: str) -> PaddockError:
    try:
        document = json.loads(data)
        return error_of_code(document["code"], document["detail"], ())
    except (ValueError, KeyError, TypeError):
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(f"object {key}: {url} answered {status}; try again")
        if status == http.HTTPStatus.NOT_FOUND:
            return error_of_code("not-found", f"object {key} does not exist at {url}", ())
        return Bug(f"object {key}: {url} answered {status} without a reason; is it a Paddock server?")
