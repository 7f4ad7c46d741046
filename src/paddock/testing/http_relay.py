"""A request of an `http.server` passed on to another server, and its answer back, piece by piece as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import httpx2

_NOT_PASSED_ON = {"connection", "host", "keep-alive", "transfer-encoding", "authorization", "te", "upgrade"}
_WITHOUT_BODY = (204, 304)


def body_of(handler: BaseHTTPRequestHandler) -> bytes | Iterator[bytes]:
    """What came with the request: whole where its length is known, else in the pieces in which it is sent."""
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return _chunks(handler)
    return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


@contextmanager
def ask(
    http: httpx2.Client,
    handler: BaseHTTPRequestHandler,
    url: str,
    body: bytes | Iterator[bytes],
    headers: Mapping[str, str],
    extensions: Mapping[str, str] | None = None,
) -> Iterator[httpx2.Response]:
    """The same request to `url`, with these headers added. extensions: of the request, for the HTTP library."""
    passed = {"accept-encoding": "identity", **_passed_on(handler.headers.items()), **headers}
    with http.stream(handler.command, url, headers=passed, content=body, extensions=dict(extensions or {})) as answer:
        yield answer


def pass_back(handler: BaseHTTPRequestHandler, answer: httpx2.Response) -> None:
    """Answer the request as it was answered there."""
    handler.send_response(answer.status_code)
    empty = handler.command == "HEAD" or answer.status_code in _WITHOUT_BODY
    for name, value in _passed_on(answer.headers.items()).items():
        if name != "content-length" or empty:
            handler.send_header(name, value)
    if empty:
        handler.end_headers()
        return
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for part in answer.iter_raw():
        if part:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def _chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


def _passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers if name.lower() not in _NOT_PASSED_ON}
