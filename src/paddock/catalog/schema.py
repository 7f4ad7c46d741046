"""The catalog's schema: numbered migrations, applied in order, each in one transaction.

A migration is a file `migrations/NNNN_title.sql`; it never changes once released and uses nothing of today's
code. Where one text can't serve both databases, `NNNN_title.postgresql.sql` stands beside it.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable

from paddock.catalog.dialect import Connection, Engine
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    title: str
    sql: str


def migrations(dialect: str = "sqlite") -> tuple[Migration, ...]:
    """All migrations that this package has for a database, by version."""
    files = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in importlib.resources.files("paddock.catalog").joinpath("migrations").iterdir()
    }
    found = []
    for name, text in sorted(files.items()):
        stem, _, variant = name.partition(".")
        if variant == "sql":
            number, _, title = stem.partition("_")
            text = files.get(f"{stem}.{dialect}.sql", text)
            found.append(Migration(int(number), title.replace("_", " "), text))
    return tuple(found)


def apply(engine: Engine, connection: Connection, *, present: int, now: Callable[[], float]) -> int:
    """Apply the migrations after version `present`; the version reached.

    The caller excludes other processes. A crash leaves the version before or the one after a migration, never
    between.
    """
    for migration in migrations(engine.dialect):
        if migration.version <= present:
            continue
        connection.begin_write()
        try:
            for statement in statements(engine.render(migration.sql)):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_versions (version, title, applied) VALUES (?, ?, ?)",
                (migration.version, migration.title, now()),
            )
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        present = migration.version
    return present


def statements(sql: str) -> list[str]:
    """The statements of a migration: each ends in `;` at the end of a line."""
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    parts = "\n".join(lines).split(";\n")
    return [part.strip().removesuffix(";") for part in parts if part.strip()]
