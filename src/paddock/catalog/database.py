"""The catalog: small mutable state in a SQL database, reached through short transactions.

`Catalog` keeps a pool of connections, so that any number of threads may use it; each transaction has one to
itself. Reads see one snapshot and never wait for writers; writers exclude each other from the start.
"""

from __future__ import annotations

import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from paddock.catalog.dialect import Connection, Engine, Row, Value
from paddock.catalog.sqlite import SqliteEngine
from paddock.model.errors import Bug, Conflict, Unavailable

SCHEMA_VERSION = 10
"""The newest migration. A test holds it equal to the files, so that opening a catalog needn't list them."""

T = TypeVar("T")
_READ: Callable[[Connection], None] = operator.methodcaller("begin_read")
_WRITE: Callable[[Connection], None] = operator.methodcaller("begin_write")


def schema_version(path: Path) -> int:
    """The version of the schema in a SQLite file, which must exist. Once it returns, and no one else has the catalog
    open, the file itself holds all of it: nothing is left in a log beside. Conflict: a newer Paddock wrote it."""
    return schema_version_of(SqliteEngine(path))


def schema_version_of(engine: Engine) -> int:
    """The version of the schema in a database; 0 where there is none. Conflict: a newer Paddock wrote it."""
    connection = engine.connect()
    try:
        return _schema_version(connection, engine.name)
    finally:
        connection.close()


class Transaction:
    """What a `with catalog.read()` or `.write()` block works through. Not for use after the block."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run one statement; the number of rows it changed."""
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> int:
        return self._connection.executemany(sql, rows)

    def all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """All rows of a query."""
        return self._connection.rows(sql, parameters)

    def one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        """The first row of a query, or None."""
        rows = self._connection.rows(sql, parameters)
        return rows[0] if rows else None

    def insert(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run an `INSERT … RETURNING id`; the new id."""
        row = self.one(sql, parameters)
        assert row is not None, "insert() takes a statement that returns one id"
        return int(row[0] or 0)

    def restart_identities(self, tables: Sequence[str]) -> None:
        """Have new rows numbered after those that were inserted with numbers of their own."""
        self._connection.restart_identities(tables)

    def all_in(self, sql: str, values: Sequence[Value]) -> list[Row]:
        """Rows of a query whose text has one `IN ({})`, for any number of values; where they are many, run for slices of
        them, so an order holds within a slice only.
        """
        return self._connection.rows_in(sql, values)


class Catalog:
    """One catalog, opened. Safe for many threads; a thread may not start a write inside a write."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[Connection] = deque()
        self._writing = threading.local()
        self._watch: Connection | None = None
        self._watch_offset = 0
        """A new connection counts from anew; what is said must differ all the same."""
        self._watched = 0
        self._watch_lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        exclusive: Callable[[], AbstractContextManager[object]] = nullcontext,
        now: Callable[[], float] = time.time,
        migrate: bool = True,
    ) -> Catalog:
        """Open the catalog in a SQLite file, made if missing; an older schema is migrated, or refused where `migrate` is false.

        exclusive: keeps other processes out of a migration; not entered where the schema is current.
        Conflict: a newer Paddock wrote the schema, or an older one did that may not be migrated.
        """
        return cls.reach(SqliteEngine(path), exclusive=exclusive, now=now, migrate=migrate)

    @classmethod
    def reach(
        cls,
        engine: Engine,
        *,
        exclusive: Callable[[], AbstractContextManager[object]] = nullcontext,
        now: Callable[[], float] = time.time,
        migrate: bool = True,
    ) -> Catalog:
        """The same for any database."""
        catalog = cls(engine)
        try:
            catalog._migrate(exclusive, now, older=migrate)
        except BaseException:
            catalog.close()
            raise
        return catalog

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one snapshot."""
        connection = self._begin(_READ)
        try:
            yield Transaction(connection)
        finally:
            connection.rollback()
            self._give_back(connection)

    def ask(self, question: Callable[[Transaction], T]) -> T:
        """A read of one statement, without a transaction around it: one round trip to a database server in place of three."""
        answers: list[T] = []
        self._give_back(self._begin(lambda connection: answers.append(question(Transaction(connection)))))
        return answers[0]

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is the only writer; committed, durably, when the block ends without an error.

        Unavailable when another process keeps the lock for 30 s; LimitExceeded on a full disk. Nothing is
        changed then.
        """
        if getattr(self._writing, "active", False):
            raise Bug("a write transaction was started inside another one; please report this")
        connection = self._begin(_WRITE)
        self._writing.active = True
        try:
            yield Transaction(connection)
            connection.commit()
        finally:
            self._writing.active = False
            connection.rollback()
            self._give_back(connection)

    @contextmanager
    def preview(self) -> Iterator[Transaction]:
        """A write transaction whose changes are dropped at the end: to see what they would lead to."""
        connection = self._begin(_WRITE)
        try:
            yield Transaction(connection)
        finally:
            connection.rollback()
            self._give_back(connection)

    def data_version(self) -> int:
        """A number that changes after any commit, of this process or another. Costs microseconds."""
        with self._watch_lock:
            if self._watch is not None and self._watch.broken:
                self._watch.close()
                self._watch = None
            if self._watch is None:
                self._watch = self._engine.connect()
                self._watch_offset = self._watched + 1
            self._watched = self._watch_offset + self._watch.data_version()
            return self._watched

    def wake_fd(self) -> int | None:
        """A descriptor that becomes readable when `data_version` may have changed; None where it has to be asked for."""
        with self._watch_lock:
            return None if self._watch is None else self._watch.fileno()

    def close(self) -> None:
        """Close all idle connections; transactions that still run keep theirs until they end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self._engine.close()

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._engine.connect()

    def _begin(self, begin: Callable[[Connection], None]) -> Connection:
        """A connection with a transaction begun. One that the database ended while it was idle is replaced."""
        while True:
            fresh = not self._idle
            connection = self._take()
            try:
                begin(connection)
            except BaseException as error:
                connection.rollback()
                self._give_back(connection)
                if isinstance(error, Unavailable) and connection.broken and not fresh:
                    continue
                raise
            return connection

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.broken:
            connection.close()
        else:
            self._idle.append(connection)

    def _migrate(
        self, exclusive: Callable[[], AbstractContextManager[object]], now: Callable[[], float], *, older: bool
    ) -> None:
        connection = self._take()
        try:
            found = _schema_version(connection, self._engine.name)
            if found == SCHEMA_VERSION:
                return
            if found and not older:
                raise Conflict(
                    f"catalog {self._engine.name} has schema version {found}, older than version {SCHEMA_VERSION} of this "
                    "Paddock; bring the home up to date with `paddock upgrade`"
                )
            # Reading packaged files takes longer than all the rest of opening; few opens need it.
            from paddock.catalog import schema

            with exclusive():
                present = _schema_version(connection, self._engine.name)
                if present == 0:
                    self._engine.prepare()
                schema.apply(self._engine, connection, present=present, now=now)
        finally:
            self._give_back(connection)


def _schema_version(connection: Connection, name: str) -> int:
    """The version of the present schema, 0 where there is none; Conflict where it is newer than ours."""
    if not connection.has_table("schema_versions"):
        return 0
    (row,) = connection.rows("SELECT max(version) FROM schema_versions")
    present = int(row[0] or 0)
    if present > SCHEMA_VERSION:
        raise Conflict(
            f"catalog {name} has schema version {present}, but this Paddock knows versions "
            f"up to {SCHEMA_VERSION}; upgrade with `pip install --upgrade paddock`"
        )
    return present
