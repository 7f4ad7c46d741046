"""Bounds of what may pile up between one that is fast and one that is slow (design note 026, Bounds)."""

from __future__ import annotations

import asyncio
import random
import sys
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from paddock.api import streams
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Corrupt, Unavailable
from paddock.model.ids import DatumId, DatumKey, Digest, PackId
from paddock.model.records import Location
from paddock.runtime.active_job import Failures
from paddock.runtime.engines import local, network
from paddock.runtime.engines.engine import OWN_PLACE, Place, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.follow_logs import follow_logs
from paddock.runtime.protocol import BatchTask, Claim, DatumTask, Down, FileTask, Ready, encode
from paddock.runtime.read_ahead import ReadAhead
from paddock.runtime.resources import Capacity
from paddock.runtime.scheduler import BATCHES_MAX, Scheduler
from paddock.runtime.worker_logs import DatumLog
from paddock.storage.chunking import CHUNKING
from paddock.storage.objects import Reading
from paddock.testing.workers import WorkerHarness, input_of, shell

MIB = 1 << 20


@pytest.fixture
def peak() -> Iterator[Any]:
    """A call that returns the most memory that Python has held since the test began."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_log_written_byte_by_byte_takes_no_more_than_its_bytes(peak: Any) -> None:
    log = DatumLog(head_bytes_max=0, tail_bytes_max=MIB // 4)
    for number in range(100_000):
        log.add(b"%d\n" % (number % 100))
    assert peak() < MIB


def test_a_datum_that_prints_a_quarter_gigabyte_does_not_fill_its_worker(tmp_path: Path) -> None:
    with WorkerHarness(tmp_path) as worker:
        (ran,) = worker.run(shell("head -c 256M /dev/zero"), [worker.file_datum(b"x")]).datums
        assert len(ran.log) < 17 * MIB
        assert _memory_peak(worker.process.pid) < 128 * MIB


def _memory_peak(process: int) -> int:
    """Of a process and all below it: the most that one of them has had resident."""
    status = Path(f"/proc/{process}/status").read_text()
    most = int(status.partition("VmHWM:")[2].split()[0]) << 10 if "VmHWM:" in status else 0
    below = [
        int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and _parent(folder) == process
    ]
    return max([most, *map(_memory_peak, below)])


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


class Pack:
    """An object store of one pack, which notes how much is read at once."""

    reading = Reading(gap_bytes=256 << 10, run_bytes=4 * MIB, at_once=1)

    def __init__(self) -> None:
        self.longest = 0

    def read_range(self, _key: str, _offset: int, length: int) -> bytes:
        self.longest = max(self.longest, length)
        return bytes(length)


def test_reading_ahead_holds_neither_gaps_nor_long_runs(peak: Any) -> None:
    """512 chunks of 64 bytes, 200 KiB apart from each other: 100 MiB of pack between them."""
    pack = Pack()
    chunks = [
        (Digest(number.to_bytes(32, "big")), Location(PackId("p"), number * 200 << 10, 64, 64, 0))
        for number in range(512)
    ]
    ahead = ReadAhead(pack)  # type: ignore[arg-type]  # It reads ranges only.
    file = FileTask("/f", 64 * len(chunks), False, tuple(chunks))
    ahead.expect([DatumTask(DatumId("0" * 32), DatumKey(bytes(32)), (input_of("in", "/f", file),))])
    with pytest.raises(Corrupt):
        ahead.read(*chunks[0])
    assert pack.longest <= 4 * MIB
    assert peak() < 16 * MIB


class Greedy:
    """An engine whose one worker asks for work in every round, and never reports."""

    def __init__(self) -> None:
        self.sent: list[Down] = []
        self.ready = False

    def scale(self, workers: int) -> None: ...

    def workers(self) -> Sequence[WorkerId]:
        return (WorkerId(0),)

    def place(self, worker: WorkerId) -> Place:
        return OWN_PLACE

    def machines(self) -> Mapping[Place, Capacity]:
        return {}

    def send(self, worker: WorkerId, message: Down) -> None:
        self.sent.append(message)

    def flush(self) -> None:
        pass

    def kill(self, worker: WorkerId) -> None: ...

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        first, self.ready = not self.ready, True
        said = Ready(1, "directory", "") if first else Claim()
        return (WorkerMessage(WorkerId(0), said),)

    def stop(self) -> None: ...


def test_a_worker_that_never_reports_gets_two_batches(paddock: EmbeddedPaddock) -> None:
    _data(paddock, 20)
    paddock.pipelines.apply(_spec("true") | {"datum_set_spec": {"number": 1}})
    engine = Greedy()
    scheduler = Scheduler(paddock.home, engine, workers=1)
    for _ in range(10):
        scheduler.run_once(0)
    assert sum(isinstance(message, BatchTask) for message in engine.sent) == BATCHES_MAX


def test_a_line_without_an_end_ends_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that only pretends to be one writes to its socket for ever."""
    monkeypatch.setattr(local, "LINE_BYTES_MAX", MIB)
    program = tmp_path / "python"
    words = "import socket, sys\nworker = socket.socket(fileno=int(sys.argv[5]))\nwhile True: worker.sendall(bytes(65536))\n"
    program.write_text(f"#!{sys.executable} -S\n{words}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    engine = local.LocalEngine(
        objects=str(tmp_path), scratch=tmp_path / "scratch", chunking=CHUNKING, options=local.WorkerOptions()
    )
    try:
        engine.scale(1)
        events: list[WorkerEvent] = []
        while not events:
            events += engine.poll(10)
            assert len(engine.workers()) <= 1
        assert isinstance(events[0], WorkerGone)
        assert "SIGKILL" in events[0].reason
    finally:
        engine.stop()


def test_agents_wait_for_a_scheduler_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "WAITING_BYTES_MAX", 1000)
    engine = network.NetworkEngine()
    agent = engine.join(pool="p", host="alder")

    def say(number: int, line: bytes) -> None:
        engine.exchange(agent, pool="p", received=0, messages=[network.FromWorker(number, 0, line)])

    say(0, encode(Ready(7, "namespaces", "x" * 1000)))
    with pytest.raises(Unavailable, match="behind"):
        say(1, encode(Claim()))
    assert len(engine.poll(0)) == 1
    say(1, encode(Claim()))
    assert len(engine.poll(0)) == 1
    engine.stop()


def test_of_failed_datums_the_first_are_kept_and_all_are_counted() -> None:
    failures = Failures()
    assert not failures
    positions = list(range(1000))
    random.Random(1).shuffle(positions)
    for position in positions:
        failures.add(position, f"reason {position}")
    assert failures.count == 1000
    assert failures.first() == [(position, f"reason {position}") for position in range(Failures.KEPT)]


def test_a_follower_that_is_slow_holds_one_log_at_a_time(paddock: EmbeddedPaddock, peak: Any) -> None:
    _data(paddock, 60)
    paddock.pipelines.apply(_spec("head -c 1000000 /dev/zero"))
    (job,) = paddock.process(workers=2)
    assert job.state == "success"
    tracemalloc.reset_peak()
    follower = follow_logs(paddock.home, f"{job.project}/{job.pipeline}@{job.id}")
    assert len(next(follower)[1]) == 1_000_000
    assert peak() < 16 * MIB
    assert sum(1 for _ in follower) == 59


def test_a_stream_to_a_slow_reader_asks_for_one_record_at_a_time() -> None:
    """The reader takes the first part and then no more, until the connection is given up."""
    asked = []

    def records() -> Iterator[str]:
        for number in range(1000):
            asked.append(number)
            yield "x" * MIB

    async def answer() -> None:
        response = streams.ndjson(records())
        stuck = asyncio.Event()

        async def receive() -> Any:
            await stuck.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                stuck.set()
                await asyncio.Event().wait()

        await response({"type": "http", "asgi": {"spec_version": "2.0"}}, receive, send)

    asyncio.run(answer())
    assert len(asked) <= 2


def _data(paddock: EmbeddedPaddock, count: int) -> None:
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for number in range(count):
        paddock.files.put(f"data@main:/{number}", b"%d" % number)
    paddock.commits.finish("data@main")


def _spec(script: str) -> dict[str, Any]:
    return {
        "pipeline": {"name": "say"},
        "transform": {"cmd": ["sh", "-c", script]},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
    }
