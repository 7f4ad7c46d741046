"""Who works: one scheduler per home at a time, in whichever process holds the home's scheduler lock; the others wait for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from paddock.catalog import pools
from paddock.model.errors import Unavailable
from paddock.model.ids import CommitId
from paddock.model.records import EngineName, Job
from paddock.runtime.cluster import Cluster
from paddock.runtime.engines.combined import CombinedEngine
from paddock.runtime.engines.local import WorkerOptions
from paddock.runtime.engines.machine import machine_capacity
from paddock.runtime.engines.network import NetworkEngine
from paddock.runtime.engines.provisioner import Site
from paddock.runtime.engines.provisioners import open_provisioner
from paddock.runtime.fleet import Fleet, OpenProvisioner
from paddock.runtime.job_records import JobWatch
from paddock.runtime.scheduler import Scheduler
from paddock.runtime.workshop import Workshop
from paddock.settings import Settings
from paddock.versions.home import Home

LOG = logging.getLogger("paddock")

OnProgress = Callable[[Sequence[Job]], None]

STANDBY_SECONDS = 0.5
"""How often a server of a shared home asks whether it may schedule now: each time is a connection to the catalog."""
POLL_SECONDS = 0.02
"""How often a waiting process looks at the catalog's change counter (a read of a few microseconds)."""
SERVER_POLL_SECONDS = 0.01
"""The same for a server, of which a commit's first datum is expected within 50 ms."""
PROGRESS_SECONDS = 0.1


def process(
    home: Home,
    *,
    workers: int | None = None,
    options: WorkerOptions = WorkerOptions(),
    on_progress: OnProgress | None = None,
    jobs: Sequence[tuple[str, CommitId]] = (),
    timeout_seconds: float | None = None,
    workshop: Workshop | None = None,
) -> Sequence[Job]:
    """Work until no job is unfinished, or until those in `jobs` (as (`project/pipeline`, id)) are final; see `Paddock.process`.

    If another process is the scheduler of this home, wait for it, and take over should it die. Interrupting leaves every
    reported result in place; the next call goes on from there. After `timeout_seconds` returns what there is. workshop: one that
    is open already; it is closed at the end.
    """
    watch = JobWatch(home, jobs)
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    shown = 0.0

    def over() -> bool:
        nonlocal shown
        now = time.monotonic()
        if on_progress is not None and now - shown >= PROGRESS_SECONDS:
            shown = now
            on_progress(watch.jobs())
        return watch.done() or (deadline is not None and now >= deadline)

    try:
        while not over():
            workshop = workshop or Workshop.open(home, options=options)
            if workshop is None:
                time.sleep(POLL_SECONDS)
                continue
            scheduler = _scheduler(home, workshop, workers=workers, options=options)
            while not over():
                scheduler.run_once(POLL_SECONDS)
    finally:
        if workshop is not None:
            workshop.close()
    ended = watch.jobs()
    if on_progress is not None:
        on_progress(ended)
    return ended


def _scheduler(
    home: Home,
    workshop: Workshop,
    *,
    workers: int | None,
    options: WorkerOptions,
    url: str | None = None,
    engine: EngineName | None = None,
) -> Scheduler:
    """url: where this process's server is reached, if it is one. engine: of pipelines that name none; None: there is no other."""
    if url is not None or home.shared is not None:
        # Before the scheduler looks at anything: as a write it waits for what the last one had begun to write.
        with home.catalog.write() as tx:
            pools.begin_scheduling(tx, url or "", since=home.now())
    count = _workers_of(workers)
    capacity = machine_capacity(home.path, workers=count, memory_bytes=options.memory_bytes, gpus=options.gpus)
    return Scheduler(home, workshop.engine, workers=count, capacity=capacity, default_engine=engine)


def _workers_of(workers: int | None) -> int:
    return (os.cpu_count() or 1) if workers is None else workers


class Server:
    """Schedules in a thread until stopped, for `paddock up`. Takes over when another process's scheduler ends."""

    def __init__(
        self,
        home: Home,
        *,
        workers: int | None = None,
        options: WorkerOptions = WorkerOptions(),
        cluster: Cluster | None = None,
        settings: Settings = Settings(),
        open_provisioner: OpenProvisioner = open_provisioner,
    ) -> None:
        """settings: of engines that start workers, which `open_provisioner` reaches. cluster: where workers of other hosts join; while this process schedules it has the engine."""
        self._home = home
        self._cluster = cluster
        self._workers = workers
        self._options = options
        self._settings = settings
        self._open_provisioner = open_provisioner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler")
        self.error: BaseException | None = None
        """What ended the thread, if it did not end by `stop`."""

    def start(self) -> None:
        self._thread.start()

    def let_agents_go(self) -> None:
        """Hold no request of an agent open any longer: the server is to go down."""
        engine = None if self._cluster is None else self._cluster.engine
        if engine is not None:
            engine.let_go()

    def stop(self) -> None:
        """Stop scheduling and end all workers; jobs stay as they are and go on with the next scheduler."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._try_once()
                except Unavailable as error:
                    if self._home.shared is None:
                        raise
                    # Another server may schedule by now. Whatever was not accepted is computed again, by whoever does.
                    LOG.warning("scheduling was broken off: %s", error)
                self._stop.wait(POLL_SECONDS if self._home.shared is None else STANDBY_SECONDS)
        except BaseException as error:  # noqa: BLE001 (kept for whoever looks after the server; the thread ends)
            self.error = error

    def _try_once(self) -> None:
        """Schedule until told to stop, if nobody else does."""
        network = None if self._cluster is None else NetworkEngine()
        join = None if network is None else partial(CombinedEngine, network=network)
        workshop = Workshop.open(self._home, options=self._options, join=join)
        if workshop is not None:
            self._run_in(workshop, network)
        elif network is not None:
            network.stop()

    def _run_in(self, workshop: Workshop, network: NetworkEngine | None) -> None:
        fleet: Fleet | None = None
        try:
            url = None if self._cluster is None else self._cluster.url
            scheduler = _scheduler(
                self._home,
                workshop,
                workers=self._workers,
                options=self._options,
                url=url,
                engine=None if self._cluster is None else self._settings.engine,
            )
            if self._cluster is not None and network is not None:
                self._cluster.engine = network
                fleet = self._fleet(scheduler, network, self._cluster)
                fleet.start()
            scheduler.start_workers()
            while not self._stop.is_set():
                scheduler.run_once(SERVER_POLL_SECONDS)
        finally:
            if fleet is not None:
                fleet.stop()
            if self._cluster is not None:
                self._cluster.engine = None
            workshop.close()

    def _fleet(self, scheduler: Scheduler, network: NetworkEngine, cluster: Cluster) -> Fleet:
        return Fleet(
            self._home,
            scheduler,
            network,
            site=Site(self._home.id, self._settings.worker_url or cluster.url, cluster.storage, self._settings),
            own_workers=_workers_of(self._workers),
            open=self._open_provisioner,
        )
