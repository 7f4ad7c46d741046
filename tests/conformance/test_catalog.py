"""One suite for every database that can hold a catalog: SQLite, and a real PostgreSQL server."""

from __future__ import annotations

import dataclasses
import itertools
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from paddock.catalog import pools, schema
from paddock.catalog.chunk_index import CatalogChunkIndex
from paddock.catalog.database import SCHEMA_VERSION, Catalog
from paddock.catalog.dialect import Engine
from paddock.catalog.postgres import PostgresEngine
from paddock.catalog.sqlite import SqliteEngine
from paddock.model.errors import Bug, Conflict
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location, PackRecord

NewEngine = Callable[[], Engine]
"""Another way to the same database."""

_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewEngine:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("catalog") / "catalog.db"
        return lambda: SqliteEngine(path)
    url = request.getfixturevalue("postgres").create(f"catalog_{next(_numbers)}")
    return lambda: PostgresEngine(url)


@pytest.fixture
def catalog(new_engine: NewEngine) -> Iterator[Catalog]:
    opened = Catalog.reach(new_engine())
    yield opened
    opened.close()


def add_project(catalog: Catalog, name: str) -> None:
    with catalog.write() as tx:
        tx.execute("INSERT INTO projects (name, description, created) VALUES (?, 'what?', 0)", (name,))


def names(catalog: Catalog) -> list[object]:
    with catalog.read() as tx:
        return [row[0] for row in tx.all("SELECT name FROM projects ORDER BY name")]


def test_opening_applies_every_migration_once(new_engine: NewEngine) -> None:
    Catalog.reach(new_engine(), now=lambda: 5.0).close()
    reopened = Catalog.reach(new_engine(), now=lambda: 6.0)
    with reopened.read() as tx:
        assert tx.all("SELECT version, applied FROM schema_versions ORDER BY version") == [
            (version, 5.0) for version in range(1, SCHEMA_VERSION + 1)
        ]
    reopened.close()


def test_a_migration_that_fails_changes_nothing(new_engine: NewEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    good = schema.migrations(new_engine().dialect)[0]
    broken = schema.Migration(1, "broken", good.sql + "\nCREATE TABLE projects (id INTEGER);\n")
    monkeypatch.setattr(schema, "migrations", lambda _dialect: (broken,))
    with pytest.raises(Bug, match="already exists"):
        Catalog.reach(new_engine())
    monkeypatch.undo()
    reopened = Catalog.reach(new_engine())
    assert names(reopened) == []
    reopened.close()


def test_a_newer_schema_is_refused_with_both_versions(new_engine: NewEngine, catalog: Catalog) -> None:
    with catalog.write() as tx:
        tx.execute("INSERT INTO schema_versions (version, title, applied) VALUES (99, 'later', 0)")
    with pytest.raises(Conflict, match=rf"version 99.*up to {SCHEMA_VERSION}.*pip install --upgrade"):
        Catalog.reach(new_engine())


def test_a_failed_block_leaves_nothing(catalog: Catalog) -> None:
    def failing() -> None:
        with catalog.write() as tx:
            tx.execute("INSERT INTO projects (name, description, created) VALUES ('a', '', 0)")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is raised two lines above
        failing()
    assert names(catalog) == []
    add_project(catalog, "b")
    assert names(catalog) == ["b"]


def test_a_statement_that_fails_ends_its_block_and_nothing_else(catalog: Catalog) -> None:
    add_project(catalog, "a")
    with pytest.raises(Bug, match="projects"):
        add_project(catalog, "a")
    add_project(catalog, "b")
    assert names(catalog) == ["a", "b"]


def test_a_read_sees_one_snapshot(catalog: Catalog) -> None:
    with catalog.read() as tx:
        assert tx.one("SELECT count(*) FROM projects") == (0,)
        add_project(catalog, "a")
        assert tx.one("SELECT count(*) FROM projects") == (0,)
    assert names(catalog) == ["a"]


def test_a_preview_changes_nothing(catalog: Catalog) -> None:
    with catalog.preview() as tx:
        tx.execute("INSERT INTO projects (name, description, created) VALUES ('a', '', 0)")
        assert tx.one("SELECT count(*) FROM projects") == (1,)
    assert names(catalog) == []


def test_a_write_inside_a_write_is_a_bug_and_does_not_hang(catalog: Catalog) -> None:
    def nested() -> None:
        with catalog.write(), catalog.write():
            pass

    with pytest.raises(Bug, match="inside another"):
        nested()
    add_project(catalog, "a")
    assert names(catalog) == ["a"]


def test_threads_write_in_turn(catalog: Catalog) -> None:
    def work() -> None:
        for _ in range(5):
            with catalog.write() as tx:
                row = tx.one("SELECT count(*) FROM projects")
                assert row is not None
                tx.execute("INSERT INTO projects (name, description, created) VALUES (?, '', 0)", (f"p{row[0]}",))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(catalog)) == 40


def changed_from(catalog: Catalog, version: int) -> int:
    """The next version; a server's word may take a moment."""
    deadline = time.monotonic() + 10
    while (found := catalog.data_version()) == version:
        assert time.monotonic() < deadline, "the version does not change"
        if (fd := catalog.wake_fd()) is not None:
            select.select([fd], [], [], 1)
    return found


def test_data_version_changes_with_every_commit_of_anyone(new_engine: NewEngine, catalog: Catalog) -> None:
    first = catalog.data_version()
    assert catalog.data_version() == first
    add_project(catalog, "mine")
    second = changed_from(catalog, first)
    other = Catalog.reach(new_engine())
    add_project(other, "theirs")
    other.close()
    third = changed_from(catalog, second)
    assert first != third
    assert catalog.data_version() == third


def test_names_are_ordered_by_their_bytes(catalog: Catalog) -> None:
    for name in ("b", "A", "a-b", "ab", "_", "Z"):
        add_project(catalog, name)
    assert names(catalog) == ["A", "Z", "_", "a-b", "ab", "b"]


def test_any_number_of_values_can_be_asked_for(catalog: Catalog) -> None:
    for number in range(3):
        add_project(catalog, f"p{number}")
    wanted = [f"p{number}" for number in range(2000)]
    with catalog.read() as tx:
        assert sorted(tx.all_in("SELECT name FROM projects WHERE name IN ({})", wanted)) == [("p0",), ("p1",), ("p2",)]
        assert tx.all_in("SELECT name FROM projects WHERE name IN ({})", []) == []


def test_rows_are_inserted_and_changed_in_bulk(catalog: Catalog) -> None:
    with catalog.write() as tx:
        project = tx.insert("INSERT INTO projects (name, description, created) VALUES ('p', '', 0) RETURNING id")
        repo = tx.insert(
            "INSERT INTO repos (project_id, name, kind, description, created) VALUES (?, 'r', 'user', '', 0) RETURNING id",
            (project,),
        )
        sql = (
            "INSERT INTO commits (repo_id, set_id, branch, state, origin, parent_id, description, error, tree, merged,"
            " size_bytes, files, created, finished) VALUES (?, ?, 'main', 'open', 'user', NULL, '', '', '', 0, 0, 0, ?, ?)"
        )
        tx.executemany(sql, [(repo, "a", 1.5, None), (repo, "b", 2.5, 3.5), (repo, "c", 3.0, None)])
        tx.executemany("UPDATE commits SET files = ? WHERE set_id = ?", [(7, "a"), (8, "c")])
        tx.executemany("DELETE FROM commits WHERE set_id = ?", [])
    with catalog.read() as tx:
        rows = tx.all("SELECT set_id, created, finished, files FROM commits ORDER BY id")
    assert rows == [("a", 1.5, None, 7), ("b", 2.5, 3.5, 0), ("c", 3.0, None, 8)]


def pack(name: str, numbers: range) -> PackRecord:
    id = PackId(name * 32)
    return PackRecord(
        id,
        1000,
        tuple((Digest(number.to_bytes(32, "big")), Location(id, number * 10, 10, 20, 1)) for number in numbers),
    )


def test_chunks_are_registered_once_and_located_in_bulk(catalog: Catalog) -> None:
    index = CatalogChunkIndex(catalog)
    packs = [pack("a", range(700)), pack("b", range(600, 1500))]
    index.register(packs)
    index.register(packs[:1])
    expected = dict(packs[1].chunks) | dict(packs[0].chunks)
    assert index.locate([*expected, Digest(b"\xff" * 32)]) == expected
    assert index.known(list(expected)[:3]) == set(list(expected)[:3])


def test_roots_that_rows_give_up_are_noted(catalog: Catalog) -> None:
    with catalog.write() as tx:
        for root in ("aa", "bb"):
            tx.execute("INSERT INTO result_runs (transform, root, entries, created) VALUES ('t', ?, 1, 0)", (root,))
        tx.execute("DELETE FROM result_runs")
        assert sorted(tx.all("SELECT kind, root, generation FROM released_roots")) == [
            ("cache", "aa", 1),
            ("cache", "bb", 1),
        ]


def test_pools_are_written_anew_and_reasons_are_found_by_pipeline(catalog: Catalog) -> None:
    first = pools.PoolRow("slurm-1", "slurm", ("default/a", "default/b"), 1, 2, 3, 4, "", 5.0)
    second = dataclasses.replace(first, name="lab", engine="local", pipelines=("default/c",), reason="nobody is there")
    with catalog.write() as tx:
        pools.put_pool(tx, dataclasses.replace(first, busy=9, reason="what was"))
        for row in (first, second):
            pools.put_pool(tx, row)
    with catalog.read() as tx:
        assert pools.pools(tx) == [second, first]
        assert pools.reasons(tx) == {"default/c": "nobody is there"}
    with catalog.write() as tx:
        pools.delete_pool(tx, "lab")
        pools.add_token(tx, "slurm-1", "a", description="", created=1.0)
        pools.add_token(tx, "lab", "b", description="", created=1.0)
        pools.delete_tokens_of(tx, "slurm-1")
        assert [row.pool for row in pools.tokens(tx)] == ["lab"]
    with catalog.read() as tx:
        assert pools.pools(tx) == [first]
