"""Homes on a catalog server: nothing of them is on a disk of the machines that use them (design note 030)."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from paddock.catalog import home_row, projects
from paddock.catalog.database import SCHEMA_VERSION, Catalog, schema_version_of
from paddock.catalog.home_row import HomeRow
from paddock.catalog.postgres import PostgresEngine
from paddock.model.errors import Conflict, NotFound
from paddock.model.ids import new_id
from paddock.model.records import DEFAULT_PROJECT
from paddock.storage.object_urls import open_place
from paddock.versions.home import DEFAULT_CHUNKING, FORMAT_VERSION, Home, HomeFile
from paddock.versions.storage_mark import claim


def open_shared(
    catalog_url: str,
    *,
    storage: str | None = None,
    folder: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Home:
    """Open the home whose catalog is at a PostgreSQL URL, making it where the database is empty: then with its bulk data at
    the URL `storage`.

    folder: for caches and scratch files; default one of the user's cache directory. Any number of processes on any number of
    machines may have it open. InvalidInput: a URL is wrong, or a new home has no storage. NotFound: there is no such database.
    Conflict: another Paddock's schema, another home's storage, or the home has its data elsewhere. Unavailable: the server
    can't be reached.
    """
    engine = PostgresEngine(catalog_url)
    catalog = Catalog.reach(engine, exclusive=lambda: engine.locks.wait_alone("home"), now=clock, migrate=False)
    try:
        row = _row(catalog, engine, storage, clock)
        if storage is not None and row.storage != storage:
            raise Conflict(
                f"the home of catalog {engine.name} keeps its data in {row.storage}, not in {storage}; leave --storage out"
            )
        file = HomeFile(row.home_id, row.format_version, json.loads(row.chunking), row.storage)
        _refuse_format(engine.name, row.format_version)
        place = folder or _folder(row.home_id)
        return Home(place, file, catalog, clock, use=engine.locks.use(), locks=engine.locks, shared=engine.name)
    except BaseException:
        catalog.close()
        raise


def upgrade_shared(catalog_url: str) -> tuple[int, int]:
    """Bring the schema of a shared home up to date; its version before and after. Each migration is one transaction of the server, so a crash leaves the
    version before or after it; to go back, restore a dump. Conflict: somebody has the home open, or it is newer.
    """
    engine = PostgresEngine(catalog_url)
    with engine.locks.use_alone():
        before = schema_version_of(engine)
        if not before:
            raise NotFound(f"catalog {engine.name} has no home that could be upgraded; check its URL")
        Catalog.reach(engine, exclusive=lambda: engine.locks.wait_alone("home")).close()
    return before, SCHEMA_VERSION


def _row(catalog: Catalog, engine: PostgresEngine, storage: str | None, clock: Callable[[], float]) -> HomeRow:
    with catalog.read() as tx:
        present = home_row.find(tx)
    if present is not None and present.claimed:
        return present
    with engine.locks.wait_alone("home"):
        with catalog.write() as tx:
            row = home_row.find(tx)
            if row is None:
                if storage is None:
                    raise NotFound(
                        f"catalog {engine.name} has no home yet; make one by naming where its data goes, with --storage or "
                        "PADDOCK_STORAGE (s3://bucket/prefix)"
                    )
                row = HomeRow(new_id(), FORMAT_VERSION, json.dumps(DEFAULT_CHUNKING), storage, claimed=False)
                home_row.insert(tx, row)
                projects.insert(tx, DEFAULT_PROJECT, "", clock())
        if not row.claimed:
            # The id is in the catalog before it is in the store: who was cut off in between finds its own mark again.
            claim(open_place(row.storage), row.storage, row.home_id)
            with catalog.write() as tx:
                home_row.set_claimed(tx)
    return row


def _refuse_format(name: str, version: int) -> None:
    if version > FORMAT_VERSION:
        raise Conflict(
            f"the home of catalog {name} has format version {version}, but this Paddock knows versions up to "
            f"{FORMAT_VERSION}; upgrade with `pip install --upgrade paddock`"
        )


def _folder(home_id: str) -> Path:
    """A folder of this machine for what can be lost; a temporary one where the user has no cache directory to write to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddock" / home_id
    try:
        (cache / "cache").mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return cache
    except OSError:
        pass
    place = Path(tempfile.gettempdir()) / f"paddock-{os.geteuid()}-{hashlib.sha256(home_id.encode()).hexdigest()[:16]}"
    (place / "cache").mkdir(parents=True, exist_ok=True, mode=0o700)
    return place
