"""What datums take of a machine while they run, and what is left: pure accounting, no I/O (design note 026).

A datum needs what its pipeline's `resource_requests` say; what they leave out counts as its `resource_limits`, as in
Kubernetes, and a datum that says nothing about CPUs takes one. A worker runs one datum at a time, so it holds the most that any
of its batches needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field, replace

from paddock.model.dataclass import dataclass
from paddock.model.records import EngineName
from paddock.model.sizes import format_size
from paddock.pipelines.models import PipelineSpec, Resources
from paddock.runtime.capacity import Capacity
from paddock.runtime.dispatch import LeaseId
from paddock.runtime.engines.engine import WorkerId

_GPU_TYPES = ("", "nvidia.com/gpu")


@dataclass(frozen=True, slots=True)
class Need:
    """What one running datum takes. millicpus: thousandths of a CPU. gpu_type: as the spec names it."""

    millicpus: int = 1000
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: int = 0
    gpu_type: str = ""

    @property
    def holds(self) -> bool:
        """Whether a process that idles would keep from others what it was given."""
        return self.memory_bytes > 0 or self.gpus > 0


NOTHING = Need(millicpus=0)


def need_of(spec: PipelineSpec) -> Need:
    wanted, most = spec.resource_requests or Resources(), spec.resource_limits or Resources()
    gpu = wanted.gpu or most.gpu
    return Need(
        millicpus=max(1, round(1000 * (wanted.cpu or most.cpu or 1.0))),
        memory_bytes=wanted.memory or most.memory or 0,
        disk_bytes=wanted.disk or most.disk or 0,
        gpus=gpu.number if gpu is not None else 0,
        gpu_type=gpu.type if gpu is not None else "",
    )


def never_fits(spec: PipelineSpec, capacity: Capacity, engine: EngineName = "local") -> str:
    """Why no datum of this pipeline can ever run here: each field that asks for too much; empty if one can.

    engine: what started the workers there; where it was asked for them, they have whatever kind of GPU the pipeline wants.
    """
    need = need_of(spec)
    lacks = [] if engine == "kubernetes" else _only_in_pods(spec)
    if need.millicpus > 1000 * capacity.cpus:
        cpus = need.millicpus / 1000
        lacks.append(f"{_field(spec, 'cpu')} asks for {cpus:g} CPUs, and this machine has {capacity.cpus:g}")
    for name, wanted, there in (
        ("memory", need.memory_bytes, capacity.memory_bytes),
        ("disk", need.disk_bytes, capacity.disk_bytes),
    ):
        if wanted > there:
            lacks.append(
                f"{_field(spec, name)} asks for {format_size(int(wanted))} of {name}, and this machine has "
                f"{format_size(int(there))}{' free' if name == 'disk' else ''}"
            )
    if need.gpus and need.gpu_type not in _GPU_TYPES and engine == "local":
        lacks.append(f"{_field(spec, 'gpu')} asks for {need.gpu_type}, and only {_GPU_TYPES[1]} is known here")
    elif need.gpus > len(capacity.gpus):
        has = (
            f"{len(capacity.gpus)} (PADDOCK_GPUS names them)" if capacity.gpus else "none (PADDOCK_GPUS can name some)"
        )
        lacks.append(f"{_field(spec, 'gpu')} asks for {need.gpus} GPUs, and this machine has {has}")
    return "; ".join(lacks)


def _only_in_pods(spec: PipelineSpec) -> list[str]:
    """What would change a result if it were left out. A server refuses it; a spec for pods may be processed without one."""
    given = {"secrets": spec.transform.secrets, "user": spec.transform.user}
    return [
        f"transform.{name} is for pods only; let a server with `engine: kubernetes` run the pipeline"
        for name, value in given.items()
        if value
    ]


def _field(spec: PipelineSpec, name: str) -> str:
    asked = getattr(spec.resource_requests, name, None) is not None
    return f"{'resource_requests' if asked else 'resource_limits'}.{name}"


@dataclass(slots=True)
class _Held:
    leases: dict[LeaseId, Need] = field(default_factory=dict)
    most: Need = NOTHING
    gpus: tuple[str, ...] = ()


class Budget:
    """What each worker holds of a pool's capacity. Costs a look at the worker's own leases, of which there are two at most."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._held: dict[WorkerId, _Held] = {}
        self._used = NOTHING
        self._free_gpus = list(capacity.gpus)

    def whole(self, need: Need) -> Need:
        """`need` with all CPUs, so that nothing runs beside it."""
        if math.isinf(self.capacity.cpus):
            return need
        return replace(need, millicpus=max(need.millicpus, math.floor(1000 * self.capacity.cpus)))

    def lacks(self, worker: WorkerId, need: Need) -> frozenset[str]:
        """The kinds of resource of which too little is left for the worker to take the need on; empty: it fits."""
        held = self._held.get(worker, _Held())
        before, after = held.most, _most((held.most, need))
        total = _changed(self._used, before, after)
        found = {
            "cpu": after.millicpus > before.millicpus and total.millicpus > 1000 * self.capacity.cpus,
            "memory": after.memory_bytes > before.memory_bytes and total.memory_bytes > self.capacity.memory_bytes,
            "disk": after.disk_bytes > before.disk_bytes and total.disk_bytes > self.capacity.disk_bytes,
            "gpu": after.gpus - len(held.gpus) > len(self._free_gpus),
        }
        return frozenset(kind for kind, short in found.items() if short)

    def take(self, worker: WorkerId, lease: LeaseId, need: Need) -> tuple[str, ...]:
        """Book a lease that fits; the GPUs that its datums are to use, of which nobody else has one."""
        held = self._held.setdefault(worker, _Held())
        held.leases[lease] = need
        self._update(held)
        while len(held.gpus) < need.gpus:
            held.gpus = (*held.gpus, self._free_gpus.pop(0))
        return held.gpus[: need.gpus]

    def free(self, worker: WorkerId, lease: LeaseId) -> Need:
        """Take a lease out of the books; what it needed."""
        held = self._held[worker]
        need = held.leases.pop(lease)
        self._update(held)
        self._free_gpus += held.gpus[held.most.gpus :]
        held.gpus = held.gpus[: held.most.gpus]
        if not held.leases:
            del self._held[worker]
        return need

    def _update(self, held: _Held) -> None:
        after = _most(held.leases.values())
        self._used = _changed(self._used, held.most, after)
        held.most = after


def shares(lacking: frozenset[str], need: Need) -> bool:
    """Whether the need takes of what another one is short of."""
    takes = {"cpu": need.millicpus, "memory": need.memory_bytes, "disk": need.disk_bytes, "gpu": need.gpus}
    return any(takes[kind] > 0 for kind in lacking)


def _most(needs: Iterable[Need]) -> Need:
    most = NOTHING
    for need in needs:
        most = Need(
            max(most.millicpus, need.millicpus),
            max(most.memory_bytes, need.memory_bytes),
            max(most.disk_bytes, need.disk_bytes),
            max(most.gpus, need.gpus),
        )
    return most


def _changed(used: Need, before: Need, after: Need) -> Need:
    return Need(
        used.millicpus - before.millicpus + after.millicpus,
        used.memory_bytes - before.memory_bytes + after.memory_bytes,
        used.disk_bytes - before.disk_bytes + after.disk_bytes,
    )
