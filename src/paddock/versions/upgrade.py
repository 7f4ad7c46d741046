"""Bring a home that an older Paddock wrote up to date: explicit, resumable, and reversible until finished (note 012).

    1. upgrade/journal.json says from where to where; from now on nobody opens the home
    2. upgrade/ gets copies of home.json and catalog.db
    3. each step of the format; then the migrations of the catalog
    4. home.json with the new version; the journal says finished; upgrade/ goes

Whoever finds a journal goes on with it (`upgrade`), or, until it says finished, puts the copies back (`undo`). A crash
at any moment leaves one of the two to be called again.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paddock.catalog.database import SCHEMA_VERSION, Catalog, schema_version
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Corrupt, LimitExceeded, NotFound, Unavailable
from paddock.versions.home import (
    CATALOG_FILE,
    FORMAT_VERSION,
    HOME_FILE,
    JOURNAL,
    UPGRADE_DIRECTORY,
    HomeFile,
    read_home_file,
    write_home_file,
)
from paddock.versions.locks import FileLocks

_BEGUN, _UNDOING, _FINISHED = "begun", "undoing", "finished"
_LOGS = (f"{CATALOG_FILE}-wal", f"{CATALOG_FILE}-shm")


@dataclass(frozen=True, slots=True)
class Step:
    """How a home of format version `to_version - 1` becomes one of `to_version`.

    apply: takes the home's folder. It may be called again after a crash, and changes nothing that the older version
    reads: it adds objects, or rows to the catalog (which is put back when the upgrade is undone).
    """

    to_version: int
    title: str
    apply: Callable[[Path], None]


STEPS: tuple[Step, ...] = ()
"""One for each format version after the first."""


@dataclass(frozen=True, slots=True)
class Versions:
    format: int
    schema: int
    """Of the catalog."""


@dataclass(frozen=True, slots=True)
class HomeVersions:
    """What a home is, what this Paddock would make of it, and whether it is on the way."""

    home: str
    present: Versions
    newest: Versions
    unfinished: bool

    @property
    def current(self) -> bool:
        return not self.unfinished and self.present == self.newest


@dataclass(frozen=True, slots=True)
class _Journal:
    state: str
    before: Versions
    after: Versions


def inspect_versions(path: Path, *, format_version: int = FORMAT_VERSION) -> HomeVersions:
    """The versions of the home at `path`; changes nothing. NotFound: there is none. Conflict: it is newer than this
    Paddock, or in use.
    """
    with FileLocks(path).use_alone():
        journal = _read_journal(path)
        present = _present(path, format_version) if journal is None else journal.before
        return HomeVersions(str(path), present, Versions(format_version, SCHEMA_VERSION), journal is not None)


def upgrade(
    path: Path,
    *,
    steps: Sequence[Step] = STEPS,
    format_version: int = FORMAT_VERSION,
    clock: Callable[[], float] = time.time,
) -> HomeVersions:
    """Bring the home at `path` up to date, or go on with doing so; its versions before. Does nothing where it is current.

    Conflict: it is in use, newer than this Paddock, or being taken back. After any other error the home can't be opened
    until `upgrade` or `undo` has run to its end.
    """
    with FileLocks(path).use_alone(), _translated(path):
        journal = _read_journal(path)
        newest = Versions(format_version, SCHEMA_VERSION)
        if journal is None:
            present = _present(path, format_version)
            if present == newest:
                return HomeVersions(str(path), present, newest, False)
            journal = _Journal(_BEGUN, present, newest)
            _write_journal(path, journal)
        if journal.state == _UNDOING:
            raise Conflict(f"the upgrade of home {path} is being undone; finish that with `paddock upgrade --undo`")
        if journal.state == _BEGUN:
            _keep_copies(path)
            for step in sorted(steps, key=lambda step: step.to_version):
                if journal.before.format < step.to_version <= newest.format:
                    step.apply(path)
            Catalog.open(path / CATALOG_FILE, now=clock).close()
            write_home_file(path, dataclasses.replace(_home_file(path, newest.format), format_version=newest.format))
            _write_journal(path, _Journal(_FINISHED, journal.before, newest))
        _clear(path)
        return HomeVersions(str(path), journal.before, newest, False)


def undo(path: Path) -> Versions:
    """Take back an upgrade that has not finished: the home is what it was before, byte for byte in what it refers to.

    Conflict: none is under way, or it is finished.
    """
    with FileLocks(path).use_alone(), _translated(path):
        journal = _read_journal(path)
        if journal is None or journal.state == _FINISHED:
            raise Conflict(
                f"no upgrade of home {path} is under way; a finished one can't be undone, only a copy restored"
            )
        _write_journal(path, dataclasses.replace(journal, state=_UNDOING))
        copies = path / UPGRADE_DIRECTORY
        if (copies / CATALOG_FILE).exists():
            # A log of the newer catalog must not be taken for one of the older.
            for name in _LOGS:
                (path / name).unlink(missing_ok=True)
            for name in (CATALOG_FILE, HOME_FILE):
                _copy(copies / name, path / name)
        _clear(path)
        return journal.before


def _present(path: Path, newest: int) -> Versions:
    return Versions(_home_file(path, newest).format_version, schema_version(path / CATALOG_FILE))


def _home_file(path: Path, newest: int) -> HomeFile:
    file = read_home_file(path, newest=newest)
    if file is None:
        raise NotFound(f"there is no Paddock home at {path}; name another with --home")
    return file


def _keep_copies(path: Path) -> None:
    """Copy home.json, then the catalog: where the latter's copy is, both are, and they are whole."""
    copies = path / UPGRADE_DIRECTORY
    if (copies / CATALOG_FILE).exists():
        return
    schema_version(path / CATALOG_FILE)
    for name in (HOME_FILE, CATALOG_FILE):
        _copy(path / name, copies / name)


def _copy(source: Path, target: Path) -> None:
    """Durably, and whole or not at all."""
    new = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, new)
    _sync(new)
    new.replace(target)
    _sync(target.parent)


def _clear(path: Path) -> None:
    """Remove upgrade/, the journal last."""
    copies = path / UPGRADE_DIRECTORY
    for name in (CATALOG_FILE, HOME_FILE, f"{CATALOG_FILE}.new", f"{HOME_FILE}.new", f"{JOURNAL}.new"):
        (copies / name).unlink(missing_ok=True)
    _sync(copies)
    (copies / JOURNAL).unlink()
    _sync(copies)
    copies.rmdir()


def _read_journal(path: Path) -> _Journal | None:
    try:
        content = json.loads((path / UPGRADE_DIRECTORY / JOURNAL).read_text(encoding="utf-8"))
        return _Journal(content["state"], Versions(**content["before"]), Versions(**content["after"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{path / UPGRADE_DIRECTORY / JOURNAL} is damaged ({error}); restore the home from a copy"
        ) from None


def _write_journal(path: Path, journal: _Journal) -> None:
    directory = path / UPGRADE_DIRECTORY
    directory.mkdir(exist_ok=True)
    new = directory / f"{JOURNAL}.new"
    new.write_text(json.dumps(dataclasses.asdict(journal), indent=2) + "\n", encoding="utf-8")
    _sync(new)
    new.replace(directory / JOURNAL)
    _sync(directory)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        again = "then call `paddock upgrade` again, or `paddock upgrade --undo`"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LimitExceeded(f"no space left to upgrade home {path}; free some, {again}") from None
        raise Unavailable(f"upgrading home {path} failed ({error.strerror or error}); mend that, {again}") from error
