"""The services called in-process on a home: the composition root of the embedded way in.

Each property imports its services when first used, because `repo list` must not pay for pyarrow, and a `put` must not
pay for the scheduler. This is the one place where imports stand inside methods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from paddock.model.errors import Conflict, InvalidInput
from paddock.model.ids import CommitId
from paddock.model.records import Job, Origin
from paddock.model.services import (
    Branches,
    Cache,
    Commits,
    Datums,
    Files,
    Jobs,
    Pipelines,
    Pools,
    Projects,
    Repos,
    Store,
    Tags,
    Transfers,
)
from paddock.settings import Settings
from paddock.versions.home import Home, find_home

if TYPE_CHECKING:
    from paddock.runtime.datum_debug import DebugRun
    from paddock.runtime.engines.local import WorkerOptions
    from paddock.runtime.workshop import Workshop
    from paddock.versions.migrate import MigrationReport
    from paddock.versions.transfers import TransferService


class EmbeddedPaddock:
    """`model.services.Paddock` on a local home. Thread-safe; other processes may use the home at the same time."""

    def __init__(self, home: Home, *, settings: Settings | None = None) -> None:
        """settings: how workers run (their number, sandbox, grace); its home and URL are not looked at."""
        self._home = home
        self._settings = settings or Settings()
        self._transfers: TransferService | None = None
        self._workshop: Workshop | None = None
        """Open between `expect_work` and `process`."""
        self._closing: Workshop | None = None
        """Its workers end."""

    @classmethod
    def open(
        cls, home: Path | None, *, storage: str | None = None, settings: Settings | None = None
    ) -> EmbeddedPaddock:
        """Open the home at a path (default: found as `find_home` says), making it where there is none.

        storage: URL of the bulk data; Conflict where the home exists and has it elsewhere. The setting of that name only
        counts for a home that is made.
        """
        path = find_home(os.fspath(home) if home is not None else None)
        default = settings.storage if settings is not None else None
        asked = None if storage is None else _store_url(storage)
        opened = Home.open(path, create=True, storage=asked or (_store_url(default) if default else None))
        if asked is not None and opened.storage != asked:
            opened.close()
            raise Conflict(
                f"home {path} keeps its data in {opened.objects_place}, not in {asked}; a home does not move by naming "
                "another place: leave the storage out, or name another home"
            )
        return cls(opened, settings=settings)

    @classmethod
    def find(
        cls, home: str | os.PathLike[str] | None, *, catalog: str | None, storage: str | None, settings: Settings
    ) -> EmbeddedPaddock:
        """The home that is named, by its folder or by its catalog; else the one that the settings name; else the nearest."""
        if home is not None and catalog is not None:
            raise InvalidInput(f"both a home ({os.fspath(home)}) and a catalog are given; name one of them")
        if home is None and catalog is None and settings.home is not None and settings.catalog is not None:
            raise InvalidInput("PADDOCK_HOME and PADDOCK_CATALOG are both set; a home has one place: unset one of them")
        if home is None and (catalog or settings.catalog):
            place = catalog or settings.catalog or ""
            return cls.open_shared(place, storage=storage or settings.storage, settings=settings)
        return cls.open(Path(home) if home is not None else settings.home, storage=storage, settings=settings)

    @classmethod
    def open_shared(
        cls, catalog: str, *, storage: str | None = None, settings: Settings | None = None
    ) -> EmbeddedPaddock:
        """Open the home whose catalog is at a PostgreSQL URL; see `versions.shared_home.open_shared`."""
        with _postgres_package():
            from paddock.versions.shared_home import open_shared

        return cls(open_shared(catalog, storage=None if storage is None else _store_url(storage)), settings=settings)

    @property
    def worker_options(self) -> WorkerOptions:
        from paddock.runtime.engines.local import WorkerOptions

        settings = self._settings
        return WorkerOptions(settings.sandbox, settings.grace_seconds, settings.memory, settings.gpus)

    @property
    def home(self) -> Home:
        return self._home

    @cached_property
    def projects(self) -> Projects:
        from paddock.versions.projects import ProjectService

        return ProjectService(self._home)

    @cached_property
    def repos(self) -> Repos:
        from paddock.versions.repos import RepoService

        return RepoService(self._home)

    @cached_property
    def branches(self) -> Branches:
        from paddock.versions.branches import BranchService

        return BranchService(self._home)

    @cached_property
    def tags(self) -> Tags:
        from paddock.versions.tags import TagService

        return TagService(self._home)

    @cached_property
    def pools(self) -> Pools:
        from paddock.versions.pools import PoolService

        return PoolService(self._home)

    @cached_property
    def commits(self) -> Commits:
        from paddock.versions.commits import CommitService

        return CommitService(self._home)

    @cached_property
    def files(self) -> Files:
        from paddock.client.embedded_files import EmbeddedFiles

        return cast(Files, EmbeddedFiles(self._home, lambda: self._file_service))

    @cached_property
    def _file_service(self) -> Files:
        from paddock.versions.files import FileService

        return FileService(self._home)

    @cached_property
    def transfers(self) -> Transfers:
        from paddock.versions.transfers import TransferService

        self._transfers = TransferService(self._home)
        return self._transfers

    @cached_property
    def pipelines(self) -> Pipelines:
        from paddock.runtime.pipeline_service import PipelineService

        return PipelineService(self._home, engine=self._settings.engine)

    @cached_property
    def jobs(self) -> Jobs:
        from paddock.runtime.job_service import JobService

        return JobService(self._home, workers=self._settings.workers, options=self.worker_options)

    @cached_property
    def datums(self) -> Datums:
        from paddock.runtime.datum_service import DatumService

        return DatumService(self._home)

    @cached_property
    def cache(self) -> Cache:
        from paddock.runtime.cache_service import CacheService

        return CacheService(self._home)

    @cached_property
    def store(self) -> Store:
        from paddock.runtime.store_service import StoreService

        return StoreService(self._home)

    def debug_datum(self, job: str, datum: str, *, shell: bool, output: Path | None = None) -> DebugRun:
        """Run one datum's command, or a shell in its place, on this process's terminal; see `runtime.datum_debug`."""
        from paddock.runtime.datum_debug import debug_datum

        settings = self._settings
        return debug_datum(
            self._home, job, datum, shell=shell, sandbox_mode=settings.sandbox, gpus=settings.gpus, output=output
        )

    def why(self, address: str, *, inputs_max: int = 20) -> Origin:
        from paddock.runtime.lineage import why

        return why(self._home, address, inputs_max)

    def expect_work(self, *, workers: int | None = None) -> None:
        from paddock.runtime.workshop import Workshop

        if self._workshop is None:
            self._close_workshop()
            count = workers or self._settings.workers or os.cpu_count() or 1
            self._workshop = Workshop.open(self._home, options=self.worker_options)
            if self._workshop is not None:
                self._workshop.engine.scale(count)

    def process(
        self,
        *,
        workers: int | None = None,
        on_progress: Callable[[Sequence[Job]], None] | None = None,
        jobs: Sequence[tuple[str, CommitId]] = (),
    ) -> Sequence[Job]:
        from paddock.runtime.driver import process

        self._close_workshop()
        workshop, self._workshop = self._workshop, None
        self._closing = workshop
        return process(
            self._home,
            workers=workers or self._settings.workers,
            options=self.worker_options,
            on_progress=on_progress,
            jobs=jobs,
            workshop=workshop,
        )

    def _close_workshop(self) -> None:
        """Wait until the workers of the last `process` have ended, where it went on without them."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.close()

    def close(self) -> None:
        if self._workshop is not None:
            self._workshop.discard()
        self._close_workshop()
        if self._transfers is not None:
            self._transfers.close()
        self._home.close()

    def __enter__(self) -> EmbeddedPaddock:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _store_url(text: str) -> str:
    """The normal form of a URL that workers and later commands can open too."""
    from paddock.storage.object_urls import parse_store_url

    url = parse_store_url(text)
    if url.scheme == "memory":
        raise InvalidInput(
            f"{text} is gone when this process ends; keep a home's data in s3://, gs://, az:// or file://"
        )
    return str(url)


def migrate_home(
    source: Path, catalog: str, *, storage: str, on_pack: Callable[[int, int], None] | None = None
) -> MigrationReport:
    """Move a home from a folder to a catalog server; see `versions.migrate.migrate`."""
    with _postgres_package():
        from paddock.versions.migrate import migrate

    return migrate(source, catalog, storage=_store_url(storage), on_pack=on_pack)


@contextmanager
def _postgres_package() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InvalidInput(
            f"a catalog on PostgreSQL needs a package that is not installed ({error.name}): pip install 'paddock[postgres]'"
        ) from None
