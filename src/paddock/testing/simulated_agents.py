"""Many agents of simulated workers in one process: the real exchanges with a real server, and no work but the waiting.

Each agent has two connections, as a real one: one waits for what the server says, the other sends what workers say at once, and
heartbeats as often as the server wants them. Datums last as long as they are told to, and leave nothing; their reports are stored packs like any other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from paddock.model.errors import Unavailable
from paddock.model.records import DatumState
from paddock.runtime.batch_format import DatumOutcome
from paddock.runtime.engines.exchange_format import read_down, write_up
from paddock.runtime.engines.network import BEAT_SECONDS, FromWorker, ToWorker
from paddock.runtime.protocol import (
    PROTOCOL_VERSION,
    BatchReport,
    BatchTask,
    Claim,
    DatumResult,
    Heartbeat,
    Ready,
    Trim,
    Up,
    decode,
    encode,
)
from paddock.runtime.report_writer import ReportWriter
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.objects import Bytes, LocalObjects, ObjectWriter

START_SECONDS = 5.0
SPREAD = 0.5
"""Datums take so much more or less than the mean, evenly spread."""


@dataclass(slots=True)
class Latencies:
    """What was asked for between `begin` and `end`, in seconds: of sending heartbeats, and from asking for a batch to having it.

    batches, datums: how many were reported between.
    """

    begin: float = 0.0
    end: float = float("inf")
    heartbeats: list[float] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    batches: int = 0
    datums: int = 0
    late: list[float] = field(default_factory=list)
    """By how much this process was late to do what was due: part of the others, and no fault of the server."""

    def count(self, datums: int) -> None:
        if self.begin <= time.perf_counter() < self.end:
            self.batches += 1
            self.datums += datums

    def add(self, samples: list[float], asked: float, now: float) -> None:
        if self.begin <= asked < self.end:
            samples.append(now - asked)


class SimulatedAgents:
    """`run` until cancelled, or for some seconds. datum_seconds: what a datum takes, give or take `SPREAD` of it.

    If all took the same, workers that were given batches together would ask for the next ones together, for ever.
    """

    def __init__(
        self,
        url: str,
        token: str,
        folder: Path,
        *,
        agents: int,
        slots: int = 1,
        datum_seconds: float = 0.0,
        join_seconds: float = START_SECONDS,
    ) -> None:
        """folder: of the home's objects. join_seconds: within which all join."""
        self._join_seconds = join_seconds
        parts = urlsplit(url)
        assert parts.hostname, f"{url} has no host"
        assert parts.port, f"{url} has no port"
        self._address = (parts.hostname, parts.port)
        self._token = token
        self._objects = _Unsynced(folder)
        self._agents = agents
        self._slots = slots
        self._datum_seconds = datum_seconds
        self.window = Latencies()

    async def run(self, seconds: float) -> None:
        agents = [_Agent(self, number) for number in range(self._agents)]
        tasks = [asyncio.create_task(agent.run()) for agent in agents]
        tasks.append(asyncio.create_task(self._watch_lateness()))
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_lateness(self) -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.05)
            self.window.add(self.window.late, begin, time.perf_counter() - 0.05)


class _Agent:
    def __init__(self, owner: SimulatedAgents, number: int) -> None:
        self._owner = owner
        self._number = number
        self._up: list[FromWorker] = []
        self._next = 0
        self._received = 0
        self._beat_seconds = BEAT_SECONDS
        self._news = asyncio.Event()
        self._asked: dict[int, float] = {}
        self._slots = {slot: _Slot() for slot in range(owner._slots)}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await asyncio.sleep(random.random() * self._owner._join_seconds)
        up, down = _Connection(self._owner), _Connection(self._owner)
        try:
            body = {
                "host": f"host-{self._number}",
                "cpus": self._owner._slots,
                "memory_bytes": 1 << 40,
                "disk_bytes": 1,
                "protocol": PROTOCOL_VERSION,
            }
            joined = json.loads(await up.request("POST", "/agents", json.dumps(body).encode(), "application/json"))
            self._path = f"/agents/{joined['agent']}/exchange"
            self._chunking = ChunkingParameters(**joined["chunking"])
            for slot in self._slots:
                self._say(slot, Ready(1, "namespaces", ""))
                self._claim(slot)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(up))
                group.create_task(self._receive(down))
        finally:
            for task in self._tasks:
                task.cancel()
            up.close()
            down.close()

    def _say(self, slot: int, message: Up) -> None:
        self._up.append(FromWorker(self._next, slot, encode(message)))
        self._next += 1
        self._news.set()

    def _claim(self, slot: int) -> None:
        self._asked[slot] = time.perf_counter()
        self._say(slot, Claim())

    async def _send(self, connection: _Connection) -> None:
        window = self._owner.window
        beat = time.perf_counter() + random.random() * BEAT_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, beat - time.perf_counter())):
                    await self._news.wait()
            self._news.clear()
            now = time.perf_counter()
            beats = now >= beat
            if beats:
                for slot, state in self._slots.items():
                    if state.batch is not None:
                        self._say(slot, Heartbeat(state.batch.lease, 0, 0, state.batch.datums[0].id, now - state.since))
                self._news.clear()
            messages = self._up[:]
            if beats or messages:
                beat = (
                    now + self._beat_seconds
                )  # as with a real agent: whatever was said, a heartbeat can wait for so long
            if not messages:
                continue
            await self._exchange(connection, messages, wait=False)
            del self._up[: len(messages)]
            if beats:
                window.add(window.heartbeats, now, time.perf_counter())

    async def _receive(self, connection: _Connection) -> None:
        while True:
            await self._exchange(connection, (), wait=True)

    async def _exchange(self, connection: _Connection, up: Sequence[FromWorker], *, wait: bool) -> None:
        path = f"{self._path}?received={self._received}&wait={str(wait).lower()}"
        answer = await connection.request("POST", path, write_up(up), "application/x-paddock-exchange")
        said = read_down(answer)
        self._beat_seconds = said.beat_seconds
        for message in said.messages:
            if message.number >= self._received:  # else the other connection has brought it
                self._received += 1
                self._take(message)

    def _take(self, message: ToWorker) -> None:
        assert message.line is not None, "nobody ends a simulated worker"
        now = time.perf_counter()
        said = decode(message.line)
        if isinstance(said, BatchTask):
            window = self._owner.window
            asked = self._asked.pop(message.slot)
            window.add(window.claims, asked, now)
            task = asyncio.create_task(self._work(message.slot, said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(said, Trim):
            state = self._slots[message.slot]
            if state.batch is not None and state.batch.lease == said.lease:
                state.keep = min(state.keep, said.keep)

    async def _work(self, slot: int, batch: BatchTask) -> None:
        state, owner = self._slots[slot], self._owner
        async with state.busy:
            state.batch, state.since, state.keep = batch, time.perf_counter(), len(batch.datums)
            seconds = [owner._datum_seconds * random.uniform(1 - SPREAD, 1 + SPREAD) for _ in batch.datums]
            await asyncio.sleep(sum(seconds))
            datums = batch.datums[: state.keep]
            self._claim(slot)
            await asyncio.sleep(0)  # a host of its own would send that now, whatever its neighbours have to store
            writer = ReportWriter(owner._objects, {}, chunking=self._chunking)
            results = []
            for position, datum in enumerate(datums):
                took = seconds[position]
                outcome = DatumOutcome(datum.id, datum.key, DatumState.SUCCESS, 0, "", "", 1, took, (), b"")
                results.append(DatumResult(position, writer.add(outcome), DatumState.SUCCESS, took))
            digest, packs = writer.finish(batch.job, batch.transform)
            state.batch = None
            self._say(slot, BatchReport(batch.lease, final=True, batch=digest, datums=tuple(results), packs=packs))
            owner.window.count(len(datums))


@dataclass(slots=True)
class _Slot:
    batch: BatchTask | None = None
    since: float = 0.0
    keep: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Connection(asyncio.Protocol):
    """One connection that is kept open, with one request at a time."""

    def __init__(self, owner: SimulatedAgents) -> None:
        self._host, self._port = owner._address
        self._headers = f"Host: {self._host}:{self._port}\r\nAuthorization: Bearer {owner._token}\r\n"
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        """Its first line and its body."""

    async def request(self, verb: str, path: str, body: bytes, kind: str) -> bytes:
        """The body of the answer. Unavailable where the server answers otherwise than with success."""
        head = f"{verb} /api/v1{path} HTTP/1.1\r\n{self._headers}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        loop = asyncio.get_running_loop()
        while True:
            fresh = self._transport is None
            if self._transport is None:
                self._transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
            self._answer = loop.create_future()
            self._transport.write(head.encode() + body)
            try:
                status, data = await self._answer
                break
            except ConnectionError:
                # A server closes connections that were idle for long; exchanges may be repeated.
                if fresh:
                    raise
        if not status.startswith(b"HTTP/1.1 2"):
            raise Unavailable(f"{verb} {path} was answered with {status.decode('latin-1')}: {data[:500]!r}")
        return data

    def data_received(self, data: bytes) -> None:
        self._read += data
        head_bytes = self._read.find(b"\r\n\r\n") + 4
        if head_bytes < 4:
            return
        head = bytes(self._read[:head_bytes])
        end = head_bytes + int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._read) >= end:
            body = bytes(self._read[head_bytes:end])
            del self._read[:end]
            if self._answer is not None and not self._answer.done():
                self._answer.set_result((head.partition(b"\r\n")[0], body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._read.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server has closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Unsynced(LocalObjects):
    """Packs without `fsync`: on as many hosts as are simulated here there would be as many disks."""

    def create(self, key: str) -> ObjectWriter:
        return _Unfinished(self.root / key)


class _Unfinished:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[bytes] = []

    def write(self, data: Bytes) -> None:
        self._parts.append(bytes(data))

    def finish(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{self._path}.new"
        with open(temporary, "wb") as file:  # noqa: PTH123
            file.writelines(self._parts)
        os.rename(temporary, self._path)

    def abort(self) -> None:
        self._parts.clear()
