"""A home: one directory that holds everything, and the doors to its parts.

    home.json     format version, chunking, id, where packs are; written last, so that a directory with it is a complete home
    catalog.db    names, heads, jobs, accepted results, the chunk index (SQLite; `-wal` and `-shm` beside it)
    objects/      packs, unless home.json names another place for them
    cache/        what can be lost: scan caches, the manifests of mirrored folders, the marks of the last collection
    locks/        files that processes lock; the kernel frees them when a process dies

Opening a home imports neither pyarrow nor the storage of trees: `chunks`, `tables` and `trees` come when
first asked for.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from paddock.catalog import garbage, projects
from paddock.catalog.chunk_index import CatalogChunkIndex
from paddock.catalog.database import Catalog
from paddock.model.dataclass import dataclass
from paddock.model.errors import (
    Conflict,
    Corrupt,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from paddock.model.ids import new_id
from paddock.model.records import DEFAULT_PROJECT
from paddock.versions.locks import FileLocks, Lock, Locks

if TYPE_CHECKING:
    from paddock.storage.chunking import ChunkingParameters
    from paddock.storage.chunks import ChunkStore
    from paddock.storage.objects import ObjectStore
    from paddock.storage.tables import Tables
    from paddock.storage.trees import Trees

FORMAT_VERSION = 1
"""Of everything outside the catalog: packs, segments, tables. Raised when an older Paddock could not read
them.
"""

HOME_DIRECTORY = ".paddock"
HOME_FILE = "home.json"
CATALOG_FILE = "catalog.db"
UPGRADE_DIRECTORY = "upgrade"
JOURNAL = "journal.json"
_OURS = frozenset(
    {
        "objects",
        "cache",
        "locks",
        CATALOG_FILE,
        f"{CATALOG_FILE}-wal",
        f"{CATALOG_FILE}-shm",
        f"{HOME_FILE}.new",
    }
)
DEFAULT_CHUNKING = {"min_bytes": 256 << 10, "average_bytes": 1 << 20, "max_bytes": 4 << 20}


@dataclass(frozen=True, slots=True)
class HomeFile:
    """The content of `home.json`."""

    id: str
    format_version: int
    chunking: dict[str, int]
    storage: str | None = None
    """URL of the store that has the packs; None: the home's own folder `objects`."""


class Home:
    """An open home. Safe for many threads; several processes may have one open at once."""

    def __init__(
        self,
        path: Path,
        file: HomeFile,
        catalog: Catalog,
        clock: Callable[[], float],
        use: Lock,
        *,
        locks: Locks | None = None,
        shared: str | None = None,
    ) -> None:
        """locks: default the files of the home at `path`. shared: what people call the catalog server, of a home on one; `path` is
        then a folder of this machine for caches and scratch files only.
        """
        self.path = path
        self.shared = shared
        self.id = file.id
        self.catalog = catalog
        self.now = clock
        self.storage = file.storage
        """URL of the store that has the packs, where they are not in the home's own folder."""
        self._chunking = file.chunking
        self.locks: Locks = locks or FileLocks(path)
        self._use = use

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        create: bool = False,
        storage: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Home:
        """Open the home at `path`; with `create`, make one where nothing is, its packs at the URL `storage`, if given.

        Several processes may create one home at once: one does, the others open it. NotFound: there is none.
        InvalidInput: the directory holds other things, or `storage` is no store. Conflict: a newer Paddock wrote it, or an
        older one did, and it was not upgraded yet; or `storage` holds the packs of another home. A home that is there already
        keeps its packs where they are: compare its `storage`.
        """
        path = path.expanduser().absolute()
        file = read_home_file(path)
        if file is None:
            if not create:
                raise NotFound(
                    f"there is no Paddock home at {path}; put data or create a repo to start one, or name "
                    "another with --home"
                )
            file = _create(path, storage, clock)
        use = FileLocks(path).use()
        try:
            _refuse_old(path, file)
            return cls(path, file, _open_catalog(path, clock), clock, use)
        except BaseException:
            use.release()
            raise

    @property
    def name(self) -> str:
        """What people call it: its folder, or its catalog server."""
        return self.shared or str(self.path)

    @property
    def cache(self) -> Path:
        """A directory for what can be lost."""
        return self.path / "cache"

    # What follows is imported when first used: it brings in blake3, zstandard or pyarrow, which listing repos
    # never needs.

    @cached_property
    def objects(self) -> ObjectStore:
        from paddock.storage.object_urls import open_place

        return open_place(self.objects_place)

    @property
    def objects_place(self) -> str:
        """A folder's path, or a URL: what another process needs to open the same store."""
        return self.storage or str(self.path / "objects")

    def check_storage(self) -> None:
        """Make sure that the packs in the store are this home's, before any is deleted: else Conflict. One request."""
        if self.storage is not None:
            from paddock.versions.storage_mark import check_mark

            check_mark(self.objects, self.storage, self.id)

    @cached_property
    def chunking(self) -> ChunkingParameters:
        """How files are cut; fixed when the home was made."""
        from paddock.storage.chunking import ChunkingParameters

        return ChunkingParameters(**self._chunking)

    @cached_property
    def chunks(self) -> ChunkStore:
        from paddock.storage.chunks import ChunkStore

        return ChunkStore(self.objects, CatalogChunkIndex(self.catalog), chunking=self.chunking)

    @property
    def tables(self) -> Tables:
        return self.trees.tables

    @cached_property
    def trees(self) -> Trees:
        from paddock.storage.tables import Tables
        from paddock.storage.trees import Trees

        return Trees(Tables(self.chunks))

    def try_lock(self, name: str) -> Lock | None:
        """Take the lock `name` of this home; None while another process (or another holder here) has it."""
        return self.locks.try_alone(name)

    def wait_lock(self, name: str) -> Lock:
        """Take the lock `name`, waiting for whoever holds it. Only for short work."""
        return self.locks.wait_alone(name)

    def pin(self) -> Lock:
        """Keep garbage collection from deleting anything that is stored, and known or referred to, now; until the
        release, or the death of this process.

        Whoever uses chunks that no row of the catalog names (yet) holds one: a writer from before it asks what is
        stored until its commit, a long reader until its end. Costs some 0.1 ms; holds up nobody but the deletion.
        """
        while True:
            generation = self._generation()
            lock = self.locks.pin(generation)
            if self._generation() == generation:
                return lock
            lock.release()

    def drained_generation(self, *, as_if_next: bool = False) -> int:
        """The newest generation such that no pin of it, or of an older one, is held. New pins are newer still.

        as_if_next: what would be said had the next generation begun just now.
        """
        current = self._generation() + as_if_next
        oldest = self.locks.oldest_pin(before=current)
        return (current if oldest is None else oldest) - 1

    def _generation(self) -> int:
        with self.catalog.read() as tx:
            return garbage.generation(tx)

    def close(self) -> None:
        self._use.release()
        self.catalog.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find_home(explicit: str | os.PathLike[str] | None = None, *, start: Path | None = None) -> Path:
    """Which home to use: the one named; else the nearest `.paddock` directory at or above `start`
    (default: the current directory); else `~/.paddock`. The directory need not exist. InvalidInput for a URL.
    """
    if explicit is not None and os.fspath(explicit):
        # A Path has made `http://` to `http:/`; as a folder's name it would be nobody's wish.
        if re.match(r"[a-z][a-z0-9+]*:/", os.fspath(explicit)):
            raise InvalidInput(
                f"home {os.fspath(explicit)} is a URL, and a home is a folder; name a server with --url or PADDOCK_URL, "
                "a database with PADDOCK_CATALOG, an object store with PADDOCK_STORAGE"
            )
        return Path(explicit).expanduser().absolute()
    place = (start or Path.cwd()).absolute()
    for directory in (place, *place.parents):
        candidate = directory / HOME_DIRECTORY
        if candidate.is_dir():
            return candidate
    return Path.home() / HOME_DIRECTORY


def _refuse_old(path: Path, file: HomeFile) -> None:
    if (path / UPGRADE_DIRECTORY / JOURNAL).exists():
        raise Conflict(
            f"an upgrade of home {path} was begun and has not ended; go on with `paddock upgrade`, or go back with "
            "`paddock upgrade --undo`"
        )
    if file.format_version < FORMAT_VERSION:
        raise Conflict(
            f"home {path} has format version {file.format_version}, older than version {FORMAT_VERSION} of this Paddock; "
            "bring it up to date with `paddock upgrade`"
        )


def _open_catalog(path: Path, clock: Callable[[], float]) -> Catalog:
    database = path / CATALOG_FILE
    if not database.exists():
        raise Corrupt(f"home {path} has lost its catalog {CATALOG_FILE}; restore it from a copy of the home")
    return Catalog.open(database, exclusive=lambda: FileLocks(path).wait_alone("home"), now=clock, migrate=False)


# ---- creation ----------------------------------------------------------------------------------------------


def _create(path: Path, storage: str | None, clock: Callable[[], float]) -> HomeFile:
    """Make the parts of a home under its lock, `home.json` last. A crash leaves what the next call
    completes.
    """
    _refuse_foreign(path)
    with _translated(path):
        for part in ("locks", "cache") if storage else ("locks", "objects", "cache"):
            (path / part).mkdir(parents=True, exist_ok=True)
    with FileLocks(path).wait_alone("home"):
        present = read_home_file(path)
        if present is not None:
            return present
        with closing(Catalog.open(path / CATALOG_FILE, now=clock)) as catalog, catalog.write() as tx:
            if projects.find(tx, DEFAULT_PROJECT) is None:
                projects.insert(tx, DEFAULT_PROJECT, "", clock())
        file = HomeFile(new_id(), FORMAT_VERSION, dict(DEFAULT_CHUNKING))
        if storage is not None:
            file = _claim_storage(path, storage, file)
        write_home_file(path, file)
        return file


def _claim_storage(path: Path, storage: str, file: HomeFile) -> HomeFile:
    """Mark the store as this home's. The id is on disk before it is in the store: a creation that was cut off between the
    mark and `home.json` finds its own mark again.
    """
    from paddock.storage.object_urls import open_place
    from paddock.versions.storage_mark import claim

    objects = open_place(storage)
    draft = _draft(path)
    if draft is None or draft.storage != storage:
        draft = dataclasses.replace(file, storage=storage)
        _write_draft(path, draft)
    claim(objects, storage, draft.id)
    return draft


def _draft(path: Path) -> HomeFile | None:
    try:
        return _read(path, f"{HOME_FILE}.new", newest=FORMAT_VERSION)
    except Corrupt:
        return None  # torn when its writer was cut off, so nothing was claimed with it yet


def _refuse_foreign(path: Path) -> None:
    with _translated(path):
        try:
            names = {entry.name for entry in os.scandir(path)}
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise InvalidInput(f"{path} is a file, not a Paddock home; name a directory with --home") from None
    foreign = sorted(names - _OURS)
    if foreign:
        raise InvalidInput(
            f"{path} is not a Paddock home: it has no {HOME_FILE} but holds {foreign[0]!r}; name a home, or "
            "an empty directory, with --home"
        )


def read_home_file(path: Path, *, newest: int = FORMAT_VERSION) -> HomeFile | None:
    """The content of `home.json`, or None where there is none. Conflict where its format is newer than `newest`."""
    return _read(path, HOME_FILE, newest=newest)


def _read(path: Path, name: str, *, newest: int) -> HomeFile | None:
    try:
        with _translated(path), (path / name).open(encoding="utf-8") as stream:
            content: Any = json.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise Corrupt(f"{path / name} is damaged ({error}); restore it from a copy") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise Corrupt(f"{path / name} is damaged (no format version); restore it from a copy")
    if version > newest:
        raise Conflict(
            f"home {path} has format version {version}, but this Paddock knows versions up to "
            f"{newest}; upgrade with `pip install --upgrade paddock`"
        )
    try:
        storage = None if content.get("storage") is None else str(content["storage"])
        chunking = {part: int(content["chunking"][part]) for part in DEFAULT_CHUNKING}
        return HomeFile(str(content["id"]), version, chunking, storage)
    except (KeyError, TypeError, ValueError):
        raise Corrupt(f"{path / name} is damaged (no id or chunking); restore it from a copy") from None


def write_home_file(path: Path, file: HomeFile) -> None:
    _write_draft(path, file)
    with _translated(path):
        (path / f"{HOME_FILE}.new").replace(path / HOME_FILE)
        for directory in (path, path.parent):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _write_draft(path: Path, file: HomeFile) -> None:
    content: dict[str, Any] = {"format_version": file.format_version, "id": file.id, "chunking": file.chunking}
    if file.storage is not None:
        content["storage"] = file.storage
    with _translated(path), (path / f"{HOME_FILE}.new").open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """OS errors about the home as our own; a missing file passes, since callers take it as an answer."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        if isinstance(error, FileExistsError):
            raise InvalidInput(
                f"{error.filename} is in the way of home {path}; name another directory with --home"
            ) from None
        raise
    except PermissionError as error:
        raise PermissionDenied(
            f"home {path}: no permission for {error.filename}; check its owner and mode, or name another with --home"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LimitExceeded(f"no space left for home {path}; free some and try again") from None
        raise Unavailable(f"home {path}: {error.strerror or error}; try again") from error
