"""Many agents at one server: simulated ones, which speak the real exchanges, do a whole job; and what an exchange refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from paddock.client.connection import connect
from paddock.model.records import JobState
from paddock.model.services import Paddock
from paddock.testing.servers import RunningServer, running_server
from paddock.testing.simulated_agents import SimulatedAgents

AGENTS = 20
FILES = 400
LIMIT_SECONDS = 60


@pytest.fixture
def server(home_path: Path) -> Iterator[RunningServer]:
    with running_server(home_path, workers=0) as started:
        yield started


@pytest.fixture
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
    body = {"host": "h", "cpus": 1, "memory_bytes": 1, "disk_bytes": 1}

    def call(verb: str, path: str, secret: str | None, **given: object) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx2.request(verb, f"{server.url}/api/v1/{path}", headers=headers, **given)  # type: ignore[arg-type]

    agent = call("POST", "agents", token, json=body).json()["agent"]
    exchange = f"agents/{agent}/exchange"
    assert call("POST", f"{exchange}?received=0", token).content == b"beat 1.000\n"
    for path, secret, status, words in (
        (f"{exchange}?received=0", None, 403, "paddock pool token POOL"),
        (f"{exchange}?received=0", "wrong", 403, "token"),
        (f"{exchange}?received=0", foreign, 404, "join again"),
        (f"{exchange}?received=x", token, 422, "same Paddock version"),
        (f"{exchange}?received=0&wait=perhaps", token, 422, "same Paddock version"),
        ("agents/0123/exchange?received=0", token, 404, "join again"),
    ):
        answer = call("POST", path, secret)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert call("POST", f"{exchange}?received=0", token, content=b"nonsense").status_code == 422
    # Nobody of another pool sends an agent away.
    assert call("DELETE", f"agents/{agent}", foreign).status_code == 404
    assert call("POST", f"{exchange}?received=0", token).status_code == 200
