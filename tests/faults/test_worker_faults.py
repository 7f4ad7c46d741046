"""Workers when things go wrong: commands that do not end, children left behind, full disks, and kill -9 of anything."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from paddock.model.records import DatumState
from paddock.runtime.protocol import BatchReport, Cancel, Claim, Drain, Heartbeat, Stop
from paddock.testing.workers import WorkerHarness, input_of, processes_with, shell

SANDBOXES = ("auto", "directory")
QUICK = ("--grace-seconds", "0.2", "--report-seconds", "0.3", "--heartbeat-seconds", "0.05")
GONE_SECONDS = 20.0


@pytest.fixture(scope="module", params=SANDBOXES)
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerHarness]:
    """A worker that outlives the tests that use it."""
    with WorkerHarness(tmp_path_factory.mktemp("worker"), sandbox=request.param, options=QUICK) as harness:
        yield harness
        assert harness.close() == ""


@pytest.fixture(params=SANDBOXES)
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerHarness]:
    """A worker that the test may end."""
    with WorkerHarness(tmp_path / "worker", sandbox=request.param, options=QUICK) as harness:
        yield harness


class Signal:
    """A named pipe that user code writes to, to say that it has come so far."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"signal-{uuid.uuid4().hex}"
        os.mkfifo(self.path)

    def wait(self) -> bytes:
        with self.path.open("rb") as pipe:
            return pipe.read()


def wait_for_processes(mark: str, count: int) -> list[int]:
    """The processes with this in their environment, as soon as there are so many; a new one shows none for a moment."""
    deadline = time.monotonic() + GONE_SECONDS
    while len(found := processes_with(mark)) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} processes started"
        select.select([], [], [], 0.01)
    return found


def wait_gone(processes: Sequence[int]) -> None:
    """Wait until the processes have ended; fails after a while."""
    for process in processes:
        try:
            handle = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], GONE_SECONDS)[0], f"process {process} is still alive"
        finally:
            os.close(handle)


def mounts() -> str:
    return Path("/proc/mounts").read_text()


class TestDeadlines:
    def test_a_command_that_ignores_sigterm_is_killed(self, worker: WorkerHarness) -> None:
        task = shell(
            "trap '' TERM; sleep 1000 & sleep 1000; sleep 1000", datum_timeout_seconds=0.1, env={"MARK": "m-ignores"}
        )
        ran = worker.run(task, [worker.file_datum(b"x")]).datums[0]
        assert (ran.state, ran.exit_code, ran.tries) == (DatumState.FAILED, -signal.SIGKILL, 1)
        assert ran.reason == "the command was stopped after 0.1 s (datum_timeout)"
        assert 0.25 < ran.seconds < 10
        assert processes_with("MARK=m-ignores") == []

    def test_a_command_may_tidy_up_when_it_is_stopped(self, worker: WorkerHarness) -> None:
        script = "trap 'echo tidied; exit 0' TERM; echo x >$PADDOCK_PFS/out/x; while :; do sleep 0.01; done"
        ran = worker.run(shell(script, datum_timeout_seconds=0.3, datum_tries=2), [worker.file_datum(b"x")]).datums[0]
        assert (ran.state, ran.exit_code, ran.tries, ran.files) == (DatumState.FAILED, 0, 2, {})
        assert ran.log.count(b"tidied") == 2

    def test_endless_output_does_not_outlive_the_deadline(self, worker: WorkerHarness) -> None:
        ran = worker.run(shell("yes", datum_timeout_seconds=0.5), [worker.file_datum(b"x")]).datums[0]
        assert "datum_timeout" in ran.reason
        assert len(ran.log) < 17 << 20

    def test_err_cmd_has_a_deadline_too(self, worker: WorkerHarness) -> None:
        task = shell("exit 1", err_cmd=("sleep", "1000"), datum_timeout_seconds=0.1)
        assert worker.run(task, [worker.file_datum(b"x")]).datums[0].state is DatumState.FAILED


class TestLeftovers:
    def test_children_left_behind_are_killed(self, worker: WorkerHarness) -> None:
        daemon = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); print(1, flush=True); time.sleep(1000)"
        script = f'sleep 1000 & (setsid sleep 1000 &) ; python3 -c "{daemon}" & wait $!; echo done >$PADDOCK_PFS/out/x'
        batch = worker.run(
            shell(script, env={"MARK": "m-left"}), [worker.file_datum(b"%d" % n, f"/{n}") for n in range(3)]
        )
        assert [ran.files for ran in batch.datums] == [{"/x": b"done\n"}] * 3
        assert processes_with("MARK=m-left") == []

    def test_a_child_that_holds_the_output_open_does_not_block(self, worker: WorkerHarness) -> None:
        ran = worker.run(shell("yes & echo x"), [worker.file_datum(b"x")]).datums[0]
        assert ran.state is DatumState.SUCCESS


class TestCancel:
    def test_what_was_finished_is_reported(self, worker: WorkerHarness, tmp_path: Path) -> None:
        reached = Signal(tmp_path)
        task = shell(
            f'[ "$in" = "$PADDOCK_PFS/in/0" ] || {{ echo >{reached.path}; sleep 1000; }}', env={"MARK": "m-cancel"}
        )
        lease = worker.start(task, [worker.file_datum(b"x", f"/{n}") for n in range(3)])
        reached.wait()
        worker.send(Cancel(lease))
        batch = worker.finish(lease)
        assert [ran.state for ran in batch.datums] == [DatumState.SUCCESS]
        assert batch.reports[-1].cancelled
        assert processes_with("MARK=m-cancel") == []
        assert worker.run(shell("ls -A $PADDOCK_PFS/out"), [worker.file_datum(b"x")]).datums[0].log == b""

    def test_a_batch_that_has_not_begun(self, worker: WorkerHarness) -> None:
        worker.send(Cancel(worker.next_lease))
        batch = worker.run(shell("true"), [worker.file_datum(b"x")])
        assert batch.datums == []
        assert batch.reports[-1].cancelled


class TestReports:
    def test_long_batches_are_reported_in_parts_with_heartbeats(self, worker: WorkerHarness) -> None:
        batch = worker.run(
            shell('sleep 0.16; cp "$in" $PADDOCK_PFS/out'), [worker.file_datum(b"%d" % n, f"/{n}") for n in range(3)]
        )
        # How many parts depends on how busy the machine is.
        assert len(batch.reports) >= 2
        assert [report.final for report in batch.reports] == [False] * (len(batch.reports) - 1) + [True]
        assert [brief.position for report in batch.reports for brief in report.datums] == [0, 1, 2]
        assert all([brief.row for brief in part.datums] == [*range(len(part.datums))] for part in batch.reports)
        assert [ran.files for ran in batch.datums] == [{f"/{n}": b"%d" % n} for n in range(3)]
        assert len(batch.heartbeats) >= 3
        assert batch.heartbeats[-1].running == batch.datums[2].id

    def test_the_next_claim_comes_before_the_last_report(self, mortal: WorkerHarness) -> None:
        assert mortal.receive() == Claim()
        mortal.start(shell("true"), [mortal.file_datum(b"x")])
        while isinstance(said := mortal.receive(), Heartbeat):
            pass  # on a busy machine the datum takes long enough
        assert said == Claim()
        assert isinstance(mortal.receive(), BatchReport)

    def test_drain_finishes_the_datum_at_work_and_gives_back_the_rest(
        self, mortal: WorkerHarness, tmp_path: Path
    ) -> None:
        reached, goes_on, begun = Signal(tmp_path), Signal(tmp_path), tmp_path / "begun"
        script = f"[ -e {begun} ] || {{ touch {begun}; echo >{reached.path}; read line <{goes_on.path}; }}"
        datums = [mortal.file_datum(b"%d" % number, f"/{number}") for number in range(100)]
        lease = mortal.start(shell(script), datums)
        reached.wait()
        mortal.send(Drain())
        mortal.await_reading()
        goes_on.path.write_text("\n")
        batch = mortal.finish(lease)
        assert [ran.state for ran in batch.datums] == [DatumState.SUCCESS]
        assert mortal.process.wait(GONE_SECONDS) == 0

    def test_a_transform_that_was_never_sent_is_a_fault_of_ours(self, worker: WorkerHarness) -> None:
        task = shell("echo unknown")
        worker.known.add(task.id)
        batch = worker.run(task, [worker.file_datum(b"x")])
        assert (batch.reports[-1].error_code, batch.reports[-1].batch) == ("bug", None)


class TestDeath:
    def begin(self, mortal: WorkerHarness, folder: Path) -> list[int]:
        """Start a datum with children of all sorts; the ids of all processes of the worker."""
        reached = Signal(folder)
        mark = f"MARK={uuid.uuid4().hex}"
        task = shell(f"sleep 1000 & setsid sleep 1000 & echo >{reached.path}; wait", env=dict([mark.split("=")]))
        mortal.start(task, [mortal.file_datum(b"x")])
        reached.wait()
        user = wait_for_processes(mark, 3)
        return user + processes_with(f"{mortal.scratch}")

    def test_kill_of_the_worker(self, mortal: WorkerHarness, tmp_path: Path) -> None:
        before = mounts()
        processes = self.begin(mortal, tmp_path)
        mortal.process.kill()
        wait_gone(processes)
        assert mounts() == before

    @pytest.mark.parametrize("which", [1, 2])
    def test_kill_of_each_of_its_processes(self, mortal: WorkerHarness, tmp_path: Path, which: int) -> None:
        processes = self.begin(mortal, tmp_path)
        own = [each for each in processes if b"paddock.runtime.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]
        assert len(own) == (3 if mortal.ready.sandbox == "namespaces" else 2)
        os.kill(sorted(own)[min(which, len(own) - 1)], signal.SIGKILL)
        wait_gone(processes)
        assert mortal.process.wait(GONE_SECONDS) == 128 + signal.SIGKILL
        assert list(mortal.scratch.iterdir()) == []

    def test_the_engine_is_gone(self, mortal: WorkerHarness, tmp_path: Path) -> None:
        processes = self.begin(mortal, tmp_path)
        mortal.close()
        wait_gone(processes)
        assert mortal.process.wait(GONE_SECONDS) == 0

    def test_stop(self, mortal: WorkerHarness, tmp_path: Path) -> None:
        processes = self.begin(mortal, tmp_path)
        mortal.send(Stop())
        wait_gone(processes)
        assert mortal.process.wait(GONE_SECONDS) == 0

    def test_signals_for_its_group_do_not_end_it(self, mortal: WorkerHarness, tmp_path: Path) -> None:
        processes = self.begin(mortal, tmp_path)
        mortal.process.send_signal(signal.SIGINT)
        mortal.process.terminate()
        assert isinstance(next(iter(_of_kind(mortal, Heartbeat))), Heartbeat)
        mortal.close()
        wait_gone(processes)

    @pytest.mark.parametrize("last", ["user code", "worker"])
    def test_sigterm_for_all_of_its_processes_gives_the_datum_back(
        self, mortal: WorkerHarness, tmp_path: Path, last: str
    ) -> None:
        reached = Signal(tmp_path)
        mark = f"MARK={uuid.uuid4().hex}"
        script = f"[ $(cat $in) = a ] || {{ echo >{reached.path}; sleep 1000; }}"
        task = shell(script, env=dict([mark.split("=")]), datum_tries=1)
        lease = mortal.start(
            task, [mortal.file_datum(each, f"/{number}") for number, each in enumerate((b"a", b"b", b"c"))]
        )
        reached.wait()
        user, own = wait_for_processes(mark, 2), processes_with(f"{mortal.scratch}")
        for process in [*own, *user] if last == "user code" else [*user, *own]:
            # The end of one may be the end of others.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        batch = mortal.finish(lease)
        assert [datum.state for datum in batch.datums] == [DatumState.SUCCESS]
        assert not batch.reports[-1].cancelled
        assert mortal.process.wait(GONE_SECONDS) == 0

    def test_a_command_that_outlives_sigterm_is_waited_for(self, mortal: WorkerHarness, tmp_path: Path) -> None:
        reached, released = Signal(tmp_path), Signal(tmp_path)
        script = f"trap '' TERM; echo >{reached.path}; read x <{released.path}; echo done >$PADDOCK_PFS/out/done"
        lease = mortal.start(shell(script), [mortal.file_datum(b"a"), mortal.file_datum(b"b", "/b")])
        reached.wait()
        for process in processes_with(f"{mortal.scratch}"):
            os.kill(process, signal.SIGTERM)
        released.path.write_text("go on\n")
        (datum,) = mortal.finish(lease).datums
        assert datum.files == {"/done": b"done\n"}
        assert mortal.process.wait(GONE_SECONDS) == 0


def _of_kind(worker: WorkerHarness, kind: type) -> Iterator[object]:
    while True:
        message = worker.receive()
        if isinstance(message, kind):
            yield message


def small_disk(folder: Path, size: str) -> list[str]:
    """A program that runs its arguments with a disk of `size` mounted at `folder`, for them alone."""
    folder.mkdir(parents=True)
    script = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)]


NO_SMALL_DISK = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode != 0


@pytest.mark.skipif(NO_SMALL_DISK, reason="this system forbids mounting a small disk for a test")
@pytest.mark.parametrize("sandbox", SANDBOXES)
class TestFullDisk:
    def test_scratch_is_full(self, tmp_path: Path, sandbox: str) -> None:
        prefix = small_disk(tmp_path / "w" / "scratch", "1m")
        with WorkerHarness(tmp_path / "w", sandbox=sandbox, prefix=prefix) as worker:
            large = worker.file_datum(os.urandom(2_000_000), "/large")
            ran, fine = worker.run(shell("true"), [large, worker.file_datum(b"x")]).datums
            assert (ran.state, ran.error_code, fine.state) == (DatumState.FAILED, "limit-exceeded", DatumState.SUCCESS)
            assert "the disk is full" in ran.reason
            script = "head -c 2000000 /dev/zero >$PADDOCK_PFS/out/x"
            ran = worker.run(shell(script, datum_tries=3), [worker.file_datum(b"x")]).datums[0]
            assert (ran.error_code, ran.tries) == ("limit-exceeded", 1)
            ran = worker.run(shell("ls -A $PADDOCK_PFS/out"), [worker.file_datum(b"x")]).datums[0]
            assert (ran.state, ran.log, ran.files) == (DatumState.SUCCESS, b"", {})

    def test_the_store_is_full(self, tmp_path: Path, sandbox: str) -> None:
        prefix = small_disk(tmp_path / "w" / "objects", "400k")
        with WorkerHarness(tmp_path / "w", sandbox=sandbox, prefix=prefix) as worker:
            datum = worker.datum(input_of("in", "/"))
            script = "head -c 2000000 /dev/urandom >$PADDOCK_PFS/out/x"
            last = worker.run(shell(script), [datum]).reports[-1]
            assert (last.final, last.batch, last.error_code) == (True, None, "limit-exceeded")
            assert "the disk is full" in last.error


NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
READING_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""Lets a user without any other privilege start a Python that is installed in root's own directory."""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an unprivileged user already")
@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_an_unprivileged_user(sandbox: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "objects").mkdir()
        for folder in (place, place / "objects"):
            os.chown(folder, NOBODY, NOBODY)
        with WorkerHarness(place, sandbox=sandbox, prefix=[*AS_NOBODY, *READING_ALL]) as worker:
            datums = [worker.file_datum(b"x", path) for path in ("/file", "/a/file")]
            for folder in (place / "objects").rglob("*/"):
                os.chown(folder, NOBODY, NOBODY)
            script = (
                'id -u; echo x >>"$in"; rm -rf "$PADDOCK_PFS/in"; cp "$in" $PADDOCK_PFS/out; chmod 0 $PADDOCK_PFS/out/*'
            )
            for ran in worker.run(shell(script), datums).datums:
                assert ran.files == {"/file": b"x"}
                assert ran.log.splitlines()[0] == str(NOBODY).encode()
            assert worker.drain() == 0
            assert list(worker.scratch.iterdir()) == []


NO_NAMESPACES = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    'echo 0 >/proc/sys/user/max_mnt_namespaces && exec "$@"',
    "sh",
]


@pytest.mark.skipif(NO_SMALL_DISK, reason="this system forbids user namespaces anyway, so every test is this one")
class TestForbiddenNamespaces:
    def test_auto_falls_back_and_says_why(self, tmp_path: Path) -> None:
        with WorkerHarness(tmp_path, sandbox="auto", prefix=NO_NAMESPACES) as worker:
            assert worker.ready.sandbox == "directory"
            assert worker.ready.reason.startswith("the system refuses to make mount and PID namespaces: ")
            ran = worker.run(shell('cp "$in" $PADDOCK_PFS/out; sleep 1000 &'), [worker.file_datum(b"x")]).datums[0]
            assert ran.files == {"/file": b"x"}

    def test_demanded_namespaces_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="the system refuses to make mount and PID namespaces"):
            WorkerHarness(tmp_path, sandbox="namespaces", prefix=NO_NAMESPACES)


def test_a_worker_imports_no_heavy_module() -> None:
    script = "import sys, paddock.runtime.worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True).stdout
    assert set(found.split()).isdisjoint(
        {"pyarrow", "numpy", "pydantic", "typer", "sqlite3", "fastapi", "rich", "yaml"}
    )
