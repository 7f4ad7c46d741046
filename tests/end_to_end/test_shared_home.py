"""A home on PostgreSQL and an object store: two servers on one catalog, of which one dies; what is refused; upgrades."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path

import httpx2
import psycopg
import pytest

from paddock.catalog import copying
from paddock.catalog.copying import TABLES
from paddock.catalog.database import SCHEMA_VERSION, Catalog
from paddock.client.connection import connect
from paddock.model.errors import Conflict, Corrupt, InvalidInput, NotFound, PaddockError, Unavailable
from paddock.model.records import JobState
from paddock.testing.postgres import RunningPostgres
from paddock.testing.servers import RunningServer, running_agent, running_server
from paddock.versions.migrate import migrate
from paddock.versions.shared_home import open_shared, upgrade_shared

FILES = 40
LIMIT_SECONDS = 120


def until_listed(*servers: RunningServer) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        place = httpx2.get(f"{servers[0].url}/api/v1/scheduler").json()
        if set(place["servers"]) == {each.url for each in servers} and place["url"] == servers[0].url:
            return
        assert time.monotonic() < deadline, f"not all servers are listed: {place}"


@pytest.mark.slow
def test_another_server_takes_over_and_the_output_is_the_same(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog, storage, trace = postgres.create("takes_over"), (tmp_path / "store").as_uri(), tmp_path / "trace"
    with (
        running_server(None, workers=0, catalog=catalog, storage=storage) as first,
        running_server(None, workers=0, catalog=catalog, storage=storage) as second,
        connect(url=second.url, environment={}) as remote,
    ):
        remote.repos.create("data")
        script = f"basename $data >> {trace}; sleep 0.1; tr a-z A-Z < $data > /pfs/out/$(basename $data)"
        spec = {
            "pipeline": {"name": "upper"},
            "transform": {"cmd": ["sh", "-e", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 4},
        }
        remote.pipelines.apply(spec)
        remote.commits.start("data@main")
        for number in range(FILES):
            remote.files.put(f"data@main:/f{number:03}", b"text %d\n" % number)
        remote.commits.finish("data@main")
        token = remote.pools.create_token("default").secret
        # The agent is told of the first server, which schedules and gives it its files, and learns of the second.
        until_listed(first, second)
        with running_agent(first.url, token, tmp_path):
            deadline = time.monotonic() + LIMIT_SECONDS
            while not trace.exists() or len(trace.read_text().split()) < 8:
                assert time.monotonic() < deadline, "nothing runs"
            first.process.kill()
            first.process.wait()
            (job,) = remote.jobs.wait(["upper@head"], timeout_seconds=LIMIT_SECONDS)
        assert (job.state, job.datums.total, job.datums.failed) == (JobState.SUCCESS, FILES, 0)
        assert job.datums.run + job.datums.reused == FILES
        for number in range(FILES):
            assert b"".join(remote.files.read(f"upper:/f{number:03}")) == b"TEXT %d\n" % number


def test_a_server_without_its_catalog_is_healthy_and_not_ready(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog = postgres.create("not_ready")
    with (
        running_server(None, workers=0, catalog=catalog, storage=(tmp_path / "store").as_uri()) as server,
        httpx2.Client(base_url=f"{server.url}/api/v1", timeout=LIMIT_SECONDS) as http,
        connect(url=server.url, environment={}) as remote,
    ):
        remote.repos.create("data")
        remote.commits.start("data@main")
        for name in ("a", "b"):
            remote.files.put(f"data@main:/{name}", b"text")
        remote.commits.finish("data@main")
        spec = {"pipeline": {"name": "same"}, "transform": {"cmd": ["true"]}}
        remote.pipelines.apply({**spec, "input": {"pfs": {"repo": "data", "glob": "/*"}}})

        def measured() -> str:
            return httpx2.get(f"{server.url}/metrics", timeout=LIMIT_SECONDS).text

        deadline = time.monotonic() + LIMIT_SECONDS
        while 'paddock_datums_waiting{pipeline="default/same"} 2\n' not in (text := measured()):
            assert time.monotonic() < deadline, text
        assert 'paddock_jobs{state="running"} 1\n' in text
        assert "# TYPE paddock_catalog_up gauge\npaddock_catalog_up 1\n" in text
        assert "\npaddock_scheduling 1\n" in text
        assert (http.get("/health").json(), http.get("/ready").json()) == ({"status": "ok"}, {"status": "ready"})
        with postgres.closed("not_ready"):
            assert http.get("/health").status_code == 200
            refused = http.get("/ready")
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert "\npaddock_catalog_up 0\n" in measured()
        assert http.get("/ready").status_code == 200
        assert server.process.poll() is None


def test_a_worker_that_does_not_reach_the_store_does_not_join(
    postgres: RunningPostgres, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    with (
        running_server(None, workers=0, catalog=postgres.create("direct"), storage=store.as_uri()) as server,
        connect(url=server.url, environment={}) as remote,
    ):
        token = remote.pools.create_token("default").secret
        store.rename(tmp_path / "elsewhere")  # as on a host that has not mounted it
        with running_agent(server.url, token, tmp_path, options=["--direct"]) as agent:
            assert agent.wait(LIMIT_SECONDS) == Conflict.exit_code
        assert "--direct: " in capfd.readouterr().err


def test_a_server_outlives_a_catalog_that_refuses_it(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog = postgres.create("refuses")
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE refused LOGIN")
        admin.execute("GRANT CREATE ON DATABASE refuses TO refused")
        admin.execute("ALTER DATABASE refuses OWNER TO refused")
        log = tmp_path / "log"
        user = catalog.replace(f"user={postgres.user}", "user=refused")
        with (
            log.open("wb") as stream,
            running_server(None, workers=0, catalog=user, storage=(tmp_path / "store").as_uri(), log=stream) as server,
            connect(url=server.url, environment={}) as remote,
        ):
            wait_for(log, "this server schedules now")
            admin.execute("ALTER ROLE refused NOLOGIN")
            postgres.cut("refuses")
            wait_for(log, "this server can't schedule.*not permitted to log in")
            with pytest.raises(PaddockError, match="not permitted to log in"):
                remote.repos.list()
            admin.execute("ALTER ROLE refused LOGIN")
            wait_for(log, "(this server schedules now[^§]*){2}")
            assert remote.repos.list() == ()


def wait_for(log: Path, pattern: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < deadline, f"{pattern} does not come:\n{log.read_text()}"
        time.sleep(0.05)


def test_a_new_home_needs_a_place_for_its_data_and_keeps_it(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog = postgres.create("new_home")
    with pytest.raises(NotFound, match="--storage"):
        connect(catalog=catalog, environment={})
    with connect(catalog=catalog, storage=(tmp_path / "one").as_uri(), environment={}) as made:
        made.repos.create("data")
    with connect(environment={"PADDOCK_CATALOG": catalog}) as found:
        assert [repo.name for repo in found.repos.list()] == ["data"]
    with pytest.raises(Conflict, match="leave --storage out"):
        connect(catalog=catalog, storage=(tmp_path / "two").as_uri(), environment={})
    with pytest.raises(Conflict, match="another home"):
        connect(catalog=postgres.create("new_home_2"), storage=(tmp_path / "one").as_uri(), environment={})


def test_wrong_places_are_named(postgres: RunningPostgres, tmp_path: Path) -> None:
    storage = (tmp_path / "store").as_uri()
    with pytest.raises(InvalidInput, match="no PostgreSQL URL"):
        connect(catalog="mysql://db/x", storage=storage, environment={})
    with pytest.raises(NotFound, match="createdb"):
        connect(catalog=postgres.url("no_such_database"), storage=storage, environment={})
    with pytest.raises(Unavailable, match="can't be reached"):
        connect(catalog="postgresql://user:secret@127.0.0.1:1/db", storage=storage, environment={})
    for mark in "@/?#%":
        with pytest.raises(
            InvalidInput, match=r"user@127\.0\.0\.1:1/db can't be told apart from its password"
        ) as caught:
            connect(catalog=f"postgresql://user:open{mark}secret@127.0.0.1:1/db", storage=storage, environment={})
        assert not {"open", "secret"} & set(re.findall(r"\w+", str(caught.value)))
    with pytest.raises(InvalidInput, match="unset one of them"):
        connect(environment={"PADDOCK_CATALOG": postgres.url(), "PADDOCK_HOME": str(tmp_path)})


def test_an_upgrade_is_refused_while_somebody_works_and_does_nothing_twice(
    postgres: RunningPostgres, tmp_path: Path
) -> None:
    catalog = postgres.create("upgraded")
    with (
        open_shared(catalog, storage=(tmp_path / "store").as_uri(), folder=tmp_path),
        pytest.raises(Conflict, match="in use"),
    ):
        upgrade_shared(catalog)
    assert upgrade_shared(catalog) == (SCHEMA_VERSION, SCHEMA_VERSION)
    with pytest.raises(NotFound, match="no home that could be upgraded"):
        upgrade_shared(postgres.create("nothing"))
    with open_shared(catalog, folder=tmp_path) as home, home.catalog.read() as tx:
        assert tx.one("SELECT max(version) FROM schema_versions") == (SCHEMA_VERSION,)


def test_a_home_moves_with_all_that_it_knows(
    postgres: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGE_ROWS", 2)
    home, storage = tmp_path / "home", (tmp_path / "store").as_uri()
    with connect(home, environment={}) as before:
        before.repos.create("data")
        spec = {
            "pipeline": {"name": "upper"},
            "transform": {"cmd": ["sh", "-c", "tr a-z A-Z < $data > /pfs/out/x; echo logged"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
        }
        before.pipelines.apply(spec)
        before.files.put("data@main:/a", b"abc")
        before.process(workers=1)
        expected = (before.commits.list("data"), before.jobs.list(), dict(before.jobs.logs("upper@head")))
        with pytest.raises(Conflict, match="in use"):
            migrate(home, postgres.create("moved_0"), storage=storage)
    catalog = postgres.create("moved")
    first = next(file for file in (home / "objects" / "packs").rglob("*") if file.is_file())
    kept = first.read_bytes()
    first.chmod(0o600)
    for damaged in (kept[:60] + bytes([kept[60] ^ 1]) + kept[61:], kept[: len(kept) // 2], None):
        first.unlink() if damaged is None else first.write_bytes(damaged)
        with pytest.raises(Corrupt, match=r"was not moved.*fsck --data"):
            migrate(home, catalog, storage=storage)
    with pytest.raises(NotFound, match="--storage"):
        connect(catalog=catalog, environment={})
    first.write_bytes(kept)
    report = migrate(home, catalog, storage=storage)
    assert report.packs >= 3
    with connect(catalog=catalog, environment={}) as after:
        assert (after.commits.list("data"), after.jobs.list(), dict(after.jobs.logs("upper@head"))) == expected
        assert b"".join(after.files.read("upper:/x")) == b"ABC"
        assert after.store.check(data=True).sound
        after.files.put("data@main:/b", b"def")
        after.process(workers=1)
        assert after.jobs.inspect("upper@head").state in (JobState.SUCCESS, JobState.FAILURE)
    with pytest.raises(Conflict, match="already"):
        migrate(home, catalog, storage=storage)


def test_a_home_moves_to_no_database_of_another_program(postgres: RunningPostgres, tmp_path: Path) -> None:
    connect(tmp_path / "home", environment={}).close()
    catalog, storage = postgres.create("foreign"), (tmp_path / "store").as_uri()
    with psycopg.connect(catalog) as connection:
        connection.execute("CREATE TABLE commits (x int)")
    with pytest.raises(Conflict, match=r"tables of another program \(commits\)"):
        migrate(tmp_path / "home", catalog, storage=storage)
    with pytest.raises(InvalidInput, match="no PostgreSQL URL"):
        migrate(tmp_path / "home", "host=db password=hidden", storage=storage)


def test_every_table_is_copied_or_the_places_own(tmp_path: Path) -> None:
    Catalog.open(tmp_path / "catalog.db").close()
    with closing(Catalog.open(tmp_path / "catalog.db")) as catalog, catalog.read() as tx:
        found = {row[0] for row in tx.all("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert found == {*TABLES, "schema_versions", "scheduler", "home", "pools", "servers", "permit_secret"}


def test_a_home_outlives_a_restart_of_its_sessions(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog = postgres.create("outlives")
    with connect(catalog=catalog, storage=(tmp_path / "store").as_uri(), environment={}) as paddock:
        paddock.repos.create("data")
        paddock.files.put("data@main:/a", b"a")
        assert postgres.cut("outlives") > 0
        paddock.files.put("data@main:/b", b"b")
        assert [file.path for file in paddock.files.list("data:/")] == ["/a", "/b"]
