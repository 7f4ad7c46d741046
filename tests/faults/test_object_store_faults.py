"""A real S3 server behind a proxy that makes it misbehave: nothing is lost, nothing doubled, messages name the object."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.model.errors import Corrupt, LimitExceeded, Unavailable
from paddock.model.records import JobState
from paddock.model.services import Paddock
from paddock.storage.network_objects import REQUEST_RETRIES, NetworkObjects, Retrying
from paddock.storage.object_urls import open_objects, parse_store_url
from paddock.testing.object_servers import S3Server
from paddock.testing.store_proxy import StoreFault, StoreProxy, StoreRequest, fault_at, random_faults

SMALL = b"one small object"
LARGE = bytes(range(256)) * (36 << 10)
PASSING = (
    StoreFault.ERROR,
    StoreFault.BUSY,
    StoreFault.ERROR_AFTER,
    StoreFault.RESET_AFTER,
    StoreFault.TRUNCATED,
    StoreFault.SLOW,
)


@pytest.fixture
def proxy(s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    with StoreProxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        yield running


@pytest.fixture
def objects(proxy: StoreProxy, s3_url: str) -> NetworkObjects:
    found = open_objects(parse_store_url(s3_url))
    assert isinstance(found, NetworkObjects)
    return found


def write(objects: NetworkObjects, key: str, content: bytes) -> None:
    writer = objects.create(key)
    try:
        writer.write(content)
        writer.finish()
    finally:
        writer.abort()


def life(objects: NetworkObjects, prefix: str) -> None:
    """Everything that is done with objects, each result checked."""
    write(objects, f"{prefix}/small", SMALL)
    write(objects, f"{prefix}/large", LARGE)
    assert objects.read(f"{prefix}/small") == SMALL
    assert objects.read_range(f"{prefix}/large", 8 << 20, 1000) == LARGE[8 << 20 :][:1000]
    assert b"".join(objects.stream(f"{prefix}/large")) == LARGE
    assert [(info.key, info.size) for info in objects.list(f"{prefix}/")] == [
        (f"{prefix}/large", len(LARGE)),
        (f"{prefix}/small", len(SMALL)),
    ]
    objects.delete(f"{prefix}/small")
    assert not objects.exists(f"{prefix}/small")


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        (StoreFault.ERROR, StoreFault.ERROR_AFTER, StoreFault.BUSY, StoreFault.SLOW),
        (StoreFault.RESET_AFTER,),
        (StoreFault.TRUNCATED,),
    ],
    ids=lambda faults: faults[0].name,
)
def test_each_request_may_fail_once(objects: NetworkObjects, proxy: StoreProxy, faults: tuple[StoreFault, ...]) -> None:
    life(objects, "untouched")
    requests = proxy.count
    assert requests >= 10
    for number in range(1, requests + 1):
        fault = faults[number % len(faults)]
        proxy.reset(fault_at(number, fault))
        life(objects, f"{fault.name}-{number}")
        assert len(proxy.faults) == 1


def test_a_store_that_always_fails_is_given_up_with_the_object_named(
    objects: NetworkObjects, proxy: StoreProxy
) -> None:
    slept: list[float] = []
    impatient = NetworkObjects(objects._store, objects.url, retrying=Retrying(attempts=3, sleep=slept.append))
    write(impatient, "a", SMALL)
    proxy.reset(lambda _request: StoreFault.TRUNCATED)
    with pytest.raises(Unavailable, match=rf"can't read {objects.url}/a: .*try again"):
        impatient.read_range("a", 0, 10)
    assert len(slept) == 2


def test_the_waits_between_attempts_grow_and_end(objects: NetworkObjects) -> None:
    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    def fail() -> None:
        raise Unavailable("down")

    retrying = Retrying(attempts=10, total_seconds=12, sleep=sleep, clock=lambda: now, share=lambda: 1.0)
    with pytest.raises(Unavailable):
        retrying.run(fail)
    assert slept == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


# ---- a home behind it --------------------------------------------------------------------------------------


def fill(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    contents = {f"small-{number}": os.urandom(3000) for number in range(60)} | {"large": os.urandom(12 << 20)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_home_lives_through_passing_faults(proxy: StoreProxy, s3_url: str, tmp_path: Path) -> None:
    wanted = fill(tmp_path / "in")
    with connect(tmp_path / "home", storage=s3_url, environment={"PADDOCK_WORKERS": "2"}) as paddock:
        proxy.reset(random_faults(1, 0.2, (*PASSING, StoreFault.FLIPPED, StoreFault.STALE)))
        for name in ("data", "gone"):
            paddock.repos.create(name)
            report = paddock.files.put_tree(f"{name}@main", tmp_path / "in")
            assert (report.files, paddock.files.inspect(f"{name}@main").files) == (len(wanted), len(wanted))
        paddock.pipelines.apply(
            {
                "pipeline": {"name": "copy"},
                "transform": {"cmd": ["sh", "-c", 'cp "$data" "$PADDOCK_PFS/out/"']},
                "input": {"pfs": {"repo": "data", "glob": "/small-*"}},
            }
        )
        assert [job.state for job in paddock.process()] == [JobState.SUCCESS]
        paddock.repos.delete("gone")
        paddock.store.collect_garbage(grace_seconds=0)
        paddock.files.get_tree("data@main", tmp_path / "out")
        paddock.files.get_tree("copy@main", tmp_path / "copied")
        assert proxy.faults
        proxy.reset()
        assert contents(tmp_path / "out") == wanted
        small = {name: content for name, content in wanted.items() if name != "large"}
        assert contents(tmp_path / "copied") == small
        check = paddock.store.check(data=True)
        assert check.damages == ()
        assert paddock.store.collect_garbage(grace_seconds=0).removed_packs == 0, "nothing was stored twice"


def packs_put(paddock: Paddock) -> None:
    paddock.repos.create("data")
    paddock.files.put("data:/a", b"first")


def test_a_stale_listing_neither_deletes_nor_denies_what_is_there(
    proxy: StoreProxy, s3_url: str, tmp_path: Path
) -> None:
    with connect(tmp_path / "home", storage=s3_url, environment={}) as paddock:
        packs_put(paddock)
        paddock.store.check()
        paddock.files.put("data:/b", b"second, after the listing")
        proxy.reset(lambda request: StoreFault.STALE if request.lists else None)
        assert paddock.store.check(data=True, repair=True).damages == ()
        paddock.store.collect_garbage(grace_seconds=0)
        assert b"".join(paddock.files.read("data:/b")) == b"second, after the listing"


def test_a_bit_that_flips_in_the_store_is_named_each_time(proxy: StoreProxy, s3_url: str, tmp_path: Path) -> None:
    with connect(tmp_path / "home", storage=s3_url, environment={}) as paddock:
        packs_put(paddock)
        proxy.reset(lambda request: StoreFault.FLIPPED if request.method == "GET" else None)
        with pytest.raises(Corrupt, match=r"chunk [0-9a-f]{64} in pack [0-9a-f]{32} is damaged"):
            b"".join(paddock.files.read("data:/a"))
        proxy.reset()
        assert b"".join(paddock.files.read("data:/a")) == b"first"


# ---- a put that is killed, and a server without room -----------------------------------------------------------


class _Killer:
    """Kills a process while its `number`-th request is at the proxy: before the server sees it, or after."""

    def __init__(self, number: int, *, before: bool) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._number = number
        self._before = before

    def __call__(self, request: StoreRequest) -> StoreFault | None:
        if request.number != self._number or self.process is None:
            return None
        self.process.kill()
        self.process.wait()
        return StoreFault.ERROR if self._before else None


def put_command(home: Path, source: Path) -> list[str]:
    return [sys.executable, "-m", "paddock", "--home", str(home), "put", "data@main", str(source)]


@pytest.mark.slow
def test_a_put_that_is_killed_in_its_upload_leaves_the_old_state_and_is_put_again(
    proxy: StoreProxy, s3_url: str, tmp_path: Path
) -> None:
    wanted = fill(tmp_path / "in")
    home = tmp_path / "home"
    with connect(home, storage=s3_url, environment={}) as paddock:
        packs_put(paddock)
        kills = 0
        for number in range(1, 60, 2):
            # Other parts each time, sent at the same time, so that it is not always the same one that is cut off.
            (tmp_path / "in" / "large").write_bytes(wanted["large"][: 6 << 20] + os.urandom(6 << 20))
            before = paddock.files.inspect("data@main").digest
            killer = _Killer(number, before=number % 4 == 1)
            proxy.reset(killer)
            killed = subprocess.Popen(put_command(home, tmp_path / "in"), stdout=subprocess.DEVNULL)
            killer.process = killed
            if killed.wait() == 0:
                break
            proxy.reset()
            kills += 1

            assert killed.returncode == -signal.SIGKILL
            assert paddock.files.inspect("data@main").digest == before
            assert paddock.store.check().damages == ()
        assert kills >= 2
        (tmp_path / "in" / "large").write_bytes(wanted["large"])
        report = paddock.files.put_tree("data@main", tmp_path / "in")
        assert report.changed >= 1
        paddock.store.collect_garbage(grace_seconds=0)
        assert paddock.store.check(data=True).damages == ()
        paddock.files.get_tree("data@main", tmp_path / "out")
        assert contents(tmp_path / "out") == {**contents(tmp_path / "in"), "a": b"first"}


def test_a_server_without_room_is_named_and_nothing_is_lost(
    proxy: StoreProxy, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REQUEST_RETRIES, "max_retries", 1)  # which wait 12 s for room
    wanted = fill(tmp_path / "in")
    with connect(tmp_path / "home", storage=s3_url, environment={}) as paddock:
        packs_put(paddock)
        before = paddock.files.inspect("data@main").digest
        proxy.reset(lambda request: StoreFault.FULL if request.method in ("PUT", "POST") else None)

        with pytest.raises(LimitExceeded, match=r"can't write s3://.*no room"):
            paddock.files.put_tree("data@main", tmp_path / "in")

        assert paddock.files.inspect("data@main").digest == before
        proxy.reset()
        assert paddock.files.put_tree("data@main", tmp_path / "in").changed == len(wanted)
        assert paddock.store.check(data=True).damages == ()
