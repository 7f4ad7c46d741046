"""Frozen value types of kept results: their limits, what there is, what was given up, how often they served."""

from __future__ import annotations

from datetime import datetime

from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a home keeps, for all its pipelines. None: no limit."""

    bytes_max: int | None = None
    """Most bytes of kept results, counted as what computing them added to the object store."""
    age_seconds_max: float | None = None
    """Results are given up when none of their run was made or found for so long."""
    audit_share: float = 0.0
    """Of the datums that a job reuses, the share (0 to 1) that it computes again to compare."""


@dataclass(frozen=True, slots=True)
class KeptResults:
    """Kept results of one transform."""

    transform: str
    """Hex digest."""
    pipelines: tuple[str, ...]
    """`project/pipeline` of all that have, or had in an earlier version, this transform; none where they were deleted."""
    results: int
    bytes: int
    runs: int
    """Tables that hold them; results come and go by whole tables."""
    used: datetime
    """When one of them was last made or found."""


@dataclass(frozen=True, slots=True)
class ReuseCounts:
    """What became of the datums of the newest good jobs. datums = computed + kept + found + those that err_cmd recovered."""

    jobs: int
    datums: int
    computed: int
    kept: int
    """As the job before had them: nothing was looked up."""
    found: int
    """Looked up, and found among the results of other jobs, branches or pipelines."""
    carried: int
    """Of `found`, results of an earlier version's transform, which an update was told to keep."""
    hit_rate: float | None
    """found / (found + computed); None where nothing was looked up."""


@dataclass(frozen=True, slots=True)
class CacheReport:
    policy: CachePolicy
    results: int
    bytes: int
    kept: tuple[KeptResults, ...]
    """By transform, most bytes first."""
    reuse: ReuseCounts


@dataclass(frozen=True, slots=True)
class EvictionReport:
    """Kept results that were given up, or with `dry_run` would be. Jobs and commits that show them still do; what nothing
    else refers to is garbage from then on."""

    dry_run: bool
    results: int
    bytes: int
    gone: tuple[KeptResults, ...]
    """By transform, most bytes first."""
    left_results: int
    left_bytes: int
