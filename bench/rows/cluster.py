"""A server, PostgreSQL and agents on loopback: datums over the network path, claims a second, a thousand simulated workers."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from measure import Budget, Result, Settings, median

from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.testing.postgres import installed, running_postgres
from paddock.testing.servers import running_agent, running_server
from paddock.testing.simulated_agents import START_SECONDS, Latencies, SimulatedAgents
from rows.datums import WORKERS, make_source
from rows.warm import COMMAND

JOB_SECONDS = 600.0
WARM_UP_SECONDS = 13.0
DATUM_SECONDS = 2.0
BUSY_DATUM_SECONDS = 0.5
MEMORY = Path("/dev/shm")
"""Packs of simulated workers go here: on as many hosts there would be as many disks, and this one would hold up all of them at once."""


def network_cp(settings: Settings) -> Result:
    """`cp` started for each datum, on one agent's two slots, beside two workers of the server's own machine."""
    return _network(settings, "network-cp", settings.size(2_000, 200), {"cmd": ["sh", "-c", "cp $in /pfs/out/"]}, 1.2)


def network_warm(settings: Settings) -> Result:
    """The same through a warm command."""
    script = settings.work / "shout.py"
    script.write_text(COMMAND, encoding="utf-8")
    transform = {"cmd": [sys.executable, "-S", "-E", str(script)], "warm": True}
    return _network(settings, "network-warm", settings.size(50_000, 2_000), transform, 1.5)


def _network(settings: Settings, name: str, count: int, transform: dict[str, Any], limit: float) -> Result:
    source = settings.work / "source"
    make_source(source, count)

    def run(home: Path, *, agent: bool) -> float:
        with ExitStack() as stack:
            server = stack.enter_context(running_server(home, workers=0 if agent else WORKERS))
            client = stack.enter_context(connect(url=server.url, environment={}))
            if agent:
                token = client.pools.create_token("default").secret
                stack.enter_context(running_agent(server.url, token, settings.work, slots=WORKERS))
                _await_workers(client)
            _put(client, source, "in")
            client.pipelines.apply(_spec("job", "in", transform))
            (job,) = client.jobs.wait(["job@head"], timeout_seconds=JOB_SECONDS)
            if job.finished is None or job.datums.run != count:
                raise SystemExit(f"{count} datums should have run, not {job.datums}")
            return (job.finished - job.created).total_seconds()

    rounds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(settings.repeats):
        for agent, samples in rounds.items():
            samples.append(run(settings.work / f"home-{number}-{agent}", agent=agent))
    seconds, local = median(rounds[True]), median(rounds[False])
    return Result(
        name=name,
        what=f"{count:,} datums on {WORKERS} workers that read and write through the server",
        seconds=seconds,
        samples=tuple(rounds[True]),
        others={"workers of the server's machine": local},
        budgets=(Budget(f"<= {limit} x the local engine", seconds / local, limit),),
        facts={"datums per second": count / seconds},
    )


def _await_workers(client: Paddock) -> None:
    """Run one datum, so that agent and workers are there."""
    client.repos.create("first")
    client.pipelines.apply(_spec("start", "first", {"cmd": ["true"]}))
    client.files.put("first@main:/file", b"")
    client.jobs.wait(["start@head"], timeout_seconds=JOB_SECONDS)


def claims(settings: Settings) -> Result:
    """Batches of one datum that takes no time: what the scheduler, the server and PostgreSQL take in."""
    with _cluster(settings, files=settings.size(40_000, 12_000), number=1) as cluster:
        agents = SimulatedAgents(cluster.url, cluster.token, cluster.objects, agents=50)
        watched = settings.size(15, 5)
        _run(agents, seconds=watched, warm_up_seconds=START_SECONDS)
        per_second = agents.window.batches / watched
    return Result(
        name="cluster-claims",
        what="one batch claimed, run and reported, by 50 workers that do nothing else",
        seconds=1 / per_second,
        samples=(1 / per_second,),
        others={},
        budgets=(),
        facts={"batches per second": per_second},
        notes=("workers, server and database share this machine's cores",),
    )


def thousand_workers(settings: Settings) -> Result:
    """Agents of one slot, each with datums of two seconds, give or take half. Latencies as an agent sees them, so with what this process is late."""
    sizes = (100, 300, 1_000) if not settings.quick else (20,)
    facts: dict[str, float] = {}
    last = Latencies()
    for size in sizes:
        last = _watch_workers(settings, size, DATUM_SECONDS, facts)
    return _workers_result("cluster-workers", f"{sizes[-1]:,} simulated workers", last, facts)


def busy_workers(settings: Settings) -> Result:
    """A thousand with datums of half a second: the 2,000 results a second that come of it are near what the machine can do."""
    facts: dict[str, float] = {}
    size = settings.size(1_000, 20)
    last = _watch_workers(settings, size, BUSY_DATUM_SECONDS, facts)
    return _workers_result("cluster-busy", f"{size:,} simulated workers with datums of half a second", last, facts)


def _watch_workers(settings: Settings, size: int, datum_seconds: float, facts: dict[str, float]) -> Latencies:
    watched = settings.size(15, 4)
    files = int(size * (watched + WARM_UP_SECONDS) / datum_seconds * 1.5)
    with _cluster(settings, files=files, number=None) as cluster:
        agents = SimulatedAgents(cluster.url, cluster.token, cluster.objects, agents=size, datum_seconds=datum_seconds)
        _run(agents, seconds=watched)
    found = agents.window
    for what, samples in (("heartbeat", found.heartbeats), ("claim", found.claims), ("lateness here", found.late)):
        facts[f"{size}: {what} p50, ms"] = 1000 * statistics.median(samples)
        facts[f"{size}: {what} p99, ms"] = 1000 * _percentile(samples, 0.99)
    facts[f"{size}: heartbeats per second"] = len(found.heartbeats) / watched
    facts[f"{size}: claims per second"] = len(found.claims) / watched
    facts[f"{size}: datums per second"] = found.datums / watched
    return found


def _workers_result(name: str, workers: str, found: Latencies, facts: dict[str, float]) -> Result:
    return Result(
        name=name,
        what=f"{workers} on one server with PostgreSQL: a claim (median)",
        seconds=median(found.claims),
        samples=(median(found.claims),),
        others={"a heartbeat (median)": median(found.heartbeats)},
        budgets=(
            Budget("p99 of heartbeats < 0.05 s", _percentile(found.heartbeats, 0.99), 0.05),
            Budget("p99 of claims < 0.05 s", _percentile(found.claims, 0.99), 0.05),
        ),
        facts=facts,
        notes=(
            "workers, server and database share this machine's cores; the workers' packs are in memory, where it has a folder",
        ),
    )


def _percentile(samples: Sequence[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def _run(agents: SimulatedAgents, *, seconds: float, warm_up_seconds: float = WARM_UP_SECONDS) -> None:
    """Watched for so many seconds after all have joined."""
    agents.window.begin = time.perf_counter() + warm_up_seconds
    agents.window.end = agents.window.begin + seconds
    # This process plays a thousand hosts; its collector would hold up all of them at once.
    gc.freeze()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(agents.run(warm_up_seconds + seconds))
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True)
class _Cluster:
    url: str
    token: str
    objects: Path


@contextmanager
def _cluster(settings: Settings, *, files: int, number: int | None) -> Iterator[_Cluster]:
    """A server on PostgreSQL with a job of so many datums, in batches of `number`, which waits for workers."""
    if not installed():
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    with (
        running_postgres() as postgres,
        TemporaryDirectory(prefix="paddock-bench-", dir=MEMORY if MEMORY.is_dir() else settings.work) as folder,
    ):
        objects = Path(folder) / "objects"
        catalog, storage = postgres.create("bench"), objects.as_uri()
        with (
            running_server(None, workers=0, catalog=catalog, storage=storage) as server,
            connect(url=server.url, environment={}) as client,
        ):
            source = settings.work / f"source{files}"
            make_source(source, files)
            _put(client, source, "in")
            spec = _spec("job", "in", {"cmd": ["true"]})
            client.pipelines.apply(spec if number is None else spec | {"datum_set_spec": {"number": number}})
            yield _Cluster(server.url, client.pools.create_token("default").secret, objects)


def _put(client: Paddock, source: Path, repo: str) -> None:
    client.repos.create(repo)
    client.files.put_tree(f"{repo}@main:/", source)


def _spec(name: str, repo: str, transform: dict[str, Any]) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": transform,
        "input": {"pfs": {"repo": repo, "name": "in", "glob": "/*"}},
    }
