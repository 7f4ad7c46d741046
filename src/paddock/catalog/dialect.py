"""The seam between the catalog and a SQL database: what differs between SQLite and PostgreSQL, and nothing
else.

Statements elsewhere are written once, with `?` placeholders, in the SQL that SQLite 3.37 and PostgreSQL 15
both understand. Migrations name the few column types that differ as `{{identity}}`, `{{bytes}}` and
`{{clustered}}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

Value = str | int | float | bytes | None
Row = tuple[Value, ...]


class Connection(Protocol):
    """One database connection, used by one thread at a time. Every method raises errors of the one tree
    only.
    """

    def begin_read(self) -> None:
        """Start a transaction that sees one snapshot."""

    def begin_write(self) -> None:
        """Start a transaction that excludes other writers at once; Unavailable after the busy timeout."""

    def commit(self) -> None:
        """Make the transaction durable before returning."""

    def rollback(self) -> None:
        """Drop the transaction; never raises for one that the database has dropped already."""

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run one statement; the number of rows it changed."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> int:
        """Run one statement for each row of parameters; the number of rows changed in all."""

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one query; all its rows."""

    def rows_in(self, sql: str, values: Sequence[Value]) -> list[Row]:
        """Run a query whose text has one `IN ({})`, for any number of values of one type."""

    def restart_identities(self, tables: Sequence[str]) -> None:
        """After rows were inserted with ids of their own: let the next id of each table follow the highest."""

    def has_table(self, name: str) -> bool: ...

    def data_version(self) -> int:
        """A number that differs after any other connection has committed."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when `data_version` has something new; None: it has to be asked for."""

    @property
    def broken(self) -> bool:
        """Whether the database has ended it: it is of no more use."""

    def close(self) -> None: ...


class Engine(Protocol):
    """How to reach one database. Shared by all threads."""

    @property
    def name(self) -> str:
        """What errors call the database: a file path or a URL without credentials."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`: which of a migration's variants is meant for it."""

    def connect(self) -> Connection: ...

    def prepare(self) -> None:
        """One-time settings of a new database; the caller holds the home's lock."""

    def close(self) -> None:
        """Give up what it holds itself; connections are closed by who has them."""

    def render(self, ddl: str) -> str:
        """A migration's text with the names of column types filled in."""
