"""Several engines as one: a server's own workers, and those that come over the network."""

from __future__ import annotations

import select
from collections.abc import Mapping, Sequence
from typing import Protocol

from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.engine import Engine, Place, WorkerEvent, WorkerId
from paddock.runtime.engines.network import FIRST_WORKER, NetworkEngine
from paddock.runtime.protocol import Down


class OwnWorkers(Engine, Protocol):
    """An engine on this machine; numbers of its workers stay below `FIRST_WORKER`."""

    def fileno(self) -> int:
        """Readable when `poll` has something."""


class CombinedEngine:
    """Implements `Engine`. `scale` is for the own workers; the others come by themselves."""

    def __init__(self, own: OwnWorkers, network: NetworkEngine) -> None:
        self._own = own
        self._network = network

    def scale(self, workers: int) -> None:
        self._own.scale(workers)

    def workers(self) -> Sequence[WorkerId]:
        own, others = self._own.workers(), self._network.workers()
        return (*own, *others) if own else others

    def place(self, worker: WorkerId) -> Place:
        return self._of(worker).place(worker)

    def machines(self) -> Mapping[Place, Capacity]:
        return self._network.machines()

    def send(self, worker: WorkerId, message: Down) -> None:
        self._of(worker).send(worker, message)

    def flush(self) -> None:
        self._network.flush()

    def kill(self, worker: WorkerId) -> None:
        self._of(worker).kill(worker)

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        self.flush()
        select.select([self._own.fileno(), self._network.fileno()], [], [], timeout_seconds)
        return (*self._own.poll(0), *self._network.poll(0))

    def stop(self) -> None:
        self._network.stop()
        self._own.stop()

    def _of(self, worker: WorkerId) -> Engine:
        return self._network if worker >= FIRST_WORKER else self._own
