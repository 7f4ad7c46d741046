"""The machines that workers are on, and what is left of each."""

from __future__ import annotations

from paddock.model.records import DEFAULT_POOL, EngineName
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.engine import Engine, Place, WorkerId
from paddock.runtime.resources import Budget, never_fits


class Machines:
    """One budget for each machine: the scheduler's own, and those that joined. Not thread-safe."""

    def __init__(self, own: Capacity, engine: Engine, *, own_workers: int) -> None:
        """own: what the scheduler's machine has, of which `own_workers` make use."""
        self._own = Budget(own)
        self._own_workers = own_workers
        self._engine = engine
        self._others: dict[Place, Budget] = {}
        self._of: dict[WorkerId, Budget] = {}

    def budget(self, worker: WorkerId) -> Budget:
        found = self._of.get(worker)
        if found is None:
            found = self._of[worker] = self._at(self._engine.place(worker))
        return found

    def forget(self, worker: WorkerId) -> None:
        """The worker is gone, and its leases have been given back."""
        self._of.pop(worker, None)

    def _at(self, place: Place) -> Budget:
        if not place.machine:
            return self._own
        found = self._others.get(place)
        if found is None:
            there = self._engine.machines()
            self._others = {each: budget for each, budget in self._others.items() if each in there}
            found = self._others[place] = Budget(there.get(place, Capacity(cpus=0)))
        return found

    def never_fits(self, spec: PipelineSpec, pool: str, engine: EngineName) -> str:
        """Why no machine of the pool can ever run the pipeline; empty where one can, or where none has joined yet."""
        there = [capacity for place, capacity in self._engine.machines().items() if place.pool == pool]
        if pool == DEFAULT_POOL and self._own_workers:
            there.insert(0, self._own.capacity)
        lacks = [never_fits(spec, capacity, engine) for capacity in there]
        return lacks[0] if lacks and all(lacks) else ""
