"""A batch that was cut short: the worker ends it before the datums that another has, and reports what it ran."""

from __future__ import annotations

from pathlib import Path

from paddock.runtime.protocol import Heartbeat, Trim
from paddock.testing.workers import WorkerHarness, shell

DATUMS = 5


def test_a_trimmed_batch_ends_where_it_was_told(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with WorkerHarness(tmp_path / "worker", sandbox="directory", options=["--heartbeat-seconds", "0.01"]) as worker:
        datums = [worker.file_datum(b"%d" % number, f"/{number}") for number in range(DATUMS)]
        lease = worker.start(shell(f"while [ ! -e {gate} ]; do sleep 0.01; done"), datums)
        while not isinstance(worker.receive(), Heartbeat):
            pass
        worker.send(Trim(lease, 2))
        worker.await_reading()
        gate.touch()
        batch = worker.finish(lease)
        assert [datum.id for datum in batch.datums] == [datum.id for datum in datums[:2]]
        assert not batch.reports[-1].cancelled
        assert [datum.id for datum in worker.run(shell("true"), datums).datums] == [datum.id for datum in datums]


def test_a_trim_behind_the_datum_at_work_lets_it_finish(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f'[ $(basename "$in") = 0 ] || while [ ! -e {gate} ]; do sleep 0.01; done'
    with WorkerHarness(tmp_path / "worker", sandbox="directory", options=["--heartbeat-seconds", "0.01"]) as worker:
        datums = [worker.file_datum(b"%d" % number, f"/{number}") for number in range(DATUMS)]
        lease = worker.start(shell(script), datums)
        while not (isinstance(beat := worker.receive(), Heartbeat) and beat.done == 1):
            pass
        worker.send(Trim(lease, 1))
        worker.await_reading()
        gate.touch()
        batch = worker.finish(lease)
        assert [datum.id for datum in batch.datums] == [datum.id for datum in datums[:2]]
