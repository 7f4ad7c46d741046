"""The scheduler of `paddock up`: a thread that works while the server is up, with the workers of other machines."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from paddock.model.errors import Bug, PaddockError
from paddock.runtime import job_steps
from paddock.runtime.acceptance import AcceptingThread
from paddock.runtime.cluster import Cluster
from paddock.runtime.driver import POLL_SECONDS, scheduler_of, workers_of
from paddock.runtime.engines.combined import CombinedEngine
from paddock.runtime.engines.local import WorkerOptions
from paddock.runtime.engines.network import NetworkEngine
from paddock.runtime.engines.provisioner import Site
from paddock.runtime.engines.provisioners import open_provisioner
from paddock.runtime.fleet import Fleet, OpenProvisioner
from paddock.runtime.presence import Presence
from paddock.runtime.scheduler import Scheduler
from paddock.runtime.workshop import Workshop
from paddock.settings import Settings
from paddock.versions.home import Home

LOG = logging.getLogger("paddock")

STANDBY_SECONDS = 0.5
"""How often a server of a shared home asks whether it may schedule now: each time is a connection to the catalog."""
TOLD_SECONDS = 30.0
"""How often the same trouble is told while it lasts."""
SERVER_POLL_SECONDS = 0.01
"""The same for a server, of which a commit's first datum is expected within 50 ms."""


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
        self._presence = None if cluster is None or home.shared is None else Presence(home, cluster.url)
        self._trouble = ""
        self._next_telling = 0.0
        self.error: BaseException | None = None
        """What ended the thread, if it did not end by `stop`."""

    def start(self) -> None:
        self._thread.start()
        if self._presence is not None:
            self._presence.start()

    def let_agents_go(self) -> None:
        """Hold no request of an agent open any longer: the server is to go down."""
        engine = None if self._cluster is None else self._cluster.engine
        if engine is not None:
            engine.let_go()

    def stop(self) -> None:
        """Stop scheduling and end all workers; jobs stay as they are and go on with the next scheduler."""
        self._stop.set()
        if self._presence is not None:
            self._presence.stop()
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
                    self._calm()
                except PaddockError as error:
                    if self._home.shared is None or isinstance(error, Bug):
                        raise
                    # Another server may schedule by now, and what keeps this one from it (its catalog is away, full, or refuses a
                    # password for a while) may pass. Whatever was not accepted is computed again, by whoever schedules.
                    self._tell(error.message)
                self._stop.wait(POLL_SECONDS if self._home.shared is None else STANDBY_SECONDS)
        except BaseException as error:  # noqa: BLE001 (kept for whoever looks after the server; the thread ends)
            self.error = error

    def _tell(self, trouble: str) -> None:
        """Say what keeps this server from scheduling, once and then now and then."""
        now = time.monotonic()
        if trouble != self._trouble or now >= self._next_telling:
            LOG.warning("this server can't schedule, and tries again: %s", trouble)
            self._next_telling = now + TOLD_SECONDS
        self._trouble = trouble

    def _calm(self, *, sure: bool = False) -> None:
        """Nothing keeps it from that any more. Not sure: another server may only have been quicker to meet the same trouble."""
        if self._trouble and (sure or time.monotonic() >= self._next_telling):
            LOG.info("the catalog answers again")
            self._trouble = ""

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
        acceptance = AcceptingThread(partial(job_steps.accept, self._home))
        try:
            url = None if self._cluster is None else self._cluster.url
            scheduler = scheduler_of(
                self._home,
                workshop,
                workers=self._workers,
                options=self._options,
                url=url,
                engine=None if self._cluster is None else self._settings.engine,
                acceptance=acceptance,
                permits=None if self._cluster is None else self._cluster.permits,
            )
            if self._cluster is not None and network is not None:
                self._cluster.engine = network
                fleet = self._fleet(scheduler, network, self._cluster)
                fleet.start()
            scheduler.start_workers()
            if self._home.shared is not None:
                LOG.info("this server schedules now")
            self._calm(sure=True)
            while not self._stop.is_set():
                scheduler.run_once(SERVER_POLL_SECONDS)
        finally:
            if fleet is not None:
                fleet.stop()
            if self._cluster is not None:
                self._cluster.engine = None
            acceptance.close()  # while the home is this scheduler's still
            workshop.close()

    def _fleet(self, scheduler: Scheduler, network: NetworkEngine, cluster: Cluster) -> Fleet:
        return Fleet(
            self._home,
            scheduler,
            network,
            site=Site(self._home.id, self._settings.worker_url or cluster.url, cluster.storage, self._settings),
            own_workers=workers_of(self._workers),
            open=self._open_provisioner,
        )
