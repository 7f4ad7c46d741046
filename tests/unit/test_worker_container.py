"""A worker whose commands run in a container beside it: another root with nothing but a busybox (or not even that), another
user, another PID namespace. The worker itself may do no more than that other user's neighbour."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from paddock.model.records import DatumState
from paddock.runtime.batch_results import NOT_STARTED
from paddock.runtime.commands import children_of
from paddock.runtime.protocol import Limit
from paddock.testing.containers import WITHOUT_POWER, Container, Place, busybox
from paddock.testing.workers import RanDatum, WorkerHarness, input_of, processes_with, shell

TOOLS = ("sh", "cat", "cp", "mkdir", "sleep", "id", "chmod", "ls", "ln", "dd", "mkfifo", "head", "test")
CONTENT = b"some content\n"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="containers are made as root")


@dataclass(slots=True)
class Pod:
    container: Container
    connection: socket.socket
    worker: WorkerHarness

    def run(self, script: str, **fields: object) -> RanDatum:
        return self.worker.run(shell(script, **fields), [self.worker.file_datum(CONTENT, "/a.txt")]).datums[0]


class Pods:
    """Makes pods below one folder, whose worker and container end with it."""

    def __init__(self, folder: Path, runner: Path) -> None:
        self._folder = folder
        self._runner = runner
        self._count = 0
        self.pods: list[Pod] = []

    def make(
        self,
        *,
        user: str = "1234:1234",
        tools: Sequence[str] = TOOLS,
        environment: Mapping[str, str] | None = None,
        memory_group: Path | None = None,
    ) -> Pod:
        self._count += 1
        folder = self._folder / str(self._count)
        container = Container(
            folder, self._runner, user=user, tools=tools, environment=environment, memory_group=memory_group
        )
        connection = container.connect()
        self.pods.append(Pod(container, connection, self.work(container, connection)))
        return self.pods[-1]

    def work(self, container: Container, connection: socket.socket) -> WorkerHarness:
        """A worker for a container."""
        self._count += 1
        options = [*container.place.worker_options(connection), "--grace-seconds", "0.2"]
        place = self._folder / f"worker-{self._count}"
        place.mkdir()
        return WorkerHarness(place, options=options, prefix=WITHOUT_POWER, pass_fds=[connection.fileno()])

    def close(self) -> None:
        for pod in self.pods:
            pod.worker.close()
            pod.connection.close()
            pod.container.kill()


@pytest.fixture(scope="module")
def pods(runner_program: Path) -> Iterator[Pods]:
    if busybox() is None:
        why = "there is no static busybox: apt-get install busybox-static"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    # Not pytest's own folder, which no other user can enter.
    folder = Path(tempfile.mkdtemp(prefix="paddock-pods-"))
    folder.chmod(0o755)
    made = Pods(folder, runner_program)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pod(pods: Pods) -> Iterator[Pod]:
    made = pods.make(environment={"OF_THE": "image", "PADDOCK_SERVICE_HOST": "10.0.0.1"})
    assert made.worker.ready.sandbox == "container"
    yield made
    assert made.worker.drain() == 0
    assert made.worker.close() == ""
    made.connection.close()
    assert made.container.wait() == 0
    assert [
        path.name for path in made.container.place.pfs.iterdir() if path.name not in ("in", ".env", "out", ".code")
    ] == []


def test_the_container_is_another_user_without_anything(pod: Pod) -> None:
    ran = pod.run("id; ls /bin; cat /pfs/in/a.txt; cat $in >/pfs/out/copy; chmod +x /pfs/out/copy")
    assert (ran.reason, ran.state) == ("", DatumState.SUCCESS)
    assert ran.files == {"/copy": CONTENT}
    assert ran.executable == {"/copy"}
    first, *names, last = ran.log.decode().splitlines()
    assert first == "uid=1234 gid=1234"
    assert set(names) == {"busybox", *TOOLS}
    assert f"{last}\n".encode() == CONTENT


def test_the_environment_is_that_of_the_image_and_paddocks(pod: Pod) -> None:
    ran = pod.run(
        'echo $OF_THE:$PADDOCK_SERVICE_HOST:$PPS_PIPELINE_NAME:$MORE:$HOME; [ "$in" = $PADDOCK_PFS/in/a.txt ]',
        env={"MORE": "of it"},
    )
    assert (ran.state, ran.log) == (DatumState.SUCCESS, b"image::test:of it:\n")


def test_inputs_cannot_be_written_and_stay_for_the_next_try(pod: Pod) -> None:
    ran = pod.run("echo x >$in || cat $in; echo x >/pfs/in/new || exit 5", datum_tries=2)
    assert (ran.state, ran.exit_code, ran.tries) == (DatumState.FAILED, 5, 2)
    assert ran.log.count(CONTENT) == 2
    assert b"Read-only file system" in ran.log


def test_outputs_are_kept_whatever_modes_they_have(pod: Pod) -> None:
    script = """
        umask 077; cd /pfs/out; mkdir -p d/e empty; echo 1 >d/e/f; ln -s $in link; ln -s d again
        chmod 000 d/e/f d/e; chmod 000 d
    """
    for _ in range(2):
        ran = pod.run(script)
        assert (ran.reason, ran.files) == ("", {"/again/e/f": b"1\n", "/d/e/f": b"1\n", "/link": CONTENT})
    assert list((pod.container.place.pfs / "out").iterdir()) == []
    refused = pod.run("mkfifo /pfs/out/pipe")
    assert "/out/pipe is a FIFO: only files" in refused.reason
    assert list((pod.container.place.pfs / "out").iterdir()) == []


def test_the_folder_of_outputs_may_be_closed_by_root(pods: Pods) -> None:
    pod = pods.make(user="0:0")
    out = pod.container.place.pfs / "out"
    os.chown(out, 4321, 4321)
    for script in ("cp $in /pfs/out/x; chmod -R 700 /pfs/out", "cp $in /pfs/out/x; chmod 755 /pfs/out"):
        for _ in range(2):
            ran = pod.run(script)
            assert (ran.reason, ran.files) == ("", {"/x": CONTENT})
            assert list(out.iterdir()) == []


def test_both_outputs_are_logged_and_can_be_opened_once_more(pod: Pod) -> None:
    ran = pod.run(
        "echo one; echo two >&2; echo three >/dev/stdout; echo four >/dev/stderr; cat /dev/stdin", stdin=("five",)
    )
    assert (ran.reason, ran.log) == ("", b"one\ntwo\nthree\nfour\nfive\n")


def test_much_output_is_cut_in_the_middle(pod: Pod) -> None:
    ran = pod.run("head -c 18000000 /dev/zero; echo end")
    assert (ran.state, ran.reason) == (DatumState.SUCCESS, "")
    assert 16 << 20 <= len(ran.log) < 17 << 20
    assert ran.log.endswith(b"end\n")


def test_failures_have_their_reasons(pod: Pod) -> None:
    assert pod.run("echo oh; exit 7").reason == "the command ended with exit code 7: oh"
    assert pod.run("exit 7", accept_return_code=(7,)).state is DatumState.SUCCESS
    assert pod.run("kill -9 $$").reason.startswith("the command was killed by SIGKILL (often for want of memory)")
    missing = pod.run("true", working_dir="/no/where")
    assert (missing.exit_code, missing.reason) == (
        NOT_STARTED,
        "the working directory /no/where cannot be entered: No such file or directory",
    )
    recovered = pod.run("exit 1", err_cmd=("/bin/sh", "-c", "cat", "-"), err_stdin=("mended",))
    assert recovered.state is DatumState.RECOVERED
    assert b"mended\n" in recovered.log


def test_a_datum_that_takes_too_long_is_stopped(pod: Pod) -> None:
    ran = pod.run("trap '' TERM; echo begun; sleep 600 & sleep 600; sleep 600", datum_timeout_seconds=0.2)
    assert (ran.state, ran.exit_code) == (DatumState.FAILED, -9)
    assert ran.reason == "the command was stopped after 0.2 s (datum_timeout)"


def test_nothing_outlives_its_datum(pod: Pod) -> None:
    ran = pod.run("(sleep 7654321 </dev/null >/dev/null 2>&1 &) ; sleep 7654321 & exit 0")
    assert ran.state is DatumState.SUCCESS
    assert processes_with("sleep\x007654321") == []


def test_limits_are_watched(pod: Pod) -> None:
    limits = (Limit("output", 100_000, "datum_limits.output"), Limit("scratch", 200_000, "datum_limits.scratch"))
    fill = "dd if=/dev/zero of=%s bs=1000 count=%d 2>/dev/null; %s"
    ran = pod.run(fill % ("$TMPDIR/x", 150, "cat $in >/pfs/out/x"), limits=limits)
    assert (ran.reason, ran.files) == ("", {"/x": CONTENT})
    assert "datum_limits.scratch" in pod.run(fill % ("$TMPDIR/x", 300, "sleep 600"), limits=limits).reason
    assert "datum_limits.output" in pod.run(fill % ("/pfs/out/x", 150, "true"), limits=limits).reason
    memory = (Limit("memory", 20 << 20, "datum_limits.memory"),)
    ran = pod.run("dd if=/dev/zero of=/dev/null bs=60M count=100000", limits=memory)
    assert ran.exit_code == -9
    assert ran.reason.endswith("more than its limit of 20 MiB (datum_limits.memory)")
    assert pod.run("true", limits=memory).state is DatumState.SUCCESS


WARM = """
while read line <&3; do
    id=${line#*\\"id\\":\\"}; id=${id%%\\"*}
    umask 077; mkdir -p /pfs/out/d; cat /pfs/in/* >/pfs/out/d/$id; echo done with $id
    echo '{"id": "'$id'", "ok": true}' >&4
done
"""


def test_a_warm_command_takes_many_datums(pod: Pod) -> None:
    datums = [pod.worker.file_datum(b"%d" % number, f"/{number}") for number in range(30)]
    ran = pod.worker.run(shell(WARM, warm=True), datums).datums
    assert {datum.reason for datum in ran} == {""}
    assert [datum.files for datum in ran] == [{f"/d/{datum.id}": b"%d" % number} for number, datum in enumerate(ran)]
    assert [datum.log for datum in ran] == [b"done with %s\n" % datum.id.encode() for datum in ran]
    died = pod.worker.run(shell("read line <&3; exit 3", warm=True), datums[:1]).datums[0]
    assert died.reason == "the warm command ended with exit code 3 before it answered and printed nothing"


def test_a_thousand_datums(pod: Pod) -> None:
    files = pod.worker.store_many({f"/{number}": b"%d" % number for number in range(1000)})
    datums = [pod.worker.datum(input_of("in", file.path, file)) for file in files]
    ran = pod.worker.run(shell('cat "$in" >"/pfs/out/$PADDOCK_DATUM_ID"'), datums).datums
    assert [datum.files for datum in ran] == [{f"/{datum.id}": b"%d" % number} for number, datum in enumerate(ran)]


def test_a_container_with_no_file_at_all_says_so(pods: Pods) -> None:
    pod = pods.make(tools=())
    ran = pod.run("true")
    assert ran.reason == "command '/bin/sh' cannot be run: No such file or directory; check its path and working_dir"


def test_a_user_of_the_container_runs_the_command(pods: Pods) -> None:
    pod = pods.make(user="0:0")
    etc = pod.container.root / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\nann:x:1500:1600:Ann:/home/ann:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nstaff:x:1700:bob,ann\nothers:x:1800:annie\n")
    for user, expected in (
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("ann", "uid=1500(ann) gid=1600 groups=1600,1700(staff)"),
        ("1500", "uid=1500(ann) gid=1600 groups=1600,1700(staff)"),
        ("ann:staff", "uid=1500(ann) gid=1700(staff) groups=1700(staff)"),
        ("77:88", "uid=77 gid=88 groups=88"),
    ):
        ran = pod.run("id; umask 077; cat $in >/pfs/out/x", user=user)
        assert (ran.reason, ran.files) == ("", {"/x": CONTENT})
        said = ran.log.decode().rstrip("\n")
        assert said.split()[:2] == expected.split()[:2]
        assert set(said.split("groups=")[-1].split(",")) - {"0(root)"} == set(
            expected.split("groups=")[-1].split(",")
        ) - {"0(root)"}
    unknown = pod.run("true", user="bob")
    assert unknown.reason.startswith("user 'bob' (transform.user) is not known in the container")


def test_without_root_there_is_no_other_user(pod: Pod) -> None:
    assert "the container has to run as root for that" in pod.run("true", user="77").reason
    assert pod.run("true", user="1234").state is DatumState.SUCCESS


def test_a_worker_that_dies_takes_its_commands_with_it_and_the_next_one_goes_on(pods: Pods) -> None:
    pod = pods.make()
    script = "mkdir -m 700 /pfs/out/x; echo left >/pfs/out/x/y; sleep 7654322 & sleep 7654322"
    pod.worker.start(shell(script), [pod.worker.file_datum(b"other", "/a.txt")])
    while len(processes_with("sleep\x007654322")) < 2:
        select.select([], [], [], 0.005)
    pod.worker.process.kill()
    pod.worker.process.wait()
    again = pods.work(pod.container, pod.connection)
    assert processes_with("sleep\x007654322") == []
    ran = again.run(shell("cat $in >/pfs/out/x"), [again.file_datum(CONTENT, "/a.txt")]).datums[0]
    assert ran.files == {"/x": CONTENT}
    again.close()
    pod.connection.close()
    assert pod.container.wait() == 0


def test_a_container_that_ends_gives_its_datum_back_once(pods: Pods) -> None:
    for alone in (False, True):
        pod = pods.make()
        datums = [pod.worker.file_datum(b"%d" % number, f"/{number}") for number in range(5)]
        script = 'read x <"$in"; [ $x != 2 ] || { echo >/pfs/out/begun; sleep 600; }'
        lease = pod.worker.start(shell(script), datums[2:] if alone else datums, alone=alone)
        while not (pod.container.place.pfs / "out" / "begun").exists():
            select.select([], [], [], 0.005)
        pod.container.kill()
        batch = pod.worker.finish(lease)
        if alone:
            assert [datum.state for datum in batch.datums] == [DatumState.FAILED]
            assert batch.datums[0].reason.startswith("the container of the command ended while it ran, and not for the")
            assert batch.reports[-1].starved == ()
        else:
            assert [datum.state for datum in batch.datums] == [DatumState.SUCCESS] * 2
            assert batch.reports[-1].starved == (2,)
        assert pod.worker.process.wait(20) == 0


def test_a_container_that_ends_while_nothing_runs_ends_the_worker(pods: Pods) -> None:
    pod = pods.make()
    assert pod.run("true").state is DatumState.SUCCESS
    pod.worker.await_claim()
    pod.container.kill()
    assert pod.worker.process.wait(20) == 0


def test_as_process_1_it_ends_at_sigterm_while_it_waits_for_a_container(tmp_path: Path) -> None:
    words = [
        "unshare",
        "--pid",
        "--fork",
        str(Path(sys.executable).with_name("paddock")),
        "--url",
        "http://127.0.0.1:1",
    ]
    words += ["worker", "--runner", str(tmp_path / "socket")]
    environment = {**os.environ, "PADDOCK_WORKER_TOKEN": "x"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        assert process.stderr.readline().decode().strip() == f"waiting for the runner at {tmp_path / 'socket'}"
        for worker in children_of(process.pid):
            os.kill(worker, signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_folder_that_is_not_shared_is_noticed(pods: Pods) -> None:
    pod = pods.make()
    pod.worker.close()
    pod.container.place = Place(pod.container.place.shared.parent / "other", pod.container.place.shared)
    pod.container.place.make()
    with pytest.raises(
        AssertionError, match=r"is another folder than this container's: mount one volume there in both"
    ):
        pods.work(pod.container, pod.connection)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    folder = Path(f"/sys/fs/cgroup/memory/paddock-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("memory cgroups of the first version can't be made here")
    (folder / "memory.limit_in_bytes").write_text(str(64 << 20))
    yield folder
    for _ in range(1000):
        try:
            folder.rmdir()
        except OSError:  # Its last process is about to be gone.
            select.select([], [], [], 0.01)
        else:
            break


def test_what_the_kernel_ends_for_want_of_memory_is_told_as_that(pods: Pods, memory_group: Path) -> None:
    pod = pods.make(memory_group=memory_group)
    ran = pod.run("dd if=/dev/zero of=/dev/null bs=500M count=1", datum_tries=3)
    assert (ran.state, ran.tries) == (DatumState.FAILED, 1)
    assert ran.reason == (
        "the command was ended by the kernel: it wanted more memory than the limit of 64 MiB of its container "
        "(resource_limits.memory)"
    )
    assert pod.run("true").state is DatumState.SUCCESS
    pod.worker.close()
    pod.container.kill()
