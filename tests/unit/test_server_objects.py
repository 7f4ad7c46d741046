"""Packs through servers: what a worker shows, and what it does where a server is gone."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput, LimitExceeded, PermissionDenied, Unavailable
from paddock.storage.server_objects import TRIES, ServerObjects

GONE = "http://127.0.0.1:1/objects"


def test_a_disk_that_is_full_at_the_last_byte_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("r+b") as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        writer = ServerObjects(GONE, "token").create("packs/00/0")
        writer.write(b"a few bytes, which wait in memory")
        with pytest.raises(LimitExceeded, match="object packs/00/0: the disk is full"):
            writer.finish()
        writer.abort()


@dataclass
class Seen:
    """A server of one object: the requests to it. status: of its answers."""

    url: str = ""
    status: int = 206
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)


@contextmanager
def running() -> Iterator[Seen]:
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length:
                seen.written.append(self.rfile.read(length))
            shown = self.headers.get("Range"), self.headers.get("Paddock-Permit")
            seen.requests.append((self.command, self.path, *shown))
            body = b"2345" if self.command == "GET" and seen.status == 206 else b""
            self.send_response(seen.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = _answer  # noqa: N815 (the names that http.server calls)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_address[1]}/objects"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield seen
        finally:
            server.shutdown()


@pytest.fixture
def server() -> Iterator[Seen]:
    with running() as seen:
        yield seen


def objects_at(url: str, *others: str) -> ServerObjects:
    return ServerObjects(url, "t", permits={"packs/a": "permit"}, elsewhere=lambda: others, sleep=lambda seconds: None)


def test_what_the_batch_gave_is_shown_with_each_range(server: Seen) -> None:
    objects = objects_at(server.url)
    assert objects.read_range("packs/a", 2, 4) == b"2345"
    assert objects.read_range("packs/b", 2, 4) == b"2345"
    assert server.requests == [
        ("GET", "/objects/packs/a", "bytes=2-5", "permit"),
        ("GET", "/objects/packs/b", "bytes=2-5", ""),
    ]
    for call in (objects.read, objects.info, objects.exists, objects.delete, lambda key: objects.list(key)):
        with pytest.raises(PermissionDenied):
            call("packs/a")


def test_the_next_server_is_asked_where_one_is_gone_and_stays_the_one(server: Seen) -> None:
    objects = objects_at(GONE, server.url)
    assert objects.read_range("packs/a", 2, 4) == b"2345"
    server.status = 201
    writer = objects.create("packs/new")
    writer.write(b"some bytes")
    writer.finish()
    assert server.written == [b"some bytes"]
    with running() as other:
        server.status = 503
        moving = objects_at(server.url, GONE, other.url)
        assert moving.read_range("packs/a", 2, 4) == b"2345"
        assert moving.read_range("packs/a", 2, 4) == b"2345"
        assert len(other.requests) == 2


def test_servers_that_are_all_gone_are_given_up_in_the_end(server: Seen) -> None:
    server.status = 503
    with pytest.raises(Unavailable, match="answered 503"):
        objects_at(server.url).read_range("packs/a", 2, 4)
    assert len(server.requests) == TRIES
    with pytest.raises(Unavailable, match="can't be reached"):
        objects_at(GONE, GONE).read_range("packs/a", 2, 4)
    with pytest.raises(InvalidInput, match="is not the URL of a server"):
        objects_at("host:1659")
