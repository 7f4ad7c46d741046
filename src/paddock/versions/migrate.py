"""Move a home from a folder to a catalog server and an object store: resumable, verified, and the source stays as it is.

    1. nobody else may have the source open, and it needs this Paddock's schema
    2. the store is marked as the home's; every chunk that the catalog has in a pack is read and checked, and the pack is copied
       and read back; one that is there already is only read back
    3. all rows go into the target's catalog in one transaction, with the row that makes it a home

A crash leaves a target that is no home yet; the same call goes on with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from blake3 import blake3

from paddock.catalog import garbage, home_row
from paddock.catalog.chunk_index import CatalogChunkIndex
from paddock.catalog.copying import copy_rows
from paddock.catalog.database import Catalog
from paddock.catalog.home_row import HomeRow
from paddock.catalog.postgres import PostgresEngine
from paddock.model.dataclass import dataclass
from paddock.model.errors import AlreadyExists, Conflict, Corrupt, NotFound
from paddock.model.ids import PackId
from paddock.storage.chunks import ChunkIndex, read_located
from paddock.storage.object_urls import open_place
from paddock.storage.objects import ObjectStore
from paddock.storage.packs import check_head, pack_key, read_pack_index
from paddock.versions.home import CATALOG_FILE, FORMAT_VERSION, HomeFile, read_home_file
from paddock.versions.locks import FileLocks
from paddock.versions.storage_mark import claim

COPY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class MigrationReport:
    packs: int
    packs_copied: int
    """The others were there from an earlier call, and are the same."""
    bytes_copied: int
    rows: int


OnPack = Callable[[int, int], None]
"""(packs so far, packs in all)"""


def migrate(
    source: Path,
    catalog_url: str,
    *,
    storage: str,
    on_pack: OnPack | None = None,
    clock: Callable[[], float] = time.time,
) -> MigrationReport:
    """Move the home at `source` to the catalog and storage named; afterwards both hold it, and the source may be removed.

    NotFound: there is no home. Conflict: the source is in use or of an older schema, or the target has another home. Corrupt:
    a pack is damaged or missing, or does not read back as it was written. After an error call it again; what is copied is not
    copied anew.
    """
    path = source.expanduser().absolute()
    file = read_home_file(path)
    if file is None:
        raise NotFound(f"there is no Paddock home at {path} to move; name its folder")
    engine = PostgresEngine(catalog_url)
    with (
        FileLocks(path).use_alone(),
        closing(Catalog.open(path / CATALOG_FILE, migrate=False)) as old,
        closing(
            Catalog.reach(engine, exclusive=lambda: engine.locks.wait_alone("home"), now=clock, migrate=False)
        ) as new,
        engine.locks.wait_alone("home"),
    ):
        _refuse_other_home(new, engine.name, file)
        place = open_place(storage)
        claim(place, storage, file.id)
        with old.read() as tx:
            packs = [PackId(pack.name) for pack in garbage.packs(tx)]
        origin = open_place(file.storage or str(path / "objects"))
        index = CatalogChunkIndex(old)
        copied = written = 0
        for number, pack in enumerate(packs, 1):
            _check_pack(origin, index, pack)
            size = _copy_pack(origin, place, pack_key(pack))
            copied += size > 0
            written += size
            if on_pack is not None:
                on_pack(number, len(packs))
        with new.write() as target:
            rows = copy_rows(old, target)
            chunking = json.dumps(file.chunking)
            home_row.insert(target, HomeRow(file.id, FORMAT_VERSION, chunking, storage, claimed=True))
    return MigrationReport(len(packs), copied, written, rows)


def _refuse_other_home(catalog: Catalog, name: str, file: HomeFile) -> None:
    with catalog.read() as tx:
        row = home_row.find(tx)
    if row is not None and row.home_id == file.id:
        raise Conflict(
            f"this home is at catalog {name} already: it was moved there before; work on it with PADDOCK_CATALOG, or name an empty "
            "database to move it to"
        )
    if row is not None:
        raise Conflict(f"catalog {name} has another home (id {row.home_id}); give each home a database of its own")


def _check_pack(source: ObjectStore, index: ChunkIndex, pack: PackId) -> None:
    """Corrupt where the home could not read back all that it has in a pack: its damage would move along."""
    try:
        check_head(source, pack)
        own = dict(read_pack_index(source, pack).chunks)
        here = [(digest, place) for digest, place in index.locate(list(own)).items() if place.pack == pack]
        for _ in read_located(source, sorted(here, key=lambda chunk: chunk[1].offset)):
            pass
    except (Corrupt, NotFound) as error:
        raise Corrupt(
            f"the home is damaged and was not moved: {error.message}. `paddock fsck --data` names every file that is hit, with "
            "--repair it takes lost bytes from a copy; then start again"
        ) from error


def _copy_pack(source: ObjectStore, target: ObjectStore, key: str) -> int:
    """Copy one object and read it back; the bytes written, 0 where it was there already. Corrupt: they differ."""
    size = source.info(key).size
    digest = _digest(source, key, size)
    if target.exists(key):
        if target.info(key).size == size and _digest(target, key, size) == digest:
            return 0
        raise Corrupt(f"object {key} is at the target already, with other content; empty the target and start again")
    writer = target.create(key)
    try:
        for first in range(0, size, COPY_BYTES):
            writer.write(source.read_range(key, first, min(COPY_BYTES, size - first)))
        writer.finish()
    except AlreadyExists:
        pass
    finally:
        writer.abort()
    if _digest(target, key, size) != digest:
        raise Corrupt(f"object {key} does not read back as it was written; check the target's store and start again")
    return size


def _digest(objects: ObjectStore, key: str, size: int) -> bytes:
    hasher = blake3()
    for first in range(0, size, COPY_BYTES):
        hasher.update(objects.read_range(key, first, min(COPY_BYTES, size - first)))
    return hasher.digest()
