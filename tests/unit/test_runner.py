"""The runner by its protocol: a plain process here, spoken to as a worker would, and as no worker ever would."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput, Unavailable
from paddock.runtime.commands import CannotStart, Ended, Running, Workplace
from paddock.runtime.runner_commands import RunnerCommands
from paddock.runtime.runner_link import (
    Kind,
    Ready,
    RunnerGoneError,
    RunnerLink,
    connect_runner,
    error_of,
    has_ended,
    ready_of,
    reset_body,
    start_body,
)
from paddock.testing.workers import processes_with

ENVIRONMENT = {b"PATH": b"/bin:/usr/bin"}
HERE = Workplace("/")


@dataclass(slots=True)
class Started:
    process: subprocess.Popen[bytes]
    socket_path: Path
    pfs: Path
    connection: socket.socket

    def commands(self) -> RunnerCommands:
        return RunnerCommands(self.connection, self.pfs, self.pfs.parent)


@pytest.fixture
def runner(runner_program: Path, tmp_path: Path) -> Iterator[Started]:
    pfs = tmp_path / "pfs"
    (pfs / "out").mkdir(parents=True)
    (pfs / "out").chmod(0o777)
    path = tmp_path / "socket"
    process = subprocess.Popen([runner_program, path], env={"OF_THE": "image"}, cwd="/usr")
    try:
        with connect_runner(path, wait_seconds=20) as connection:
            yield Started(process, path, pfs, connection)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def reset(connection: socket.socket, folder: Path, mark: str = "out") -> Ready:
    link = RunnerLink(connection)
    link.send(Kind.RESET, 77, reset_body(str(folder), mark, str(folder)))
    while ((answer := link.receive()).kind, answer.id) != (Kind.READY, 77):
        pass
    return ready_of(answer.body)


def complaint(connection: socket.socket) -> str:
    answer = RunnerLink(connection).receive()
    assert answer.kind == Kind.ERROR
    return error_of(answer.body)


def run(commands: RunnerCommands, *words: str, place: Workplace = HERE) -> tuple[Ended, bytes]:
    """Run a command to its end: how it ended, and what it printed."""
    null = os.open("/dev/null", os.O_RDONLY)
    output, end = os.pipe()
    running = commands.start(words, ENVIRONMENT, place, (null, end, end))
    assert not isinstance(running, CannotStart), running
    os.close(end)
    os.close(null)
    with os.fdopen(output, "rb") as file:
        printed = file.read()
    return wait(running), printed


def wait(running: Running) -> Ended:
    while (ended := running.ended()) is None:
        select.select([running.poll_fd], [], [])
    return ended


def start(commands: RunnerCommands, *words: str) -> Running:
    with Path("/dev/null").open("rb+", buffering=0) as null:
        running = commands.start(words, ENVIRONMENT, HERE, (null.fileno(),) * 3)
    assert not isinstance(running, CannotStart), running
    return running


def test_it_says_what_its_container_is_like(runner: Started) -> None:
    ready = reset(runner.connection, runner.pfs)
    assert (ready.version, ready.uid, ready.gid) == (1, os.getuid(), os.getgid())
    assert (ready.cwd, ready.environment) == ("/usr", {b"OF_THE": b"image"})
    assert (ready.marked, ready.writable, ready.out_writable) == (True, True, True)
    elsewhere = reset(runner.connection, runner.pfs / "none", "mark")
    assert (elsewhere.marked, elsewhere.writable, elsewhere.out_writable) == (False, False, False)


def test_a_command_gets_its_words_environment_folder_and_descriptors(runner: Started) -> None:
    script = 'echo "$0:$1:$FIRST:$PWD"; cat; echo to the end >&2; exit 3'
    read, write = os.pipe()
    output, end = os.pipe()
    os.write(write, b"input\n")
    os.close(write)
    commands = runner.commands()
    variables = {**ENVIRONMENT, b"FIRST": b"1\n2"}
    running = commands.start(("sh", "-c", script, "a b", ""), variables, Workplace("/usr/lib"), (read, end, end))
    assert not isinstance(running, CannotStart)
    os.close(end)
    os.close(read)
    with os.fdopen(output, "rb") as file:
        assert file.read() == b"a b::1\n2:/usr/lib\ninput\nto the end\n"
    assert wait(running) == Ended(3)


def test_requests_and_answers_of_any_size_arrive(runner: Started) -> None:
    words = [str(number) * 20 for number in range(20_000)]
    commands = runner.commands()
    assert run(commands, "sh", "-c", "echo $#", "sh", *words) == (Ended(0), b"20000\n")
    refused = commands.start(["true", "x" * (17 << 20)], ENVIRONMENT, HERE, (0, 1, 2))
    assert isinstance(refused, CannotStart)
    assert "is longer than the 16777216 that a runner takes" in refused.reason
    too_long = commands.start(["true", "x" * (3 << 20)], ENVIRONMENT, HERE, (0, 1, 2))
    assert isinstance(too_long, CannotStart)
    assert too_long.reason.endswith("its words and environment are longer than the system allows")


def test_an_environment_of_any_size_arrives(runner_program: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    large = {f"LARGE_{number}": "x" * 50_000 for number in range(20)}
    with subprocess.Popen([runner_program, tmp_path / "socket"], env=large) as process:
        with connect_runner(tmp_path / "socket", wait_seconds=20) as connection:
            found = reset(connection, tmp_path).environment
        assert process.wait(20) == 0
    assert found == {name.encode(): value.encode() for name, value in large.items()}


@pytest.mark.parametrize(
    ("words", "place", "reason"),
    [
        (
            ["no-such"],
            HERE,
            "command 'no-such' is not found in PATH (/bin:/usr/bin): install it or write its whole path",
        ),
        ([""], HERE, "the command is empty; give cmd at least one word"),
        ([], HERE, "the command is empty; give cmd at least one word"),
        (
            ["/no/such"],
            HERE,
            "command '/no/such' cannot be run: No such file or directory; check its path and working_dir",
        ),
        (["/usr"], HERE, "command '/usr' is a directory, not a program"),
        (["/etc/passwd"], HERE, "command '/etc/passwd' is not executable: chmod +x it"),
        (
            ["true"],
            Workplace("/no/where"),
            "the working directory /no/where cannot be entered: No such file or directory",
        ),
        (
            ["true"],
            Workplace("/", "nobody-knows"),
            "user 'nobody-knows' (transform.user) is not known in the container",
        ),
        (["a\0b"], HERE, "command 'a\\x00b' cannot be passed to the system: embedded null byte"),
    ],
)
def test_what_cannot_be_started_is_explained(
    runner: Started, words: Sequence[str], place: Workplace, reason: str
) -> None:
    refused = runner.commands().start(words, ENVIRONMENT, place, (0, 1, 2))
    assert isinstance(refused, CannotStart)
    assert not refused.lost
    assert refused.reason.startswith(reason)


def test_scripts_that_cannot_be_started_are_explained(runner: Started, tmp_path: Path) -> None:
    commands = runner.commands()
    for text, reason in (
        ("#! /no/python -u\n", "exists, but its interpreter '/no/python' does not: mend its first line"),
        ("no program\n", "is not a program of this machine: a script needs a first line such as #!/bin/sh"),
    ):
        script = tmp_path / "script"
        script.write_text(text)
        script.chmod(0o755)
        for words, place in ((["./script"], Workplace(str(tmp_path))), ([str(script)], HERE)):
            refused = commands.start(words, ENVIRONMENT, place, (0, 1, 2))
            assert isinstance(refused, CannotStart)
            assert refused.reason == f"command {words[0]!r} {reason}"
    script.chmod(0o644)
    refused = commands.start(["script"], {b"PATH": os.fsencode(tmp_path)}, HERE, (0, 1, 2))
    assert isinstance(refused, CannotStart)
    assert refused.reason == f"command 'script' is {script}, which is not executable: chmod +x it"
    # A directory or a file without the right does not hide a program further on.
    assert run(commands, "true")[0] == Ended(0)


def test_nothing_that_a_command_started_outlives_it(runner: Started) -> None:
    commands = runner.commands()
    marker = f"sleep {random.randrange(10**6, 10**7)}"
    ended, printed = run(
        commands, "sh", "-c", f"(setsid {marker} >/dev/null 2>&1 & {marker} >/dev/null 2>&1 &); exit 4"
    )
    assert (ended, printed) == (Ended(4), b"")
    assert processes_with(marker.replace(" ", "\0")) == []
    deaf = runner.pfs / "deaf"
    running = start(commands, "sh", "-c", f"trap '' TERM; mkfifo {deaf}; {marker} & echo >{deaf}; wait; sleep 60")
    while not deaf.exists():
        select.select([], [], [], 0.005)
    assert deaf.read_bytes() == b"\n"
    running.signal(signal.SIGTERM)
    assert running.end() == Ended(-signal.SIGKILL)
    assert processes_with(marker.replace(" ", "\0")) == []
    running = start(commands, "sleep", "60")
    running.signal(signal.SIGTERM)
    assert wait(running) == Ended(-signal.SIGTERM)


def test_another_worker_takes_over_and_everything_ends_with_the_last(runner: Started) -> None:
    first = runner.commands()
    marker = random.randrange(10**6, 10**7)
    start(first, "sleep", str(marker))
    assert len(processes_with(f"sleep\0{marker}")) == 1
    second = runner.commands()
    assert processes_with(f"sleep\0{marker}") == []
    assert run(second, "sh", "-c", "echo there") == (Ended(0), b"there\n")
    start(second, "sleep", str(marker))
    assert not has_ended(runner.connection)
    runner.connection.close()
    assert runner.process.wait(20) == 0
    assert processes_with(f"sleep\0{marker}") == []
    assert not runner.socket_path.exists()


def test_one_command_runs_at_a_time(runner: Started) -> None:
    commands = runner.commands()
    running = start(commands, "sleep", "60")
    refused = commands.start(["true"], ENVIRONMENT, HERE, (0, 1, 2))
    assert isinstance(refused, CannotStart)
    assert refused.reason.endswith("Device or resource busy")
    running.end()


def test_what_a_command_leaves_is_opened_up(runner: Started) -> None:
    out = runner.pfs / "out"
    script = f"""
        cd {out}; umask 077; mkdir -p a/b/c; echo 1 >a/b/c/file; echo 2 >program; chmod 0700 program
        ln -s /etc/shadow link; mkdir sticky; chmod 1755 sticky; d=deep; mkdir $d
        for i in $(seq 1 300); do d=$d/deep; done; mkdir -p $d; echo 3 >$d/file
        chmod 000 a/b/c/file a/b/c a/b a
    """
    before = Path("/etc/shadow").stat().st_mode
    commands = runner.commands()
    assert run(commands, "sh", "-ec", script) == (Ended(0), b"")
    commands.settle_out()
    assert Path("/etc/shadow").stat().st_mode == before
    modes = {path: path.lstat().st_mode & 0o7777 for path in out.rglob("*") if not path.is_symlink()}
    folders = {mode for path, mode in modes.items() if path.is_dir()}
    assert folders == {0o777}
    assert modes[out / "a/b/c/file"] == 0o444
    assert modes[out / "program"] == 0o744
    assert sum(path.name == "file" for path in modes) == 2


def test_memory_of_all_that_runs_is_told(runner: Started) -> None:
    commands = runner.commands()
    assert commands.memory_bytes() == 0
    running = start(commands, "sh", "-c", "sleep 60 & sleep 60 & wait")
    assert 100_000 < commands.memory_bytes() < 100 << 20
    assert commands.memory_bytes(enough=1 << 40) >= commands.memory_bytes()
    running.end()


def test_it_stays_at_sigterm_while_a_worker_is_there(runner: Started) -> None:
    runner.process.send_signal(signal.SIGTERM)
    assert run(runner.commands(), "sh", "-c", "echo there") == (Ended(0), b"there\n")


def test_without_a_worker_it_ends_at_sigterm(runner_program: Path, tmp_path: Path) -> None:
    with subprocess.Popen([runner_program, tmp_path / "socket"]) as process:
        while not (tmp_path / "socket").exists():
            select.select([], [], [], 0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not (tmp_path / "socket").exists()


def test_its_end_is_noticed_wherever_it_is_waited_for(runner: Started) -> None:
    commands = runner.commands()
    running = start(commands, "sleep", "60")
    runner.process.kill()
    assert wait(running).lost
    assert running.end().lost
    assert has_ended(runner.connection)
    refused = commands.start(["true"], ENVIRONMENT, HERE, (0, 1, 2))
    assert isinstance(refused, CannotStart)
    assert refused.lost
    assert commands.memory_bytes() == 0
    commands.settle_out()
    with pytest.raises(RunnerGoneError):
        runner.commands()
    runner.process.wait()
    runner.process.returncode = 0  # As expected here.


def test_what_is_no_runner_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is no socket; give the one at which a runner listens"):
        connect_runner(tmp_path / "file")
    with pytest.raises(InvalidInput, match="no runner can be reached at"):
        connect_runner(tmp_path / "file" / "socket")
    with pytest.raises(Unavailable, match="see how the user's container fares"):
        connect_runner(tmp_path / "none", wait_seconds=0)


def test_it_installs_itself(runner_program: Path, tmp_path: Path) -> None:
    subprocess.run([runner_program, "--install", tmp_path / "copy"], check=True)
    said = subprocess.run([tmp_path / "copy", "--version"], check=True, capture_output=True)
    assert said.stdout == b"paddock runner, protocol 1\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "copy"]
    for _ in ("made", "there already"):
        subprocess.run([runner_program, "--install", tmp_path / "copy", tmp_path / "out"], check=True, umask=0o77)
        assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o777
    for words in ([], ["--other"], ["--install"], ["--init"], ["a", "b"]):
        assert subprocess.run([runner_program, *words], capture_output=True, check=False).returncode == 2
    failed = subprocess.run([runner_program, tmp_path / "no" / "socket"], capture_output=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.endswith(b"/no/socket: No such file or directory\n")


def test_as_process_1_it_passes_signals_on_and_tells_how_the_program_ended(runner_program: Path) -> None:
    def run(script: str, number: signal.Signals | None = None) -> int:
        words = [runner_program, "--init", "sh", "-c", script]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if number is not None:
                process.send_signal(number)
            return process.wait(20)

    assert run("echo ready; exit 7") == 7
    assert run("echo ready; kill -9 $$") == 128 + 9
    assert run("echo ready; exec sleep 20", signal.SIGTERM) == 0, "it was told to end, and did"
    assert run("trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done", signal.SIGTERM) == 3
    failed = subprocess.run([runner_program, "--init", "/no/program"], capture_output=True, check=False)
    assert (failed.returncode, failed.stderr) == (
        127,
        b"paddock runner: can't start /no/program: No such file or directory\n",
    )


def test_nonsense_is_answered_and_harms_nothing(runner: Started) -> None:
    connection = runner.connection
    good = start_body(umask=0, cwd=b"/", user=b"", words=[b"true"], environment=[b"A=1"])

    def message(kind: int, body: bytes = b"") -> bytes:
        return struct.pack("<II", kind, 1) + body

    with Path("/dev/null").open("rb+", buffering=0) as null:
        fd = null.fileno()
        for data, descriptors, expected in (
            (b"short", [], "a message is shorter than its header"),
            (message(99), [], "no such request"),
            (message(Kind.RESET, b"/a\0/b\0/c"), [], "a reset needs the absolute paths of two folders, and a mark"),
            (message(Kind.RESET, b"/a\0b\0c\0"), [], "a reset needs the absolute paths of two folders, and a mark"),
            (message(Kind.START), [fd] * 3, "a start is cut off, or its counts are wrong"),
            (message(Kind.START, good[:-1]), [fd] * 3, "a start is cut off, or its counts are wrong"),
            (
                message(Kind.START, struct.pack("<III", 0, 2**32 - 1, 2**32 - 1) + good[12:]),
                [fd] * 3,
                "a start is cut off",
            ),
            (message(Kind.START, good), [fd] * 2, "a start needs three descriptors"),
            (message(Kind.START, good), [fd] * 20, "a message is too long, or has too many descriptors"),
            (message(Kind.START, bytes(100_000)), [], "a message is too long, or has too many descriptors"),
            (message(Kind.START | 1 << 31), [], "a body in a file came without the file"),
            (message(Kind.START | 1 << 31), [fd], "the file of a body is empty, too large, or no file"),
        ):
            socket.send_fds(connection, [data], descriptors)
            assert complaint(connection).startswith(expected)
    chance = random.Random(1)
    for _ in range(3000):
        kind = chance.choice([*range(2, 8), 1 << 31, (1 << 31) + Kind.START])
        size = chance.choice([0, 3, 12, 40, 300])
        body = bytes(chance.choices([0, 1, 2, 3, 255], k=size)) + chance.choice([b"", good[12:]])
        fds = [0] * chance.randrange(4) if kind not in (Kind.START, Kind.START | 1 << 31) else []
        socket.send_fds(connection, [struct.pack("<II", kind, chance.randrange(3)) + body], fds)
        with suppress(BlockingIOError):
            while connection.recv(1 << 17, socket.MSG_DONTWAIT):
                pass
    assert reset(connection, runner.pfs).marked
    assert run(runner.commands(), "sh", "-c", "echo there") == (Ended(0), b"there\n")
    descriptors = list(Path(f"/proc/{runner.process.pid}/fd").iterdir())
    assert len(descriptors) < 20
