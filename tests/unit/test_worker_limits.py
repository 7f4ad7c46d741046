"""What a datum may not exceed: it fails by name, its neighbours do not, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.records import DatumState
from paddock.runtime.protocol import Limit
from paddock.testing.workers import RanDatum, WorkerHarness, shell

HOG = f"{sys.executable} -S -E -c 'import sys, time; x = bytearray(int(sys.argv[1]) << 20); time.sleep(float(sys.argv[2]))'"
"""Takes as many MiB, and as many seconds, as its arguments say."""
MIB = 1 << 20
MEMORY = Limit("memory", 100 * MIB, "datum_limits.memory")


@pytest.fixture(params=["namespaces", "directory"])
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerHarness]:
    with WorkerHarness(tmp_path, sandbox="auto" if request.param == "namespaces" else request.param) as harness:
        if harness.ready.sandbox != request.param:
            pytest.skip("this system forbids namespaces")
        yield harness


def run(worker: WorkerHarness, script: str, *limits: Limit, count: int = 3, **fields: object) -> list[RanDatum]:
    """Datums whose input says their number; the script sees it as $n."""
    datums = [worker.file_datum(str(number).encode(), f"/{number}") for number in range(count)]
    transform = shell(f"n=$(cat $in); {script}", limits=limits, **fields)
    return worker.run(transform, datums).datums


def only_the_second_fails(ran: list[RanDatum], *reason: str) -> None:
    assert [datum.state for datum in ran] == [DatumState.SUCCESS, DatumState.FAILED, DatumState.SUCCESS]
    for part in reason:
        assert part in ran[1].reason


@pytest.mark.parametrize("start", ["exec", "true;", "(", "setsid"], ids=["itself", "child", "grandchild", "session"])
def test_memory_of_the_whole_tree(worker: WorkerHarness, start: str) -> None:
    hog = f"{start} {HOG} 300 60{' )' if start == '(' else ''}"
    begin = time.monotonic()
    ran = run(worker, f"echo here; if [ $n = 1 ]; then {hog}; fi", MEMORY, datum_tries=3)
    assert time.monotonic() - begin < 30
    only_the_second_fails(ran, "its limit of 100 MiB (datum_limits.memory)")
    assert ran[1].tries == 1
    assert b"here" in ran[1].log


def test_memory_below_the_limit_is_free(worker: WorkerHarness) -> None:
    ran = run(worker, f"{HOG} 60 0.2", MEMORY)
    assert {datum.state for datum in ran} == {DatumState.SUCCESS}


def test_several_transforms_have_limits_of_their_own(worker: WorkerHarness) -> None:
    low = Limit("memory", 50 * MIB, "resource_limits.memory")
    for _ in range(2):
        (small,) = run(worker, f"{HOG} 70 0.2", low, count=1)
        (large,) = run(worker, f"{HOG} 70 0.2", MEMORY, count=1)
        assert "its limit of 50 MiB (resource_limits.memory)" in small.reason
        assert large.state is DatumState.SUCCESS


def test_scratch_is_a_folder_of_its_own_that_is_emptied(worker: WorkerHarness) -> None:
    limit = Limit("scratch", MIB, "datum_limits.scratch")
    fill = 'if [ $n = 1 ]; then head -c 3000000 /dev/zero > "$TMPDIR/big"; sleep 60; fi'
    ran = run(worker, f'ls -A "$TMPDIR"; mkdir "$TMPDIR/x"; echo 1 > "$TMPDIR/x/y"; {fill}', limit)
    only_the_second_fails(ran, "it had 2.86 MiB below $TMPDIR, more than its limit of 1 MiB (datum_limits.scratch)")
    assert [datum.log for datum in ran] == [b"", ran[1].log, b""]


def test_scratch_is_looked_at_when_the_command_has_ended(worker: WorkerHarness) -> None:
    limit = Limit("disk", MIB, "resource_limits.disk")
    half = "head -c 700000 /dev/zero >"
    ran = run(worker, f'[ $n != 1 ] || {half} "$TMPDIR/a" && {half} /$PADDOCK_PFS/out/$n', limit)
    only_the_second_fails(ran, "in /pfs/out and below $TMPDIR, more than its limit of 1 MiB (resource_limits.disk)")


def test_output_that_grows_is_stopped(worker: WorkerHarness) -> None:
    limit = Limit("output", MIB, "datum_limits.output")
    ran = run(worker, "[ $n != 1 ] || head -c 3000000 /dev/zero > $PADDOCK_PFS/out/$n; [ $n != 1 ] || sleep 60", limit)
    only_the_second_fails(ran, "the datum's output is 2.86 MiB, more than its limit of 1 MiB (datum_limits.output)")
    assert not ran[1].files


def test_links_to_inputs_count_as_output(worker: WorkerHarness) -> None:
    limit = Limit("output", 50, "datum_limits.output")
    datums = [worker.file_datum(b"x" * size, f"/{size}") for size in (10, 100)]
    ran = worker.run(shell("ln -s $in $PADDOCK_PFS/out/link", limits=(limit,)), datums).datums
    assert [datum.state for datum in ran] == [DatumState.SUCCESS, DatumState.FAILED]
    assert "the datum's output is 100 bytes" in ran[1].reason


def test_the_field_of_a_time_limit_is_named(worker: WorkerHarness) -> None:
    fields = {"datum_timeout_seconds": 0.2, "timeout_field": "datum_limits.time", "datum_tries": 1}
    ran = run(worker, "[ $n != 1 ] || sleep 60", **fields)
    only_the_second_fails(ran, "stopped after 0.2 s (datum_limits.time)")


def test_err_cmd_may_recover_what_took_too_much(worker: WorkerHarness) -> None:
    ran = run(worker, f"[ $n != 1 ] || {HOG} 300 60", MEMORY, err_cmd=("true",), count=2)
    assert [datum.state for datum in ran] == [DatumState.SUCCESS, DatumState.RECOVERED]


def test_a_command_gets_as_many_cpus_as_it_may_use(worker: WorkerHarness) -> None:
    ran = run(worker, "nproc", cpus_max=1, count=1) + run(worker, "nproc; true", count=1)
    assert [int(datum.log) for datum in ran] == [1, len(os.sched_getaffinity(0))]


WARM = """
import json, os
kept = []
with open(3) as tasks, open(4, "w") as answers:
    for line in tasks:
        task = json.loads(line)
        if task["in"].endswith("/1"):
            kept.append(bytearray(300 << 20))
        print(json.dumps({"id": task["id"], "ok": True}), file=answers, flush=True)
"""


def test_a_warm_process_is_ended_and_the_datum_at_work_named(worker: WorkerHarness) -> None:
    datums = [worker.file_datum(b"x", f"/{number}") for number in range(3)]
    transform = shell(f"exec {sys.executable} -c '{WARM}'", limits=(MEMORY,), warm=True, datum_tries=2)
    ran = worker.run(transform, datums).datums
    assert [datum.tries for datum in ran] == [1, 2, 1]
    only_the_second_fails(ran, "its limit of 100 MiB (datum_limits.memory)")


POLLED = """
import os, sys
from paddock.runtime import sandbox
from paddock.runtime.limits import LimitWatch
from paddock.runtime.commands import LocalCommands, Workplace
from paddock.runtime.process import ProcessRunner
from paddock.runtime.protocol import Limit
from paddock.runtime.worker_logs import DatumLog

class Nobody:
    poll_fd = os.pipe()[0]
    def look(self): return False
    def beat(self): pass

sandbox.adopt_orphans()
runner = ProcessRunner(Nobody(), LocalCommands(owns_namespace=False), grace_seconds=1.0, beat_seconds=1.0)
watch = LimitWatch((Limit("memory", 100 << 20, "field"),), out="/nowhere", scratch="/nowhere")
for size in sys.argv[1:]:
    script = sys.executable + " -c 'import sys, time; x = bytearray(%s << 20); time.sleep(0.5)' & wait" % size
    ended = runner.run(["/bin/sh", "-c", script], os.environb, Workplace("/"), stdin=None, timeout_seconds=20,
        log=DatumLog(), watch=watch)
    print(ended.code, ended.breach)
"""


def test_where_the_kernel_does_not_count_memory_is_looked_at() -> None:
    ran = subprocess.run([sys.executable, "-c", POLLED, "30", "300"], capture_output=True, text=True, check=True)
    small, large = ran.stdout.splitlines()
    assert small == "0 "
    assert large.startswith("-9 the command was ended: it used ")
    assert large.endswith(" of memory, more than its limit of 100 MiB (field)")
