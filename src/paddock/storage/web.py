"""One file from a web server. The only module of the storage that knows the HTTP client."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from http import HTTPStatus

import httpx2

from paddock.model.errors import Conflict, InvalidInput, LimitExceeded, NotFound, PermissionDenied, Unavailable
from paddock.model.version import VERSION
from paddock.storage.url_sources import UrlFile, UrlSource, page_name

ATTEMPTS = 5
"""At one place in the file; pauses double from 0.2 s."""
TIMEOUT_SECONDS = 60.0
_HEADERS = {"User-Agent": f"paddock/{VERSION}", "Accept-Encoding": "identity"}
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


def open_page(url: str) -> UrlSource:
    """A file at an address; redirections are followed. Asks for its size and tag by HEAD, where the server has that."""
    _check(url)
    size, tag = _head(url)
    file = UrlFile("", size, tag, (lambda: _stream(url),), _nothing)
    return UrlSource(url, page_name(url), lambda: iter((file,)))


def _check(url: str) -> None:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput(f"{url} is no URL: {error}") from None
    if not parsed.host:
        raise InvalidInput(f"{url} names no server")


def _nothing() -> None:
    """A page comes in one part, whose pieces are of one version already."""


def _head(url: str) -> tuple[int, str]:
    """(size, strong ETag), 0 and empty where the server does not say. Errors are left to the reading."""
    try:
        with httpx2.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS, headers=_HEADERS) as client:
            answer = client.head(url)
    except httpx2.HTTPError:
        return 0, ""
    if not answer.is_success:
        return 0, ""
    length = answer.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0, _strong(answer)


def _strong(answer: httpx2.Response) -> str:
    tag: str = answer.headers.get("etag", "")
    return "" if tag.startswith("W/") else tag


def _stream(url: str) -> Iterator[bytes]:
    """The bytes of the file. A body that breaks off goes on where it ended, if the server can do that and has the same file."""
    position, failures, tag = 0, 0, ""
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS, headers=_HEADERS) as client:
        while True:
            headers = {"Range": f"bytes={position}-", "If-Range": tag} if position else {}
            began = position
            try:
                with client.stream("GET", url, headers=headers) as answer:
                    _raise_for(url, answer)
                    if position and answer.status_code != HTTPStatus.PARTIAL_CONTENT:
                        raise Conflict(f"{url} broke off and can't be read on; nothing was put, run it again")
                    tag = tag or _strong(answer)
                    for piece in answer.iter_bytes():
                        position += len(piece)
                        yield piece
                return
            except (httpx2.TransportError, Unavailable) as error:
                failures = 1 if position > began else failures + 1
                if failures >= ATTEMPTS or (position and not tag):
                    raise Unavailable(f"{url} can't be read: {error}; nothing was put, try again") from None
                time.sleep(0.2 * 2**failures * random.uniform(0.8, 1.2))
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise InvalidInput(f"{url} can't be read: {error}") from None


def _raise_for(url: str, answer: httpx2.Response) -> None:
    if answer.is_success:
        return
    status, said = answer.status_code, f"the server answers {answer.status_code} {answer.reason_phrase}".rstrip()
    if status in _GONE:
        raise NotFound(f"nothing is at {url}: {said}; check the address")
    if status in _DENIED:
        raise PermissionDenied(f"{url} may not be read: {said}; download it with the credentials and put the file")
    if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable(said)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise Conflict(f"{url} became another file while it was read; nothing was put, run it again")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise LimitExceeded(f"{url} can't be read: {said}")
    raise InvalidInput(f"{url} can't be read: {said}; check the address")
