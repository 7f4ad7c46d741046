"""Which results runs go: those longest unused, until a home's limits hold. Pure but for `enforce`, one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import results
from paddock.catalog.database import Transaction
from paddock.catalog.results import ResultRunRow
from paddock.model.cache_records import CachePolicy
from paddock.versions.home import Home


def over_limits(runs: Sequence[ResultRunRow], policy: CachePolicy, *, now: float) -> list[ResultRunRow]:
    """The runs to give up. runs: longest unused first."""
    left = sum(run.stored_bytes for run in runs)
    gone = []
    for run in runs:
        old = policy.age_seconds_max is not None and now - run.used > policy.age_seconds_max
        heavy = policy.bytes_max is not None and left > policy.bytes_max and run.stored_bytes > 0
        if old or heavy:
            gone.append(run)
            left -= run.stored_bytes
    return gone


def evict(tx: Transaction, policy: CachePolicy, *, now: float) -> list[ResultRunRow]:
    """Give up what is over the limits, within the caller's transaction; the runs that went."""
    if policy.bytes_max is None and policy.age_seconds_max is None:
        return []
    gone = over_limits(results.get_all(tx), policy, now=now)
    results.remove(tx, [run.id for run in gone])
    return gone


def enforce(home: Home, *, now: float) -> None:
    """Hold the home's limits. Costs one read where there are none, or where they hold."""
    with home.catalog.read() as tx:
        policy = results.policy(tx)
        if policy.bytes_max is None and policy.age_seconds_max is None:
            return
        if not over_limits(results.get_all(tx), policy, now=now):
            return
    with home.catalog.write() as tx:
        evict(tx, policy, now=now)
