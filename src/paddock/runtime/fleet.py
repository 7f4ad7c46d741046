"""The fleet: has the engines that start workers start as many as there is work for, and says why where they don't (design note 032).

A thread of the server that schedules. Once a second it asks the scheduler what there is to do, each provisioner what members
there are, lets `autoscale` decide, and does it. Its calls may be slow: they hold up no datum. It keeps nothing that it can't see
again, so the fleet of the next server goes on with the members of this one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import field
from typing import TypeVar

from paddock.catalog import jobs as jobs_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog import pools as pools_sql
from paddock.catalog.pools import PoolRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, PaddockError, Unavailable
from paddock.model.records import DEFAULT_POOL, EngineName, PipelineState
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.engines.network import AgentInfo, NetworkEngine
from paddock.runtime.engines.provisioner import Member, MemberState, PoolTemplate, Provisioner, Site
from paddock.runtime.engines.provisioners import open_provisioner
from paddock.runtime.load import Load
from paddock.runtime.pool_needs import PoolNeed, Served, pool_needs
from paddock.runtime.scheduler import Scheduler
from paddock.runtime.watched_pool import Counts, WatchedPool
from paddock.versions.home import Home
from paddock.versions.pools import PoolService

ROUND_SECONDS = 1.0
"""A member takes seconds to start, so looking more often would bring nothing; a new job is looked at at once."""
ANSWER_SECONDS = 60.0
"""The scheduler answers between two rounds of its own; only the plan of a very large job, or the end of one, takes longer."""
LOOK_SECONDS = 0.1
"""How often it is looked whether the fleet was stopped meanwhile."""
CALL_SECONDS = 10.0
"""A call of a provisioner that is under way when the fleet is stopped is waited for so long."""
REOPEN_SECONDS = 5.0
"""How often an engine that can't be used is tried, and one that takes no members of a pool for now."""
FAULT_SECONDS = 30.0
"""After a fault of our own, which may come again with the next look."""
UNNEEDED_SECONDS = 5.0
"""A pool that no pipeline needs is removed after so long: a pipeline that is deleted and made anew finds its workers."""
COUNTS_SECONDS = 2.0
"""How often changed counts are written down; a changed reason is at once."""
PROVISIONED: tuple[EngineName, ...] = ("slurm", "kubernetes")
"""Engines that start workers."""
TOKEN_DESCRIPTION = "of workers that the server starts"

LOG = logging.getLogger("paddock")
T = TypeVar("T")
OpenProvisioner = Callable[[EngineName, Site], Provisioner]


@dataclass(slots=True)
class _Engine:
    """A system that starts members, as far as it could be reached. trouble: why not."""

    name: EngineName
    provisioner: Provisioner | None = None
    trouble: str = ""
    next_try: float = 0.0


@dataclass(slots=True)
class _Token:
    """A pool's token, which this fleet has made. older: ids of those of the fleets before it; needed_by: members that may have them."""

    secret: str
    older: tuple[int, ...] = ()
    needed_by: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Pool:
    watched: WatchedPool
    engine: _Engine
    needed_at: float
    token: _Token | None = None
    refused: str = ""
    """Why no member can be asked for until `next_start`."""
    next_start: float = 0.0


@dataclass(frozen=True, slots=True)
class _Told:
    """What the catalog has been told of a pool, and when."""

    row: PoolRow
    at: float


@dataclass(slots=True)
class _Pipelines:
    """All pipelines as of a version of the catalog."""

    version: int | None = None
    served: Sequence[Served] = ()
    specs: dict[tuple[int, int], PipelineSpec] = field(default_factory=dict)


class Fleet:
    """Runs between `start` and `stop`; `run_once` is for tests that drive it themselves."""

    def __init__(
        self,
        home: Home,
        scheduler: Scheduler,
        network: NetworkEngine,
        *,
        site: Site,
        own_workers: int,
        open: OpenProvisioner = open_provisioner,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """scheduler: of this process; it is asked in its own thread. own_workers: of the local engine, which are in the default pool."""
        self._home = home
        self._scheduler = scheduler
        self._network = network
        self._site = site
        self._own_workers = own_workers
        self._open = open
        self._monotonic = monotonic
        self._engines: dict[EngineName, _Engine] = {}
        self._pools: dict[str, _Pool] = {}
        self._pipelines = _Pipelines()
        self._told: dict[str, _Told] = {}
        self._told_jobs: dict[int, str] = {}
        self._began = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let go of the engines; members go on. Waits for a call that is under way, some seconds at most."""
        self._stop.set()
        self._scheduler.work_came.set()
        if self._thread.ident is not None:
            self._thread.join(CALL_SECONDS)
        for engine in self._engines.values():
            if engine.provisioner is not None:
                engine.provisioner.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.run_once()
            except Unavailable as error:
                if self._stop.is_set():
                    break
                LOG.warning("workers on other systems are not looked after: %s", error)
            except Exception:
                LOG.exception("workers on other systems are not looked after; this is a fault of Paddock")
                self._stop.wait(FAULT_SECONDS)
            self._scheduler.work_came.wait(ROUND_SECONDS)
            self._scheduler.work_came.clear()

    def run_once(self) -> None:
        """One look at everything, and what follows from it. Unavailable: the scheduler or the catalog does not answer."""
        if not self._began:
            self._begin()
        load = self._ask(self._scheduler.load)
        needs = pool_needs(
            self._served(),
            load.jobs,
            engine=self._site.settings.engine,
            workers_max=self._site.settings.pool_workers_max,
        )
        agents = self._network.agents()
        provisioned = {name: need for name, need in needs.items() if need.engine != "local"}
        for need in provisioned.values():
            self._pool(need.name, need.engine).needed_at = self._monotonic()
        for engine in list(self._engines.values()):
            self._look_after(engine, provisioned, agents, load)
        self._write_down(needs, agents, load)

    # ---- what is needed ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Forget what the last server said of pools, but for the pools: those that nobody needs are to be removed."""
        with self._home.catalog.write() as tx:
            jobs_sql.clear_waiting_reasons(tx)
            for row in pools_sql.pools(tx):
                pools_sql.delete_pool(tx, row.name)
                for engine in PROVISIONED:
                    if row.engine == engine:
                        pools_sql.put_pool(tx, dataclasses.replace(row, reason=""))
                        self._pool(row.name, engine)
        self._began = True

    def _pool(self, name: str, engine: EngineName) -> _Pool:
        found = self._pools.get(name)
        if found is None:
            known = self._engines.setdefault(engine, _Engine(engine))
            found = self._pools[name] = _Pool(WatchedPool(name), known, needed_at=self._monotonic())
        return found

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer of the scheduler's thread."""
        answer: Future[T] = Future()

        def errand() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 (raised where it is asked)
                answer.set_exception(error)

        self._scheduler.soon(errand)
        deadline = self._monotonic() + ANSWER_SECONDS
        while self._monotonic() < deadline and not self._stop.is_set():
            try:
                return answer.result(LOOK_SECONDS)
            except FutureTimeoutError:
                continue
        raise Unavailable("the scheduler does not answer; it is asked again")

    def _served(self) -> Sequence[Served]:
        known = self._pipelines
        version = self._home.catalog.data_version()
        if version != known.version:
            with self._home.catalog.read() as tx:
                rows = pipelines_sql.get_all(tx)
                for row in rows:
                    if (row.id, row.version) not in known.specs:
                        found = pipelines_sql.version(tx, row.id, row.version)
                        assert found is not None, f"pipeline {row} has its version {row.version}"
                        known.specs[row.id, row.version] = PipelineSpec.model_validate(json.loads(found.spec))
            known.specs = {(row.id, row.version): known.specs[row.id, row.version] for row in rows}
            known.served = [
                Served(row.id, known.specs[row.id, row.version], row.state == PipelineState.STOPPED) for row in rows
            ]
            known.version = version
        return known.served

    # ---- engines and their pools ---------------------------------------------------------------------------

    def _look_after(
        self, engine: _Engine, needs: Mapping[str, PoolNeed], agents: Sequence[AgentInfo], load: Load
    ) -> None:
        now = self._monotonic()
        members = self._members(engine, now)
        pools = [pool for pool in self._pools.values() if pool.engine is engine]
        for pool in pools:
            pool.watched.trouble = engine.trouble or (pool.refused if now < pool.next_start else "")
        if members is None:
            return
        # A system may list for minutes what has ended; that brings no pool back that nobody needs any more.
        for name in {member.pool for member in members if member.state is not MemberState.ENDED}:
            self._pool(name, engine.name)
        for pool in [pool for pool in self._pools.values() if pool.engine is engine]:
            name = pool.watched.name
            joined = {agent.host: agent for agent in agents if agent.pool == name}
            pool.watched.see([member for member in members if member.pool == name], joined, load, now)
            need = needs.get(name)
            self._lose_ended(members, joined)
            try:
                if need is not None:
                    self._scale(pool, need, now)
                elif now - pool.needed_at >= UNNEEDED_SECONDS:
                    self._remove(pool)
            except PaddockError as error:
                # What was asked of the engine can't be done now. It is decided anew in the next round.
                pool.watched.trouble = error.message

    def _lose_ended(self, members: Sequence[Member], joined: Mapping[str, AgentInfo]) -> None:
        """Give the work of agents whose member has ended badly to others at once, not when they have been silent for long enough."""
        for member in members:
            agent = joined.get(member.name)
            if agent is not None and member.state is MemberState.ENDED and member.reason:
                self._network.leave(agent.id, f"worker {member.name}: {member.reason}", taken=member.taken)

    def _members(self, engine: _Engine, now: float) -> Sequence[Member] | None:
        """None: the engine can't be asked, and `trouble` says why."""
        if now < engine.next_try:
            return None
        try:
            if engine.provisioner is None:
                engine.provisioner = self._open(engine.name, self._site)
            members = engine.provisioner.members()
        except PaddockError as error:
            engine.trouble, engine.next_try = error.message, now + REOPEN_SECONDS
            return None
        engine.trouble = ""
        return members

    def _scale(self, pool: _Pool, need: PoolNeed, now: float) -> None:
        provisioner = pool.engine.provisioner
        assert provisioner is not None, "its members were seen"
        decision = pool.watched.decide(need, now)
        if decision.cancel:
            provisioner.cancel(decision.cancel)
        if decision.retire:
            self._ask(lambda: self._retire(pool.watched.agents(decision.retire)))
        if decision.start and now >= pool.next_start:
            template = PoolTemplate(need.name, need.spec, self._token(pool))
            try:
                provisioner.start(template, decision.start)
            except Unavailable as error:
                pool.refused, pool.next_start = error.message, now + REOPEN_SECONDS
                raise
            except PaddockError as error:
                pool.watched.fail(error.message, not isinstance(error, InvalidInput), now)
        self._drop_older_tokens(pool)

    def _retire(self, agents: Sequence[AgentInfo]) -> None:
        """In the scheduler's thread: whoever got a batch since it was seen to idle stays."""
        busy = self._scheduler.load().busy
        for agent in agents:
            if busy.isdisjoint(agent.workers):
                self._network.retire(agent.id)

    def _remove(self, pool: _Pool) -> None:
        name = pool.watched.name
        assert pool.engine.provisioner is not None, "its members were seen"
        pool.engine.provisioner.remove_pool(name)
        with self._home.catalog.write() as tx:
            pools_sql.delete_tokens_of(tx, name)
            pools_sql.delete_pool(tx, name)
        del self._pools[name]
        self._told.pop(name, None)
        if not any(each.engine is pool.engine for each in self._pools.values()):
            # Nobody needs the engine: it is let go, and opened again when somebody does.
            del self._engines[pool.engine.name]
            pool.engine.provisioner.close()

    # ---- tokens --------------------------------------------------------------------------------------------

    def _token(self, pool: _Pool) -> str:
        """The pool's token. That of the server before can't be told any more; it stays valid for the members that have it."""
        if pool.token is None:
            name = pool.watched.name
            service = PoolService(self._home)
            older = [
                token.id
                for token in service.list_tokens()
                if token.pool == name and token.description == TOKEN_DESCRIPTION
            ]
            secret = service.create_token(name, description=TOKEN_DESCRIPTION).secret
            pool.token = _Token(secret, tuple(older), pool.watched.alive)
        return pool.token.secret

    def _drop_older_tokens(self, pool: _Pool) -> None:
        token = pool.token
        if token is None or not token.older or not token.needed_by.isdisjoint(pool.watched.alive):
            return
        with self._home.catalog.write() as tx:
            for id in token.older:
                pools_sql.delete_token(tx, id)
        token.older = ()

    # ---- what people see -----------------------------------------------------------------------------------

    def _write_down(self, needs: Mapping[str, PoolNeed], agents: Sequence[AgentInfo], load: Load) -> None:
        now = self._monotonic()
        rows = {need.name: row for need in needs.values() if (row := self._row(need, agents, load, now)) is not None}
        rows |= {name: self._leaving_row(pool) for name, pool in self._pools.items() if name not in needs}
        changed = [row for row in rows.values() if self._is_news(row, now)]
        gone = [name for name in self._told if name not in rows]
        reasons = {
            job.id: _job_reason(row) if (row := rows.get(need.name)) is not None else ""
            for need in needs.values()
            for job in need.jobs
        }
        told = {id: text for id, text in reasons.items() if text != self._told_jobs.get(id, "")}
        if not (changed or gone or told):
            self._told_jobs = reasons
            return
        with self._home.catalog.write() as tx:
            for row in changed:
                pools_sql.put_pool(tx, row)
            for name in gone:
                pools_sql.delete_pool(tx, name)
            for id, text in told.items():
                jobs_sql.set_waiting_reason(tx, id, text)
        self._told = {name: told_row for name, told_row in self._told.items() if name in rows}
        self._told |= {row.name: _Told(row, now) for row in changed}
        self._told_jobs = reasons

    def _row(self, need: PoolNeed, agents: Sequence[AgentInfo], load: Load, now: float) -> PoolRow | None:
        """What is to be seen of a pool; None of a local one with which nothing is the matter and that nobody has joined."""
        if need.engine == "local":
            joined = [agent for agent in agents if agent.pool == need.name]
            busy = sum(1 for agent in joined if not load.busy.isdisjoint(agent.workers))
            counts, reason = Counts(idle=len(joined) - busy, busy=busy), self._nobody(need, joined)
            if not joined and not reason:
                return None
        else:
            watched = self._pools[need.name].watched
            counts, reason = watched.counts(), watched.reason(need)
        lacks = next((job.lacks for job in need.jobs if job.lacks), "")
        if lacks and not reason:
            reason = f"datums don't fit on the workers that have joined: {lacks}"
        return PoolRow(
            need.name,
            need.engine,
            need.pipelines,
            counts.waiting,
            counts.started,
            counts.idle,
            counts.busy,
            reason,
            self._home.now(),
        )

    def _leaving_row(self, pool: _Pool) -> PoolRow:
        """A pool that nobody needs stays written down until it is removed: if this server ends, the next one removes it."""
        counts = pool.watched.counts()
        return PoolRow(
            pool.watched.name,
            pool.engine.name,
            (),
            counts.waiting,
            counts.started,
            counts.idle,
            counts.busy,
            "",
            self._home.now(),
        )

    def _nobody(self, need: PoolNeed, joined: Sequence[AgentInfo]) -> str:
        """Why the work of a pool whose workers people start is not done."""
        waits = any(job.waiting for job in need.jobs)
        if not waits or joined or (need.name == DEFAULT_POOL and self._own_workers):
            return ""
        return (
            f"no worker of pool {need.name} has joined: start one with `paddock worker` and a token from"
            f" `paddock pool token {need.name}`"
        )

    def _is_news(self, row: PoolRow, now: float) -> bool:
        told = self._told.get(row.name)
        if told is None or (told.row.reason, told.row.pipelines) != (row.reason, row.pipelines):
            return True
        same = _counts(told.row) == _counts(row)
        return not same and now - told.at >= COUNTS_SECONDS


def _counts(row: PoolRow) -> tuple[int, int, int, int]:
    return row.waiting, row.started, row.idle, row.busy


def _job_reason(row: PoolRow) -> str:
    """Why a job at work gets on slowly or not at all; empty where it does."""
    if row.reason or row.idle or row.busy:
        return row.reason
    return f"its first worker is being started by {row.engine}"
