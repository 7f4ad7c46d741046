"""SQLite behind the dialect seam: WAL, full durability, and its errors translated. The only module that
imports sqlite3.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paddock.catalog.dialect import Row, Value
from paddock.model.errors import (
    Bug,
    Conflict,
    Corrupt,
    LimitExceeded,
    PaddockError,
    PermissionDenied,
    Unavailable,
)

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a writer waits for another one. The longest transaction we make (100,000 chunk-index rows)
takes about a second, so thirty mean that some process is stuck rather than slow.
"""

_TYPES = {"{{identity}}": "INTEGER PRIMARY KEY", "{{bytes}}": "BLOB", "{{clustered}}": "WITHOUT ROWID"}
_CACHED_STATEMENTS = 256
_CHECKPOINT_PAGES = 16_000
"""A write-ahead log of 64 MiB. Digests fall everywhere in the chunk index, so each report dirties most of the pages that the one before
it did; with SQLite's 1,000 pages all of them are copied and synced with each report, twice the time."""
IN_LIST_MAX = 500
"""Values in one `IN (…)` list: SQLite plans long lists slowly."""
FREE_BYTES_MIN = 1 << 20
"""Below so much free space an I/O error of SQLite is taken for a full disk."""


class SqliteEngine:
    """A database in one file (with `-wal` and `-shm` beside it). Implements `dialect.Engine`."""

    def __init__(self, path: Path, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def dialect(self) -> str:
        return "sqlite"

    def connect(self) -> SqliteConnection:
        with _translated(self._path):
            raw = sqlite3.connect(
                self._path,
                timeout=self._busy_timeout_seconds,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
            )
            try:
                raw.execute("PRAGMA synchronous = FULL")
                raw.execute("PRAGMA foreign_keys = ON")
                raw.execute("PRAGMA journal_size_limit = 67108864")
                raw.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            except BaseException:
                raw.close()
                raise
        return SqliteConnection(raw, self._path)

    def prepare(self) -> None:
        # The journal mode is kept in the file. Switching it needs the file for itself, so it happens once,
        # here.
        with (
            _translated(self._path),
            contextlib.closing(sqlite3.connect(self._path, timeout=self._busy_timeout_seconds)) as raw,
        ):
            (mode,) = raw.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise Conflict(
                f"catalog {self._path} can't use a write-ahead log (mode {mode!r}); move the home to a local disk"
            )

    def close(self) -> None:
        pass

    def render(self, ddl: str) -> str:
        for mark, text in _TYPES.items():
            ddl = ddl.replace(mark, text)
        return ddl


class SqliteConnection:
    """One sqlite3 connection. Implements `dialect.Connection`."""

    def __init__(self, raw: sqlite3.Connection, path: Path) -> None:
        self._raw = raw
        self._path = path

    def begin_read(self) -> None:
        self.execute("BEGIN")

    def begin_write(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        if self._raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._raw.execute("ROLLBACK")

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        with _translated(self._path):
            return self._raw.execute(sql, parameters).rowcount

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> int:
        with _translated(self._path):
            return self._raw.executemany(sql, rows).rowcount

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        with _translated(self._path):
            return self._raw.execute(sql, parameters).fetchall()

    def rows_in(self, sql: str, values: Sequence[Value]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(values), IN_LIST_MAX):
            part = values[start : start + IN_LIST_MAX]
            found += self.rows(sql.format(",".join("?" * len(part))), part)
        return found

    def restart_identities(self, tables: Sequence[str]) -> None:
        pass  # the next id always follows the highest

    def has_table(self, name: str) -> bool:
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def data_version(self) -> int:
        (row,) = self.rows("PRAGMA data_version")
        return int(row[0] or 0)

    def fileno(self) -> int | None:
        return None

    @property
    def broken(self) -> bool:
        return False

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._raw.close()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.Error, path: Path) -> PaddockError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(
                f"catalog {path} is busy: another process has been writing to it for too long; try again"
            )
        case sqlite3.SQLITE_FULL:
            return _no_space(path)
        case sqlite3.SQLITE_IOERR if _is_full(path):
            return _no_space(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Corrupt(f"catalog {path} is damaged ({error}); restore it from a copy of the home")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return PermissionDenied(f"catalog {path} can't be written ({error}); check the owner and mode of the home")
        case sqlite3.SQLITE_CANTOPEN:
            return PermissionDenied(
                f"catalog {path} can't be opened ({error}); check that it exists and may be read and written"
            )
        case sqlite3.SQLITE_IOERR:
            return Unavailable(f"reading or writing catalog {path} failed ({error}); check the disk and its free space")
        case _:
            return Bug(f"catalog {path}: {error}; please report this")


def _no_space(path: Path) -> LimitExceeded:
    return LimitExceeded(f"no space left on the disk that holds catalog {path}; free some and try again")


def _is_full(path: Path) -> bool:
    """SQLite says only "disk I/O error" where its write-ahead log or the index of that can't grow."""
    try:
        return os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize < FREE_BYTES_MIN
    except OSError:
        return False
