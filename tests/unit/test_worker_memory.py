"""Small datums have their files in memory, and nobody can tell but by the time it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.records import DatumState
from paddock.runtime import sandbox
from paddock.testing.workers import RanDatum, WorkerHarness, shell

WHERE = "stat -c %d /pfs/out; "
"""Prints the number of the file system, which differs between memory and disk."""


def _namespaces_work() -> bool:
    child = os.fork()
    if child == 0:
        try:
            sandbox.enter_namespaces()
        except sandbox.SandboxError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


pytestmark = pytest.mark.skipif(not _namespaces_work(), reason="this system forbids namespaces")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerHarness]:
    with WorkerHarness(tmp_path, sandbox="namespaces", options=("--grace-seconds", "0.2")) as harness:
        yield harness
        assert harness.drain() == 0
        assert harness.close() == ""
        assert list(harness.scratch.iterdir()) == []


def run(worker: WorkerHarness, script: str, contents: list[bytes], **fields: object) -> tuple[RanDatum, ...]:
    datums = [worker.file_datum(content, f"/{number}") for number, content in enumerate(contents)]
    return tuple(worker.run(shell(script, **fields), datums).datums)


def test_the_first_datum_is_on_disk_and_small_ones_after_it_in_memory(worker: WorkerHarness) -> None:
    script = WHERE + "cat /pfs/in/*; ls /pfs/in /pfs/out; cp /pfs/in/* /pfs/out/; cat /pfs/.env | grep ^in="
    ran = run(worker, script, [b"one\n", b"two\n", b"three\n"])
    disk, memory, again = (datum.log.decode().splitlines() for datum in ran)
    assert disk[0] != memory[0] == again[0]
    assert memory[1:] == ["two", "/pfs/in:", "1", "", "/pfs/out:", "in=/pfs/in/1"]
    assert [datum.files for datum in ran] == [{"/0": b"one\n"}, {"/1": b"two\n"}, {"/2": b"three\n"}]


def test_inputs_in_memory_are_as_read_only_as_on_disk(worker: WorkerHarness) -> None:
    script = "for f in /pfs/in/x /pfs/x; do (: >$f) 2>/dev/null && echo written $f; done; rm -f /pfs/in/* 2>/dev/null"
    ran = run(worker, script + "; ls /pfs/in", [b"a", b"b", b"c"])
    assert [datum.log for datum in ran] == [b"0\n", b"1\n", b"2\n"]


def test_large_inputs_go_to_disk_and_small_ones_back(worker: WorkerHarness) -> None:
    ran = run(worker, WHERE + "cat /pfs/in/* | wc -c; ls /pfs/in", [b"1", b"2", os.urandom(5 << 20), b"4"])
    lines = [datum.log.decode().split() for datum in ran]
    assert [line[1:] for line in lines] == [["1", "0"], ["1", "1"], [str(5 << 20), "2"], ["1", "3"]]
    assert lines[0][0] == lines[2][0] != lines[1][0] == lines[3][0]


@pytest.mark.parametrize("end", ["", "; exit 0"], ids=["fails", "hides it"])
def test_a_datum_that_fills_the_memory_runs_on_disk(worker: WorkerHarness, end: str) -> None:
    size = sandbox.MEMORY_BYTES + (1 << 20)
    script = f"{WHERE} n=10; [ $(cat /pfs/in/*) = large ] && n={size}; head -c $n /dev/zero >/pfs/out/$(ls /pfs/in)"
    ran = run(worker, script + end, [b"small", b"large", b"small"], datum_tries=1)
    assert [(datum.state, datum.tries) for datum in ran] == [(DatumState.SUCCESS, 1)] * 3
    assert [len(content) for datum in ran for content in datum.files.values()] == [10, size, 10]
    assert b"runs again on disk" in ran[1].log
    assert ran[2].log == ran[0].log


def test_a_second_try_is_on_disk(worker: WorkerHarness) -> None:
    script = WHERE + "[ $(cat /pfs/in/*) = good ]"
    ran = run(worker, script, [b"good", b"bad", b"good"], datum_tries=2)
    first, second = [line for line in ran[1].log.decode().splitlines() if line.isdigit()]
    assert first != second == ran[0].log.decode().strip()
    assert (ran[1].state, ran[1].tries) == (DatumState.FAILED, 2)
    assert ran[2].log.decode().strip() == first


def test_code_is_there_too(worker: WorkerHarness) -> None:
    code = (worker.store(b"echo ran\n", "/bin/it.sh", executable=True),)
    ran = run(worker, "sh bin/it.sh; pwd", [b"a", b"b"], code=code)
    assert [datum.log for datum in ran] == [b"ran\n/pfs/.code\n"] * 2


def test_a_warm_command_goes_on_where_its_folders_change(worker: WorkerHarness) -> None:
    script = r"""
    while read -r line <&3; do
        id=${line#*\"id\":\"}; id=${id%%\"*}
        cat /pfs/in/* | wc -c | tr -d ' ' > /pfs/out/size; echo $$ >&2; stat -c %d /pfs/out >&2
        echo "{\"id\":\"$id\",\"ok\":true}" >&4
    done"""
    datums = [
        worker.file_datum(content, f"/{number}")
        for number, content in enumerate([b"1", b"2", os.urandom(5 << 20), b"4"])
    ]
    ran = worker.run(shell(script, warm=True), datums).datums
    assert [datum.files["/size"] for datum in ran] == [b"1\n", b"1\n", b"%d\n" % (5 << 20), b"1\n"]
    logs = [datum.log.split() for datum in ran]
    assert len({log[0] for log in logs}) == 1
    assert logs[0][1] == logs[2][1] != logs[1][1] == logs[3][1]
