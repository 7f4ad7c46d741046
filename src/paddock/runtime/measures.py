"""What there is to watch of a home and of the server that serves it, as numbers at one moment.

Cost: three small queries, one of which passes over all jobs (some 0.3 ms a thousand); nothing is asked of the object store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pools as pools_sql
from paddock.model.dataclass import dataclass
from paddock.model.errors import PaddockError
from paddock.model.records import JobState
from paddock.model.version import VERSION
from paddock.runtime.engines.network import NetworkEngine
from paddock.versions.home import Home

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    meaning: str
    values: Sequence[tuple[Labels, float]]


def measures(home: Home, engine: NetworkEngine | None) -> Sequence[Measure]:
    """engine: where workers join, while this server schedules. Where the catalog is away, what is known without it."""
    scheduling = engine is not None
    known = [
        Measure("paddock_info", "The version of this server.", [({"version": VERSION}, 1)]),
        Measure("paddock_scheduling", "1 on the server that schedules, 0 on the others.", [({}, float(scheduling))]),
    ]
    if engine is not None:
        hosts = Counter(agent.pool for agent in engine.agents())
        known.append(
            Measure(
                "paddock_hosts",
                "Hosts, or pods, whose workers have joined, by pool; told by the server that schedules.",
                [({"pool": pool}, count) for pool, count in sorted(hosts.items())],
            )
        )
    try:
        of_home = _of_home(home)
    except PaddockError:
        of_home = []
    up = Measure("paddock_catalog_up", "1 while this server reaches its catalog.", [({}, float(bool(of_home)))])
    return [*known, up, *of_home]


def _of_home(home: Home) -> list[Measure]:
    """The same on every server of a home."""
    with home.catalog.read() as tx:
        states = jobs_sql.count_by_state(tx)
        unfinished = jobs_sql.unfinished(tx)
        pools = pools_sql.pools(tx)
    waiting: Counter[str] = Counter()
    for row in unfinished:
        ended = row.counts.run + row.counts.reused + row.counts.recovered + row.counts.failed
        waiting[f"{row.project}/{row.pipeline}"] += row.counts.total - ended
    members = [
        ({"pool": pool.name, "state": state}, float(count))
        for pool in pools
        for state, count in (
            ("waiting", pool.waiting),
            ("started", pool.started),
            ("idle", pool.idle),
            ("busy", pool.busy),
        )
    ]
    return [
        Measure(
            "paddock_jobs",
            "Jobs that the home knows, by state.",
            [({"state": state.value}, states.get(state, 0)) for state in JobState],
        ),
        Measure(
            "paddock_datums_waiting",
            "Datums of unfinished jobs that have not ended, by pipeline.",
            [({"pipeline": name}, count) for name, count in sorted(waiting.items())],
        ),
        Measure("paddock_pool_members", "Workers' hosts, or pods, by pool and state, as `paddock pool list`.", members),
        Measure(
            "paddock_pool_troubled",
            "1 for a pool with a reason why its workers can't start.",
            [({"pool": pool.name}, float(bool(pool.reason))) for pool in pools],
        ),
    ]
