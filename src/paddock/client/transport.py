"""Requests to a Paddock server: typed answers, the error tree, streams. The only module of the client that knows the HTTP library."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter, ValidationError

from paddock.model.errors import (
    Bug,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Problem,
    Unavailable,
    error_of_code,
)

API_ROOT = "/api/v1"
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 600.0
"""A commit of a large tree answers only when it is durable, so an answer may take minutes."""

T = TypeVar("T")
Parameters = Mapping[str, str | int | float | bool | list[str] | None]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def path_of(*parts: str) -> str:
    """A URL path below the API's root, each part escaped whole (a `/` in it too)."""
    return API_ROOT + "".join("/" + quote(part, safe="@^~.") for part in parts)


class Transport:
    """One server, with its pool of connections. Thread-safe.

    Every failure to reach the server, or to keep talking to it, is Unavailable; every problem+json answer becomes the
    error that the server raised.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """token: sent with each request, for a server that asks who is there."""
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInput(f"server {url!r} is not a URL; write for example http://127.0.0.1:1659")
        timeout = httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            self._client = httpx2.Client(base_url=self.url, timeout=timeout, headers=headers, verify=self._trust())
        except httpx2.InvalidURL as error:
            raise InvalidInput(
                f"server {url!r} is not a URL ({error}); write for example http://127.0.0.1:1659"
            ) from None

    def close(self) -> None:
        self._client.close()

    def _trust(self) -> ssl.SSLContext | bool:
        """Certificates of authorities are read where they are needed: that takes 35 to 90 ms of CPU. Elsewhere nobody is trusted."""
        return self.url.startswith("https://") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def request(
        self,
        kind: type[T] | Any,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: object = None,
        content: Iterable[bytes] | bytes | None = None,
        content_type: str = "application/octet-stream",
        patient: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> Any:
        """Send one request, its body JSON or (streamed) bytes, and build the record `kind` from the answer.

        patient: wait for the answer however long the server works on it. timeout_seconds: to connect (`CONNECT_TIMEOUT_SECONDS` at
        most), and of silence after that.
        """
        data = self.request_bytes(
            method,
            path,
            parameters=parameters,
            body=body,
            content=content,
            content_type=content_type,
            patient=patient,
            timeout_seconds=timeout_seconds,
        )
        return self.build(kind, data) if kind is not None else None

    def request_bytes(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: object = None,
        content: Iterable[bytes] | bytes | None = None,
        content_type: str = "application/octet-stream",
        patient: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> bytes:
        """As `request`; the bytes of the answer."""
        headers = {"Content-Type": content_type} if content is not None else {}
        connect_seconds = min(timeout_seconds, CONNECT_TIMEOUT_SECONDS)
        with self._translated():
            response = self._client.request(
                method,
                path,
                params=_query(parameters),
                json=body,
                content=_chunks(content),
                headers=headers,
                timeout=httpx2.Timeout(None if patient else timeout_seconds, connect=connect_seconds),
            )
        self._check(response)
        return response.content

    def post(
        self, path: str, data: bytes, content_type: str, *, parameters: Parameters, timeout_seconds: float
    ) -> bytes:
        """Send bytes, get bytes."""
        with self._translated():
            response = self._client.post(
                path,
                content=data,
                params=_query(parameters),
                headers={"Content-Type": content_type},
                timeout=httpx2.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            )
        self._check(response)
        return response.content

    def build(self, kind: Any, data: bytes) -> Any:
        """Rebuild a record from JSON; an answer of another shape is Bug (another version answers)."""
        try:
            return _adapter(kind).validate_json(data)
        except ValidationError as error:
            raise Bug(
                f"the server at {self.url} gave an answer that this client does not understand"
                f" ({error.errors()[0]['msg']}); use the same Paddock version on both sides"
            ) from None

    @contextmanager
    def stream(
        self, method: str, path: str, *, parameters: Parameters | None = None, content: bytes | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Open a streamed answer; errors that the server found before its first byte are raised here."""
        with self.answer(method, path, parameters=parameters, content=content) as (_, pieces):
            yield pieces

    @contextmanager
    def answer(
        self, method: str, path: str, *, parameters: Parameters | None = None, content: bytes | None = None
    ) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """As `stream`, with the headers of the answer."""
        request = self._client.stream(method, path, params=_query(parameters), content=content)
        with self._translated(), request as response:
            if not response.is_success:
                response.read()
            self._check(response)
            yield response.headers, response.iter_bytes()

    def bytes(self, path: str, *, parameters: Parameters | None = None) -> Iterator[bytes]:
        """The body of a GET, piece by piece. The request is made when the first piece is asked for."""
        with self.stream("GET", path, parameters=parameters) as pieces:
            yield from pieces

    def lines(self, kind: type[T] | Any, path: str, *, parameters: Parameters | None = None) -> Iterator[Any]:
        """The records of an NDJSON answer; a last line with a problem raises that error."""
        with self.stream("GET", path, parameters=parameters) as pieces:
            for line in _lines(pieces):
                if line.startswith(b'{"problem":'):
                    raise error_of(json.loads(line)["problem"])
                yield self.build(kind, line)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError as error:
            advice = "start one with `paddock up`, or mend --url"
            if "WRONG_VERSION_NUMBER" in str(error):
                advice = "it speaks plain HTTP: write http:// in --url"
            raise Unavailable(f"no server answers at {self.url} ({error}); {advice}") from None
        except httpx2.TimeoutException as error:
            raise Unavailable(f"the server at {self.url} did not answer in time ({error}); try again") from None
        except httpx2.TransportError as error:
            raise Unavailable(f"the connection to {self.url} broke ({error}); try again") from None

    def _check(self, response: httpx2.Response) -> None:
        """Raise what an answer says went wrong. A page is never an answer of ours, whatever its status says was done."""
        page = response.headers.get("content-type", "").startswith("text/html")
        if not response.is_success or page:
            raise self._error(response)

    def _error(self, response: httpx2.Response) -> PaddockError:
        try:
            return error_of(response.json())
        except (ValueError, KeyError, TypeError):
            return self._of_others(response)

    def _of_others(self, response: httpx2.Response) -> PaddockError:
        """The error for an answer that is not Paddock's: of a proxy before it, or of another program."""
        status, at = response.status_code, f"{self.url} answered {response.status_code}"
        if response.is_redirect:
            place = response.headers.get("location", "").partition(API_ROOT)[0]
            return InvalidInput(f"{self.url} sends its callers on, to {place or 'nowhere'}; write that in --url")
        match status:
            case 401 | 403 | 407:
                return PermissionDenied(f"{at}: something before the server refuses access; ask who runs it")
            case 404:
                return NotFound(
                    f"{at}: there is no Paddock server there; mend --url (with the path prefix of a proxy, if it has one)"
                )
            case 413:
                return LimitExceeded(
                    f"{at}: a proxy before the server takes no bodies of this length; raise its limit (client_max_body_size of nginx)"
                )
            case 502 | 503 | 504:
                return Unavailable(f"{at}: the proxy there does not reach the server; try again")
        return Bug(f"{at} without a reason; is it a Paddock server?")


def error_of(document: Mapping[str, Any]) -> PaddockError:
    """The error that a problem document tells of."""
    problems = tuple(Problem(item["place"], item["message"]) for item in document.get("problems", ()))
    return error_of_code(document["code"], document["detail"], problems)


def _query(parameters: Parameters | None) -> list[tuple[str, str | int | float | bool | None]]:
    """Query parameters without those that are None; booleans as `true` and `false`; lists repeated."""
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in (parameters or {}).items():
        if value is None:
            continue
        pairs.extend((name, item) for item in (value if isinstance(value, list) else [value]))
    return pairs


def _chunks(content: Iterable[bytes] | bytes | None) -> Iterator[bytes] | bytes | None:
    return content if content is None or isinstance(content, bytes) else (piece for piece in content if piece)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
