"""What a machine offers to datums. Apart from `resources`, which needs specs and numpy, so that an engine loads without them."""

from __future__ import annotations

import math

from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the workers of one pool share. cpus: slots, each for a datum that asks for no more. disk_bytes: for what datums write.

    gpus: the devices, as `CUDA_VISIBLE_DEVICES` names them.
    """

    cpus: float = math.inf
    memory_bytes: float = math.inf
    disk_bytes: float = math.inf
    gpus: tuple[str, ...] = ()


UNLIMITED = Capacity()
