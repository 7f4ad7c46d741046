"""What the upkeep of a home's bulk storage reports: garbage collection, checks, and disk usage."""

from __future__ import annotations

import enum

from paddock.model.dataclass import dataclass
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
class Transfer:
    """A client's leave to send and fetch chunks. While it lasts, garbage collection removes nothing that it may count on."""

    id: str
    home: str
    """The home's id, and the epoch of its chunk index: what a client remembers of stored chunks holds while both stay."""
    epoch: str
    chunk_bytes_min: int
    """How the home cuts files (`docs/reference/format.md`)."""
    chunk_bytes_average: int
    chunk_bytes_max: int
    expires_seconds: float
    """It ends after so long without a request."""


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
    """Runs of kept results that were given up: no pipeline has their transform any more, or the home's limits say so."""
    seconds: float

    def garbage_bytes(self, fate: PackFate) -> int:
        return sum(each.garbage_bytes for each in self.garbage if each.fate is fate)


class DamageKind(enum.StrEnum):
    PACK_MISSING = "pack missing"
    PACK_DAMAGED = "pack damaged"
    """Torn, or its own index can't be read."""
    INDEX_WRONG = "index wrong"
    """The chunk index says of a pack what is not so."""
    CHUNK_MISSING = "chunk missing"
    """Referred to, but in no pack that the index knows."""
    CHUNK_DAMAGED = "chunk damaged"
    """Its bytes do not match its digest."""


@dataclass(frozen=True, slots=True)
class Damage:
    kind: DamageKind
    object: str
    """The pack, or the chunk's digest."""
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found, and, after a repair, what is left of it."""

    data: bool
    """Whether every byte was read, or only references were followed."""
    packs: int
    chunks: int
    bytes: int
    damages: tuple[Damage, ...]
    files: tuple[str, ...]
    """Addresses of files that can't be read (in full) because of it: `project/repo@commit:/path`; the first thousand."""
    files_hit: int
    others: tuple[str, ...]
    """What else is hit: code of pipelines, results and logs of jobs, whole commits."""
    restored_chunks: int
    """By a repair: chunks that can be read again."""
    repaired: tuple[str, ...]
    """By a repair: what was done, a line each."""
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.damages


@dataclass(frozen=True, slots=True)
class Usage:
    """What one repo, branch or commit costs. Bytes stored are those of its chunks, compressed, each counted once."""

    kind: str
    """`repo`, `branch`, `commit`, or `results` (kept results and logs of jobs)."""
    name: str
    files: int
    logical_bytes: int
    """The sizes of the files of the newest commit (of a commit: its own; of a repo: over its branches' heads)."""
    stored_bytes: int
    """Of everything that it refers to, history included."""
    alone_bytes: int
    """Of what nothing else of its kind in the home refers to: about what its removal would free."""

    @property
    def shared_bytes(self) -> int:
        return self.stored_bytes - self.alone_bytes


@dataclass(frozen=True, slots=True)
class UsageReport:
    rows: tuple[Usage, ...]
    packs: int
    pack_bytes: int
    """Of the whole home, garbage included."""
