"""The catalog's transactions, schema and errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.catalog import schema
from paddock.catalog.database import SCHEMA_VERSION, Catalog
from paddock.catalog.sqlite import SqliteEngine
from paddock.model.errors import Corrupt, LimitExceeded, PermissionDenied, Unavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(path)
    yield opened
    opened.close()


def _add_project(catalog: Catalog, name: str) -> None:
    with catalog.write() as tx:
        tx.execute("INSERT INTO projects (name, description, created) VALUES (?, '', 0)", (name,))


def _projects(catalog: Catalog) -> list[object]:
    with catalog.read() as tx:
        return [row[0] for row in tx.all("SELECT name FROM projects ORDER BY name")]


def test_migrations_are_numbered_without_gaps_up_to_the_schema_version() -> None:
    assert [migration.version for migration in schema.migrations()] == list(range(1, SCHEMA_VERSION + 1))


def test_opening_applies_every_migration_once(path: Path) -> None:
    Catalog.open(path, now=lambda: 5.0).close()
    reopened = Catalog.open(path, now=lambda: 6.0)
    with reopened.read() as tx:
        assert tx.all("SELECT version, applied FROM schema_versions") == [
            (version, 5.0) for version in range(1, SCHEMA_VERSION + 1)
        ]
        assert tx.one("PRAGMA journal_mode") == ("wal",)
        assert tx.one("PRAGMA synchronous") == (2,)
        assert tx.one("PRAGMA foreign_keys") == (1,)
    reopened.close()


def test_migrations_leave_no_placeholder_and_use_no_unknown_one() -> None:
    for migration in schema.migrations():
        assert "{{" not in SqliteEngine(Path("x")).render(migration.sql)


def test_a_writer_that_waits_too_long_is_told_to_try_again(path: Path, catalog: Catalog) -> None:
    impatient = SqliteEngine(path, busy_timeout_seconds=0.01).connect()
    with catalog.write(), pytest.raises(Unavailable, match=r"busy.*try again"):
        impatient.begin_write()
    impatient.begin_write()
    impatient.rollback()
    impatient.close()


def test_a_full_disk_is_a_limit_and_what_was_committed_stays(catalog: Catalog) -> None:
    _add_project(catalog, "kept")

    def fill() -> None:
        with catalog.write() as tx:
            tx.all("PRAGMA max_page_count = 1")
            tx.executemany(
                "INSERT INTO projects (name, description, created) VALUES (?, ?, 0)",
                ((f"p{number}", "x" * 2000) for number in range(10_000)),
            )

    with pytest.raises(LimitExceeded, match="no space left"):
        fill()
    assert _projects(catalog) == ["kept"]


def test_a_damaged_file_is_corrupt_and_named(path: Path) -> None:
    path.write_bytes(b"this is no database, but it is long enough to look like something" * 20)
    with pytest.raises(Corrupt, match=r"catalog\.db is damaged"):
        Catalog.open(path)


def test_a_catalog_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermissionDenied, match="can't be opened"):
        Catalog.open(tmp_path / "missing" / "catalog.db")


ONLY_SQLITE = re.compile(
    r"\b(INSERT OR|REPLACE INTO|PRAGMA|rowid|AUTOINCREMENT|sqlite_\w+|GLOB|strftime|julianday|ifnull)\b"
)
"""What PostgreSQL would refuse, as far as it was ever tempting to write."""


def test_sql_outside_the_dialect_seam_is_neutral() -> None:
    package = Path(schema.__file__).parent
    sources = [*package.glob("*.py"), *package.glob("migrations/*.sql")]
    assert len(sources) > 10
    for source in sources:
        if source.name not in ("sqlite.py", "postgres.py"):
            assert ONLY_SQLITE.search(source.read_text(encoding="utf-8")) is None, source.name


def test_only_the_dialect_seam_imports_the_driver() -> None:
    package = Path(schema.__file__).parent
    importers = [
        source.name for source in package.glob("*.py") if "import sqlite3" in source.read_text(encoding="utf-8")
    ]
    assert importers == ["sqlite.py"]
