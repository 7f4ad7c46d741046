"""What the upkeep of a home's bulk storage reports: garbage collection, checks, and disk usage."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from paddock.model.ids import PackId


class PackFate(enum.StrEnum):
    """What garbage collection does with a pack, and why."""

    UNUSED = "unused"
    """Nothing refers to any of its chunks: removed."""
    SPARSE = "sparse"
    """Less than half of it is in use: what is, is copied to another pack; then removed."""
    ORPHAN = "orphan"
    """No commit came to register it (its writer died): removed."""
    UNFINISHED = "unfinished"
    """A writer died before it was complete: removed."""
    YOUNG = "young"
    """Garbage, wholly or in part, but younger than the grace period: kept."""
    HELD = "held"
    """Garbage, but a running put, job or reader may still count on it: removed by a later collection."""
    PARTLY_USED = "partly used"
    """More than half of it is in use: kept, with its garbage."""


@dataclass(frozen=True, slots=True)
class PackGarbage:
    """One pack that holds garbage. `garbage_bytes` of its `bytes` are in use by nothing."""

    pack: PackId
    fate: PackFate
    bytes: int
    garbage_bytes: int


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What a garbage collection did, or with `dry_run` would do. Sizes are bytes in the object store."""

    dry_run: bool
    packs: int
    """All packs before the collection, and their bytes."""
    bytes: int
    live_chunks: int
    live_bytes: int
    garbage: tuple[PackGarbage, ...]
    """Each pack that holds garbage, largest garbage first."""
    removed_packs: int
    rewritten_bytes: int
    """Bytes in use that were copied out of sparse packs."""
    freed_bytes: int
    dropped_results: int
    """Runs of kept results that were given up, because no pipeline has their transform any more."""
    seconds: float

    def garbage_bytes(self, fate: PackFate) -> int:
        return sum(each.garbage_bytes for each in self.garbage if each.fate is fate)
