"""Kept results: what there is, limits, giving up. Implements `model.services.Cache`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog import results as results_sql
from paddock.catalog.database import Transaction
from paddock.catalog.results import ResultRunRow
from paddock.model.cache_records import CachePolicy, CacheReport, EvictionReport, KeptResults, ReuseCounts
from paddock.model.errors import InvalidInput
from paddock.runtime.cache_limits import over_limits
from paddock.runtime.job_records import find_pipeline
from paddock.versions.home import Home
from paddock.versions.records import time_of

JOBS_COUNTED = 100
"""Newest good jobs that hit rates are taken from: long enough to be steady, short enough to show a change."""


class CacheService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def inspect(self, *, pipeline: str | None = None) -> CacheReport:
        with self._home.catalog.read() as tx:
            pipeline_id = None if pipeline is None else find_pipeline(tx, pipeline).id
            runs = _runs(tx, pipeline_id)
            kept = _by_transform(tx, runs)
            reuse = reuse_counts(tx, pipeline_id)
            policy = results_sql.policy(tx)
        return CacheReport(policy, sum(run.entries for run in runs), _bytes(runs), kept, reuse)

    def set_policy(self, policy: CachePolicy) -> CachePolicy:
        _check(policy)
        with self._home.catalog.write() as tx:
            results_sql.set_policy(tx, policy)
        return policy

    def evict(
        self, *, bytes_max: int | None = None, age_seconds_max: float | None = None, dry_run: bool = False
    ) -> EvictionReport:
        asked = CachePolicy(bytes_max, age_seconds_max)
        _check(asked)
        with self._home.catalog.read() as tx:
            policy = results_sql.policy(tx) if bytes_max is None and age_seconds_max is None else asked
        if policy.bytes_max is None and policy.age_seconds_max is None:
            raise InvalidInput(
                "nothing says what is to go; name the most bytes or the longest unused age, or set limits of the home"
            )
        with self._home.catalog.preview() if dry_run else self._home.catalog.write() as tx:
            runs = results_sql.get_all(tx)
            gone = over_limits(runs, policy, now=self._home.now())
            return _give_up(tx, runs, gone, dry_run)

    def clear(self, *, pipeline: str | None = None, dry_run: bool = False) -> EvictionReport:
        with self._home.catalog.preview() if dry_run else self._home.catalog.write() as tx:
            pipeline_id = None if pipeline is None else find_pipeline(tx, pipeline).id
            return _give_up(tx, results_sql.get_all(tx), _runs(tx, pipeline_id), dry_run)


def reuse_counts(tx: Transaction, pipeline_id: int | None) -> ReuseCounts:
    """Of the newest good jobs of a pipeline, or of all."""
    jobs, datums, computed, reused, found, carried = jobs_sql.uses_of_results(
        tx, pipeline_id=pipeline_id, limit=JOBS_COUNTED
    )
    looked_up = found + computed
    return ReuseCounts(
        jobs=jobs,
        datums=datums,
        computed=computed,
        kept=reused - found,
        found=found,
        carried=carried,
        hit_rate=round(found / looked_up, 4) if looked_up else None,
    )


def _runs(tx: Transaction, pipeline_id: int | None) -> list[ResultRunRow]:
    """All results runs, or those of any version of a pipeline."""
    runs = results_sql.get_all(tx)
    if pipeline_id is None:
        return runs
    own = {version.transform for version in pipelines_sql.versions(tx, pipeline_id)}
    return [run for run in runs if run.transform in own]


def _give_up(
    tx: Transaction, runs: Sequence[ResultRunRow], gone: Sequence[ResultRunRow], dry_run: bool
) -> EvictionReport:
    report = EvictionReport(
        dry_run=dry_run,
        results=sum(run.entries for run in gone),
        bytes=_bytes(gone),
        gone=_by_transform(tx, gone),
        left_results=sum(run.entries for run in runs) - sum(run.entries for run in gone),
        left_bytes=_bytes(runs) - _bytes(gone),
    )
    results_sql.remove(tx, [run.id for run in gone])
    return report


def _by_transform(tx: Transaction, runs: Sequence[ResultRunRow]) -> tuple[KeptResults, ...]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for transform, name in pipelines_sql.transforms(tx):
        names[transform].append(name)
    groups: defaultdict[str, list[ResultRunRow]] = defaultdict(list)
    for run in runs:
        groups[run.transform].append(run)
    kept = [
        KeptResults(
            transform=transform,
            pipelines=tuple(names[transform]),
            results=sum(run.entries for run in group),
            bytes=_bytes(group),
            runs=len(group),
            used=time_of(max(run.used for run in group)),
        )
        for transform, group in groups.items()
    ]
    return tuple(sorted(kept, key=lambda each: (-each.bytes, each.transform)))


def _bytes(runs: Sequence[ResultRunRow]) -> int:
    return sum(run.stored_bytes for run in runs)


def _check(policy: CachePolicy) -> None:
    if policy.bytes_max is not None and policy.bytes_max < 0:
        raise InvalidInput(f"bytes_max is {policy.bytes_max}; write a number of bytes, 0 or more, or leave it out")
    if policy.age_seconds_max is not None and not policy.age_seconds_max >= 0:
        raise InvalidInput(f"age_seconds_max is {policy.age_seconds_max}; write seconds, 0 or more, or leave it out")
    check_share(policy.audit_share)


def check_share(share: float) -> None:
    """InvalidInput where it is not from 0 to 1."""
    if not 0 <= share <= 1:
        raise InvalidInput(f"the share to audit is {share}; write a number from 0 (none) to 1 (all)")
