"""What a worker's token opens at a real server: the work of its pool, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from paddock.client.agent_uplink import HttpUplink
from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.network import FromWorker
from paddock.runtime.protocol import BatchTask, Claim, Ready, TransformTask, decode, encode
from paddock.storage.packs import pack_key
from paddock.testing.servers import RunningServer, running_server

API = "/api/v1"
FOR_WORKERS = {
    ("GET", "/scheduler"),
    ("POST", "/agents"),
    ("DELETE", "/agents/{agent}"),
    ("GET", "/objects/{key}"),
    ("PUT", "/objects/{key}"),
}
FOR_EVERYBODY = {("GET", "/version"), ("GET", "/health"), ("GET", "/ready")}
NEW_PACK = f"{API}/objects/packs/00/{'0' * 32}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server") / "home", workers=0) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def paddock(server: RunningServer) -> Iterator[Paddock]:
    """Two repos of one file each, and a pipeline over each: `near` for the pool `default`, `far` for the pool `lab`."""
    with connect(url=server.url, environment={}) as opened:
        for name, pool in (("near", "default"), ("far", "lab")):
            opened.repos.create(f"{name}-data")
            spec = {
                "pipeline": {"name": name},
                "transform": {"cmd": ["true"], "env": {"SECRET": name}},
                "input": {"pfs": {"repo": f"{name}-data", "glob": "/*"}},
                "pool": pool,
            }
            opened.pipelines.apply(spec)
            opened.files.put(f"{name}-data@main:/file", f"{name} text".encode())
        yield opened


@pytest.fixture(scope="module")
def tokens(paddock: Paddock) -> dict[str, str]:
    return {pool: paddock.pools.create_token(pool).secret for pool in ("default", "lab")}


def bearing(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **headers}


def check_refused(answer: httpx2.Response, reason: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, "permission-denied"), answer.text
    assert re.search(reason, answer.json()["detail"]), answer.text


def first_batch(server: RunningServer, token: str) -> tuple[str, TransformTask, BatchTask]:
    """Join as an agent with one worker that asks for work: the agent, and what its worker gets."""
    uplink = HttpUplink([server.url], token, capacity=Capacity(1, 1 << 30, 1 << 30), host="birch")
    agent = uplink.join()
    up = [FromWorker(0, 0, encode(Ready(1, "directory", ""))), FromWorker(1, 0, encode(Claim()))]
    received, found = 0, []
    while not any(isinstance(each, BatchTask) for each in found):
        answer = uplink.exchange(agent, received=received, messages=up, wait=True)
        found += [decode(each.line) for each in answer.messages if each.line is not None and each.number >= received]
        received = max((each.number + 1 for each in answer.messages), default=received)
    uplink.close()
    transform, batch = found
    assert isinstance(transform, TransformTask)
    assert isinstance(batch, BatchTask)
    return agent, transform, batch


def test_every_route_that_is_not_for_workers_refuses_their_token(http: httpx2.Client, tokens: dict[str, str]) -> None:
    routes = {
        (method.upper(), path.removeprefix(API))
        for path, methods in http.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert len(routes) > 80
    assert routes > FOR_WORKERS | FOR_EVERYBODY
    for method, path in sorted(routes - FOR_WORKERS):
        place = re.sub(r"\{\w+\}", "1", path)
        answer = http.request(method, API + place, headers=bearing(tokens["lab"]))
        if (method, path) in FOR_EVERYBODY:
            assert answer.status_code == 200
        else:
            check_refused(answer, f"{method} {API}{place} is not for workers")
    for path in ("/openapi.json", "/docs", f"{API}/agents-of-others", f"{API}/nothing"):
        check_refused(http.get(path, headers=bearing(tokens["lab"])), "is not for workers")


def test_routes_for_workers_ask_for_a_token_that_is_known(http: httpx2.Client) -> None:
    for method, path in sorted(FOR_WORKERS - {("GET", "/scheduler")} | {("POST", "/agents/1/exchange?received=0")}):
        body = {"host": "birch", "cpus": 1, "memory_bytes": 1, "disk_bytes": 1, "protocol": 1}
        place = NEW_PACK if "{key}" in path else API + path.replace("{agent}", "1")
        for headers, reason in (({}, "need a token"), (bearing("pdk_lab_guessed"), "not known")):
            check_refused(http.request(method, place, headers=headers, json=body if method == "POST" else None), reason)


def test_a_worker_gets_and_reads_what_is_its_pools_and_nothing_else(
    server: RunningServer, http: httpx2.Client, tokens: dict[str, str]
) -> None:
    given = {}
    for pool, name in (("default", "near"), ("lab", "far")):
        agent, transform, batch = first_batch(server, tokens[pool])
        assert (transform.pipeline, transform.env) == (name, {"SECRET": name})
        assert [each.repo for datum in batch.datums for each in datum.inputs] == [f"default/{name}-data"]
        ((_, at),) = batch.datums[0].inputs[0].files[0].chunks
        ((pack, permit),) = batch.permits
        assert pack == at.pack
        given[pool] = (agent, f"{API}/objects/{pack_key(pack)}", permit, at)
    for pool, other in (("default", "lab"), ("lab", "default")):
        agent, key, permit, at = given[pool]
        exactly = f"bytes={at.offset}-{at.offset + at.stored - 1}"
        own = bearing(tokens[pool], Range=exactly, **{"Paddock-Permit": permit})
        assert http.get(key, headers=own).content == (b"near text" if pool == "default" else b"far text")
        check_refused(http.get(key, headers=own | bearing(tokens[other])), f"and pool {other}")
        check_refused(http.get(given[other][1], headers=own), f"and pool {pool}")
        for more in (f"bytes={at.offset - 1}-{at.offset}", f"bytes={at.offset}-{at.offset + at.stored}"):
            check_refused(http.get(key, headers=own | {"Range": more}), "the permit is for bytes")
        check_refused(http.get(key, headers=bearing(tokens[pool], Range=exactly)), "shows none")
        check_refused(http.get(f"{API}/objects/home.json", headers=own), "names no object")
        assert http.head(key, headers=own).status_code == 405
        assert http.get(key, headers=bearing(tokens[pool], **{"Paddock-Permit": permit})).status_code == 422
        foreign = bearing(tokens[other])
        said = b'2 0 {"type":"claim"}\n'
        check_refused(
            http.post(f"{API}/agents/{agent}/exchange?received=0", headers=foreign, content=said), "another pool"
        )
        check_refused(http.delete(f"{API}/agents/{agent}", headers=foreign), "another pool")
        written = http.put(key, headers=bearing(tokens[pool]), content=b"other bytes")
        assert (written.status_code, written.json()["code"]) == (409, "already-exists")
    for agent, *_ in given.values():
        token = tokens["default" if agent == given["default"][0] else "lab"]
        assert http.delete(f"{API}/agents/{agent}", headers=bearing(token)).status_code == 204


def test_what_was_just_written_is_not_read_without_a_batch(http: httpx2.Client, tokens: dict[str, str]) -> None:
    assert http.put(NEW_PACK, headers=bearing(tokens["lab"]), content=b"new").status_code == 201
    check_refused(http.get(NEW_PACK, headers=bearing(tokens["lab"], Range="bytes=0-2")), "shows none")


def test_a_worker_and_a_server_of_different_versions_say_which_to_install(
    http: httpx2.Client, tokens: dict[str, str]
) -> None:
    old = {"host": "birch", "cpus": 1, "memory_bytes": 1, "disk_bytes": 1}
    answer = http.post(f"{API}/agents", headers=bearing(tokens["lab"]), json=old)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert re.search(r"speaks version 0 .* install Paddock \d", answer.json()["detail"])


def test_a_deleted_token_reads_nothing_more(paddock: Paddock, http: httpx2.Client) -> None:
    made = paddock.pools.create_token("lab")
    paddock.pools.delete_token(made.token.id)
    check_refused(http.get(NEW_PACK, headers=bearing(made.secret, Range="bytes=0-2")), "not known")
