"""The way of an agent to its servers: which it asks, which it learns of, and how long it waits for one that is silent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paddock.client import agent_uplink
from paddock.client.agent_uplink import LOOK_SECONDS, HttpUplink
from paddock.model.errors import Conflict, NotFound, Unavailable
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.exchange_format import write_down
from paddock.runtime.engines.network import Answer
from paddock.runtime.protocol import PROTOCOL_VERSION

GONE = "http://127.0.0.1:1"


@dataclass
class Server:
    """One that answers agents; `silent` keeps all answers back until it is set again."""

    url: str = ""
    here: bool = True
    scheduler: str | None = None
    servers: Sequence[str] = ()
    protocol: int = PROTOCOL_VERSION
    asked: list[str] = field(default_factory=list)
    speaks: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str) -> bytes:
        self.asked.append(f"{method} {path.partition('?')[0].removeprefix('/api/v1/')}")
        self.speaks.wait()
        if path.endswith("/scheduler"):
            return json.dumps({"url": self.scheduler, "here": self.here, "servers": self.servers}).encode()
        if path.endswith("/agents"):
            terms = {"agent": "a", "home": "h", "chunking": {}, "storage": None, "protocol": self.protocol}
            return json.dumps(terms).encode()
        return write_down(Answer(()))


@contextmanager
def running() -> Iterator[Server]:
    found = Server()
    found.speaks.set()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = found.answer(self.command, self.path)
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # it did not wait for so long

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (the names that http.server calls)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield found
        finally:
            found.speaks.set()
            server.shutdown()


@pytest.fixture
def two() -> Iterator[tuple[Server, Server]]:
    with ExitStack() as stack:
        yield stack.enter_context(running()), stack.enter_context(running())


@contextmanager
def uplink_to(*urls: str, told: list[Sequence[str]], clock: Callable[[], float] = lambda: 0.0) -> Iterator[HttpUplink]:
    uplink = HttpUplink(urls, "t", capacity=Capacity(1, 1, 1), on_servers=told.append, monotonic=clock)
    try:
        yield uplink
    finally:
        uplink.close()


def test_servers_are_learnt_from_the_one_that_is_known_and_take_over(two: tuple[Server, Server]) -> None:
    first, second = two
    first.servers = (first.url, second.url)
    second.here = False
    told: list[Sequence[str]] = []
    with uplink_to(GONE, first.url, told=told) as uplink:
        assert uplink.join() == "a"
        assert told == [[first.url, GONE, second.url]]
        first.here, first.scheduler = False, second.url
        second.here = True
        second.servers = (second.url,)
        assert uplink.join() == "a"
        assert told[-1] == [second.url, GONE, first.url]
        assert second.asked == ["POST agents"]
        uplink.exchange("a", received=0, messages=(), wait=False)
    assert second.asked[1:] == ["POST agents/a/exchange"]


def test_servers_that_are_named_no_more_are_forgotten(two: tuple[Server, Server]) -> None:
    first, second = two
    first.servers = (first.url, second.url)
    told: list[Sequence[str]] = []
    with uplink_to(first.url, told=told) as uplink:
        uplink.join()
        first.servers = (first.url,)
        uplink.join()
    assert told == [[first.url, second.url], [first.url]]


def test_it_looks_for_new_servers_now_and_then(two: tuple[Server, Server]) -> None:
    first, second = two
    told: list[Sequence[str]] = []
    now = 0.0
    with uplink_to(first.url, told=told, clock=lambda: now) as uplink:
        uplink.join()
        first.servers = (first.url, second.url)
        uplink.exchange("a", received=0, messages=(), wait=True)
        assert told == [[first.url]]
        now = LOOK_SECONDS
        uplink.exchange("a", received=0, messages=(), wait=True)
    assert told == [[first.url], [first.url, second.url]]


def test_where_the_scheduler_is_gone_another_server_says_where_it_is_now(two: tuple[Server, Server]) -> None:
    first, second = two
    first.here, first.scheduler = False, GONE
    with uplink_to(first.url, told=[]) as uplink:
        with pytest.raises(Unavailable):
            uplink.join()
        with pytest.raises(Unavailable):
            uplink.exchange("a", received=0, messages=(), wait=False)
        first.scheduler = second.url
        with pytest.raises(NotFound, match="another server schedules now"):
            uplink.exchange("a", received=0, messages=(), wait=False)
        assert uplink.join() == "a"


def test_leaving_a_silent_server_takes_no_longer_than_it_is_worth(
    two: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agent_uplink.LEAVE_TIMEOUT_SECONDS < 5
    monkeypatch.setattr(agent_uplink, "LEAVE_TIMEOUT_SECONDS", 0.1)
    first, _ = two
    with uplink_to(first.url, told=[]) as uplink:
        uplink.join()
        first.speaks.clear()
        with pytest.raises(Unavailable, match="did not answer in time"):
            uplink.leave("a")


def test_a_server_of_another_version_is_no_server_for_it(two: tuple[Server, Server]) -> None:
    first, _ = two
    first.protocol = 0
    with uplink_to(first.url, told=[]) as uplink, pytest.raises(Conflict, match="install the server's version"):
        uplink.join()
