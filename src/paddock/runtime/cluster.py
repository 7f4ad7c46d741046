"""What a server is to workers on other hosts: who may join, where the scheduler is, and its engine while that is here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pools as pools_sql
from paddock.model.ids import PackId
from paddock.runtime.engines.network import NetworkEngine
from paddock.runtime.measures import Measure, measures
from paddock.runtime.permits import Asked, Permits
from paddock.runtime.presence import servers_of
from paddock.storage.objects import ObjectStore
from paddock.storage.packs import pack_key
from paddock.versions.home import Home
from paddock.versions.pools import permit_secret, pool_of_token

TOKEN_SECONDS = 10.0
"""A deleted token is refused after so long: between, agents would ask the catalog for each exchange."""
TOKENS_MAX = 10_000
JOB_SECONDS = 10.0
"""What a job has given is refused so long after its end: between, each read would ask the catalog."""
JOBS_MAX = 10_000


class Cluster:
    """One server's part. Thread-safe."""

    def __init__(
        self, home: Home, *, url: str, storage: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """url: where other hosts reach this server. storage: URL of the objects for workers that can reach it."""
        self._home = home
        self.url = url
        self.storage = storage
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pools: dict[str, tuple[str, float]] = {}
        self._jobs: dict[int, tuple[str, float]] = {}
        """The commit sets of jobs that were unfinished when the catalog was asked, and how long that counts."""
        self._permits: Permits | None = None
        self.engine: NetworkEngine | None = None
        """While this server's process schedules."""

    @property
    def home_id(self) -> str:
        return self._home.id

    def measures(self) -> Sequence[Measure]:
        """What there is to watch; see `runtime.measures`."""
        return measures(self._home, self.engine)

    @property
    def objects(self) -> ObjectStore:
        return self._home.objects

    @property
    def chunking(self) -> Mapping[str, int]:
        cut = self._home.chunking
        return {"min_bytes": cut.min_bytes, "average_bytes": cut.average_bytes, "max_bytes": cut.max_bytes}

    @property
    def permits(self) -> Permits:
        """What workers may read. The first call reads the catalog, and writes it in a home that had no server before."""
        if self._permits is None:
            self._permits = Permits(permit_secret(self._home))
        return self._permits

    def read_for(self, pool: str, pack: PackId, first: int, end: int, *, permit: str | None) -> bytes:
        """Bytes of a pack, from `first` to before `end`, for a worker of a pool. PermissionDenied: nothing has given them to it."""
        self.permits.check(permit, Asked(pool, pack, first, end), self._set_of_unfinished)
        return self._home.objects.read_range(pack_key(pack), first, end - first)

    def scheduler_url(self) -> str | None:
        """Of the server that schedules, as far as is known; None while none does that can be reached."""
        if self.engine is not None:
            return self.url
        with self._home.catalog.read() as tx:
            return pools_sql.scheduler_url(tx) or None

    def servers(self) -> Sequence[str]:
        """Where the servers of the home are reached, as far as is known; this one first."""
        others = servers_of(self._home) if self._home.shared is not None else ()
        return [self.url, *(url for url in others if url != self.url)]

    def known_pool(self, secret: str) -> str:
        """`pool_of_token` where the catalog need not be asked; else empty."""
        with self._lock:
            pool, until = self._pools.get(secret, ("", 0.0))
        return pool if self._monotonic() < until else ""

    def pool_of_token(self, secret: str) -> str:
        """The pool that a token is good for. PermissionDenied: none."""
        pool = self.known_pool(secret)
        if pool:
            return pool
        until = self._monotonic() + TOKEN_SECONDS
        pool = pool_of_token(self._home, secret)
        with self._lock:
            if len(self._pools) >= TOKENS_MAX:
                self._pools.clear()
            self._pools[secret] = (pool, until)
        return pool

    def _set_of_unfinished(self, job: int) -> str | None:
        with self._lock:
            set_id, until = self._jobs.get(job, ("", 0.0))
        now = self._monotonic()
        if now < until:
            return set_id
        found = self._home.catalog.ask(lambda tx: jobs_sql.set_of_unfinished(tx, job))
        if found is not None:
            with self._lock:
                if len(self._jobs) >= JOBS_MAX:
                    self._jobs.clear()
                self._jobs[job] = (found, now + JOB_SECONDS)
        return found
