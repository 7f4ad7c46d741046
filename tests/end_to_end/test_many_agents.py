"""Many agents at one server: simulated ones, which speak the real exchanges, do a whole job; and what an exchange refuses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from paddock.client.connection import connect
from paddock.model.records import JobState
from paddock.model.services import Paddock
from paddock.runtime.protocol import PROTOCOL_VERSION
from paddock.testing.servers import RunningServer, running_server
from paddock.testing.simulated_agents import SimulatedAgents

AGENTS = 20
FILES = 400
LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def home_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home_path: Path) -> Iterator[RunningServer]:
    with running_server(home_path, workers=0) as started:
        yield started


@pytest.fixture(scope="module")
def remote(server: RunningServer) -> Iterator[Paddock]:
    with connect(url=server.url, environment={}) as opened:
        yield opened


def test_simulated_workers_do_a_whole_job(
    server: RunningServer, remote: Paddock, home_path: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"f{number:03}").write_bytes(b"%d" % number)
    remote.repos.create("data")
    spec = {
        "pipeline": {"name": "sim"},
        "transform": {"cmd": ["true"]},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
        "datum_set_spec": {"number": 7},
    }
    remote.pipelines.apply(spec)
    remote.files.put_tree("data@main:/", source)
    agents = SimulatedAgents(
        server.url, remote.pools.create_token("default").secret, home_path / "objects", agents=AGENTS, join_seconds=0.2
    )

    async def work() -> None:
        running = asyncio.create_task(agents.run(LIMIT_SECONDS))
        waiting = asyncio.to_thread(remote.jobs.wait, ["sim@head"], timeout_seconds=LIMIT_SECONDS)
        await waiting
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    job = remote.jobs.inspect("sim@head")
    assert (job.state, job.datums.run, job.datums.failed) == (JobState.SUCCESS, FILES, 0)
    assert agents.window.datums >= FILES


def test_an_exchange_is_refused_with_a_reason(server: RunningServer, remote: Paddock) -> None:
    token, foreign = (remote.pools.create_token(pool).secret for pool in ("default", "lab"))
    body = {"host": "h", "cpus": 1, "memory_bytes": 1, "disk_bytes": 1, "protocol": PROTOCOL_VERSION}

    def call(verb: str, path: str, secret: str | None, **given: object) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx2.request(verb, f"{server.url}/api/v1/{path}", headers=headers, **given)  # type: ignore[arg-type]

    agent = call("POST", "agents", token, json=body).json()["agent"]
    exchange = f"agents/{agent}/exchange"
    assert call("POST", f"{exchange}?received=0", token).content == b"beat 1.000\n"
    for path, secret, status, words in (
        (f"{exchange}?received=0", None, 403, "paddock pool token POOL"),
        (f"{exchange}?received=0", "wrong", 403, "token"),
        (f"{exchange}?received=0", foreign, 403, "another pool"),
        (f"{exchange}?received=x", token, 422, "same Paddock version"),
        (f"{exchange}?received=0&wait=perhaps", token, 422, "same Paddock version"),
        ("agents/0123/exchange?received=0", token, 404, "join again"),
    ):
        answer = call("POST", path, secret)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert call("POST", f"{exchange}?received=0", token, content=b"nonsense").status_code == 422
    # Nobody of another pool sends an agent away.
    assert call("DELETE", f"agents/{agent}", foreign).status_code == 403
    assert call("POST", f"{exchange}?received=0", token).status_code == 200


@pytest.fixture
def line(server: RunningServer, remote: Paddock) -> Iterator[_Line]:
    """A connection to the server whose token the server knows already."""
    with _Line(server.url, remote.pools.create_token("default").secret) as opened:
        opened.ask(b"")
        yield opened


def test_exchanges_and_other_requests_share_a_connection(line: _Line) -> None:
    assert line.ask(b"")[1] == b"beat 1.000\n"
    line.send(b"GET /api/v1/health HTTP/1.1\r\n" + line.host + b"\r\n")
    assert line.answer()[1] == b'{"status":"ok"}'
    assert line.ask(b"nonsense")[0] == 422
    assert line.ask(b"")[1] == b"beat 1.000\n"


@pytest.mark.parametrize("bytes_", [20, 1 << 20])
def test_an_exchange_may_come_in_pieces(line: _Line, bytes_: int) -> None:
    body = b'0 0 {"type":"claim"}'.ljust(bytes_) + b"\n"
    head = line.head(len(body))
    for piece in (head[:30], head[30:], body[:7], body[7:]):
        line.send(piece)
    assert line.answer() == (200, b"beat 1.000\n")


def test_what_is_refused_of_others_is_refused_of_exchanges(line: _Line) -> None:
    foreign = line.head(0).replace(line.host, b"Host: paddock.example\r\n")
    line.send(foreign)
    assert line.answer()[0] == 403
    line.send(line.head(0)[:-2] + b"Origin: http://paddock.example\r\n\r\n")
    assert line.answer()[0] == 403


def test_a_connection_that_asks_again_before_it_is_answered_is_cut_off(line: _Line) -> None:
    line.send(line.head(0, wait=True))
    line.send(line.head(0))
    assert line.stream.read() == b""


def test_who_waits_is_answered_when_the_server_stops(server: RunningServer, line: _Line) -> None:
    """The last test of its server."""
    line.send(line.head(0, wait=True))
    with _Line(server.url, line.token, agent=line.agent) as other:
        for _ in range(2):
            other.ask(b"")  # answered after what was sent before
    server.process.terminate()
    assert line.answer() == (200, b"beat 1.000\n")
    assert line.stream.read() == b""


class _Line:
    """One connection, on which bytes are sent as they are."""

    def __init__(self, url: str, token: str, *, agent: str = "") -> None:
        parts = urlsplit(url)
        self.token = token
        body = {"host": "h", "cpus": 1, "memory_bytes": 1, "disk_bytes": 1, "protocol": PROTOCOL_VERSION}
        headers = {"Authorization": f"Bearer {token}"}
        self.agent = agent or httpx2.post(f"{url}/api/v1/agents", json=body, headers=headers).json()["agent"]
        self.host = f"Host: {parts.netloc}\r\n".encode()
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self.stream = self._socket.makefile("rb")

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self._socket.close()

    def head(self, length: int, *, wait: bool = False) -> bytes:
        target = f"/api/v1/agents/{self.agent}/exchange?received=0&wait={str(wait).lower()}"
        lines = f"POST {target} HTTP/1.1\r\nAuthorization: Bearer {self.token}\r\nContent-Length: {length}\r\n"
        return lines.encode() + self.host + b"\r\n"

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, body: bytes) -> tuple[int, bytes]:
        self.send(self.head(len(body)) + body)
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        """Status and body."""
        status = int(self.stream.readline().split()[1])
        length = 0
        while (header := self.stream.readline()) != b"\r\n":
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        return status, self.stream.read(length)
