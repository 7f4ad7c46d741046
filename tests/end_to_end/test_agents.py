"""Workers on other hosts: real agents and a real server over loopback. Whatever ends in the middle, the output is the same."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.model.errors import InvalidInput, PermissionDenied, Unavailable
from paddock.model.records import Job, JobState
from paddock.model.services import Paddock
from paddock.testing.commands import CommandLine
from paddock.testing.containers import running_runner
from paddock.testing.servers import RunningServer, running_agent, running_server

FILES = 40
LIMIT_SECONDS = 180


@pytest.fixture
def server(home_path: Path) -> Iterator[RunningServer]:
    with running_server(home_path, workers=0) as started:
        yield started


@pytest.fixture
def remote(server: RunningServer) -> Iterator[Paddock]:
    with connect(url=server.url, environment={}) as opened:
        yield opened


def apply(paddock: Paddock, trace: Path, *, seconds: float) -> None:
    """A pipeline whose command notes each datum that it works on, and takes its time; and a commit for it."""
    paddock.repos.create("data")
    script = f"basename $data >> {trace}; sleep {seconds}; tr a-z A-Z < $data > /pfs/out/$(basename $data); echo did it"
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "upper"},
            "transform": {"cmd": ["sh", "-e", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 5},
        }
    )
    paddock.commits.start("data@main")
    for number in range(FILES):
        paddock.files.put(f"data@main:/f{number:03}", b"text %d\n" % number)
    paddock.commits.finish("data@main")


def finished(paddock: Paddock) -> Job:
    (job,) = paddock.jobs.wait(["upper@head"], timeout_seconds=LIMIT_SECONDS)
    assert job.finished is not None, f"the job did not end in {LIMIT_SECONDS} s"
    return job


def check_output(paddock: Paddock) -> None:
    files = {file.path: b"".join(paddock.files.read(f"upper:{file.path}")) for file in paddock.files.list("upper:/")}
    assert files == {f"/f{number:03}": b"TEXT %d\n" % number for number in range(FILES)}


def traced(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


def wait_for_traces(trace: Path, count: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(traced(trace)) < count:
        assert time.monotonic() < deadline, "the agents do not work"
        trace.parent.stat()


def test_agents_do_the_work_of_a_server_that_has_none_of_its_own(
    server: RunningServer, remote: Paddock, tmp_path: Path
) -> None:
    token = remote.pools.create_token("default").secret
    apply(remote, tmp_path / "trace", seconds=0.0)
    with running_agent(server.url, token, tmp_path), running_agent(server.url, token, tmp_path, slots=2):
        job = finished(remote)
    assert (job.state, job.datums.run, job.datums.failed) == (JobState.SUCCESS, FILES, 0)
    check_output(remote)
    # One that was taken over by an idle worker may have run twice, and counts once.
    assert set(traced(tmp_path / "trace")) == {f"f{number:03}" for number in range(FILES)}
    assert len(list(remote.jobs.logs("upper@head"))) == FILES


def test_an_agent_beside_a_runner_runs_commands_through_it_and_fails_with_it(
    server: RunningServer, remote: Paddock, runner_program: Path, tmp_path: Path
) -> None:
    token = remote.pools.create_token("default").secret
    remote.repos.create("data")
    script = 'cp $data "$PADDOCK_PFS/out/"; cat /proc/$PPID/cmdline | tr "\\0" " " > "$PADDOCK_PFS/out/parent"'
    document = {
        "pipeline": {"name": "upper"},
        "transform": {"cmd": ["sh", "-e", "-c", script]},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
    }
    remote.pipelines.apply(document)
    remote.files.put("data@main:/f", b"text")
    with running_runner(runner_program, tmp_path / "pod") as place:
        options = ["--runner", str(place.socket_path), "--pfs", str(place.pfs)]
        with running_agent(server.url, token, tmp_path, options=options) as agent:
            job = finished(remote)
            assert (job.state, job.reason) == (JobState.SUCCESS, "")
            parent = b"".join(remote.files.read("upper:/parent")).split()
            assert parent == [bytes(runner_program), bytes(place.socket_path)]
            place.kill()
            assert agent.wait(LIMIT_SECONDS) == Unavailable.exit_code


@pytest.mark.slow
def test_an_agent_that_is_killed_loses_nothing_and_doubles_nothing(
    server: RunningServer, remote: Paddock, tmp_path: Path
) -> None:
    token = remote.pools.create_token("default").secret
    apply(remote, tmp_path / "trace", seconds=0.1)
    with running_agent(server.url, token, tmp_path) as mortal, running_agent(server.url, token, tmp_path):
        wait_for_traces(tmp_path / "trace", 6)
        mortal.kill()
        job = finished(remote)
    assert (job.state, job.datums.run) == (JobState.SUCCESS, FILES)
    check_output(remote)


def test_sigterm_ends_an_agent_after_its_datum_and_the_rest_goes_to_others(
    server: RunningServer, remote: Paddock, tmp_path: Path
) -> None:
    token = remote.pools.create_token("default").secret
    apply(remote, tmp_path / "trace", seconds=0.1)
    with running_agent(server.url, token, tmp_path) as leaving:
        wait_for_traces(tmp_path / "trace", 2)
        leaving.send_signal(signal.SIGTERM)
        assert leaving.wait(LIMIT_SECONDS) == 0
    done = traced(tmp_path / "trace")
    assert 2 <= len(done) < FILES
    with running_agent(server.url, token, tmp_path):
        job = finished(remote)
    assert (job.state, job.datums.run) == (JobState.SUCCESS, FILES)
    check_output(remote)
    # What it was at was finished and reported, so nobody ran it again.
    assert sorted(traced(tmp_path / "trace")) == sorted(f"f{number:03}" for number in range(FILES))


def test_an_agent_goes_on_with_the_server_that_comes_after(home_path: Path, tmp_path: Path) -> None:
    with running_server(home_path, workers=0) as first, connect(url=first.url, environment={}) as remote:
        token = remote.pools.create_token("default").secret
        apply(remote, tmp_path / "trace", seconds=0.1)
        with running_agent(first.url, token, tmp_path):
            wait_for_traces(tmp_path / "trace", 6)
            first.process.kill()
            first.process.wait()
            port = int(first.url.rpartition(":")[2])
            with running_server(home_path, workers=0, port=port):
                job = finished(remote)
                check_output(remote)
    assert (job.state, job.datums.run + job.datums.reused) == (JobState.SUCCESS, FILES)


def test_a_patient_agent_waits_for_a_server(home_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with connect(home_path, environment={}) as paddock:
        token = paddock.pools.create_token("default").secret
    with running_server(home_path, workers=0) as first:
        url, port = first.url, int(first.url.rpartition(":")[2])
    with (
        running_agent(url, token, tmp_path, options=["--patience", "10m"]),
        running_server(home_path, workers=0, port=port),
        connect(url=url, environment={}) as remote,
    ):
        apply(remote, tmp_path / "trace", seconds=0.0)
        assert finished(remote).state == JobState.SUCCESS
    command = CommandLine(("--url", url), capfd.readouterr)
    ran = command("worker", "--token-file", next(tmp_path.glob("token-*")), "--patience", "soon")
    assert ran.code == InvalidInput.exit_code
    assert "--patience: 'soon' is not a duration" in ran.errors


def test_a_token_is_good_for_its_pool_alone(server: RunningServer, remote: Paddock, tmp_path: Path) -> None:
    remote.repos.create("data")
    for name, pool in (("near", "default"), ("far", "lab")):
        spec = {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-c", "cp $data /pfs/out/"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "pool": pool,
        }
        remote.pipelines.apply(spec)
    remote.files.put("data@main:/a", b"a")
    with running_agent(server.url, remote.pools.create_token("lab").secret, tmp_path):
        (far,) = remote.jobs.wait(["far@head"], timeout_seconds=LIMIT_SECONDS)
        assert far.state == JobState.SUCCESS
        assert remote.jobs.inspect("near@head").state == JobState.RUNNING
    with running_agent(server.url, remote.pools.create_token("default").secret, tmp_path):
        (near,) = remote.jobs.wait(["near@head"], timeout_seconds=LIMIT_SECONDS)
        assert near.state == JobState.SUCCESS


def test_a_worker_without_a_valid_token_is_refused_and_told_why(
    server: RunningServer, remote: Paddock, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = remote.pools.create_token("default")
    remote.pools.delete_token(token.token.id)
    assert remote.pools.list_tokens() == ()
    (tmp_path / "token").write_text(token.secret)
    command = CommandLine(("--url", server.url), capfd.readouterr)
    ran = command("worker", "--token-file", tmp_path / "token")
    assert ran.code == PermissionDenied.exit_code
    assert "paddock pool token POOL" in ran.errors
    assert command("worker", "--token-file", tmp_path / "missing").code != 0


def test_scratch_may_be_named_from_where_one_is(
    server: RunningServer, remote: Paddock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    token = remote.pools.create_token("default").secret
    remote.repos.create("numbers")
    spec = {"pipeline": {"name": "same"}, "transform": {"cmd": ["sh", "-c", "cp $numbers /pfs/out/"]}}
    remote.pipelines.apply({**spec, "input": {"pfs": {"repo": "numbers", "glob": "/*"}}})
    remote.files.put("numbers@main:/a", b"1")
    with running_agent(server.url, token, tmp_path, options=["--scratch", "here"]):
        (job,) = remote.jobs.wait(["same@head"], timeout_seconds=60)
    assert job.state is JobState.SUCCESS


def test_a_worker_that_could_not_run_a_datum_does_not_join(
    server: RunningServer, remote: Paddock, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = remote.pools.create_token("default").secret
    for options, code, said in (
        (["--scratch", str(tmp_path / "missing")], 3, "name a folder to write to with --scratch"),
        (["--direct"], 3, "leave --direct out"),
    ):
        with running_agent(server.url, token, tmp_path, options=options) as agent:
            assert agent.wait(60) == code
        assert said in capfd.readouterr().err


def test_a_worker_that_dies_while_it_sends_leaves_no_traceback(
    home_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_server(home_path, workers=0) as server:
        with connect(url=server.url, environment={}) as remote:
            token = remote.pools.create_token("default").secret
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as worker:
            worker.sendall(
                f"PUT /api/v1/objects/packs/00/{'0' * 32} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert worker.recv(100).startswith(b"HTTP/1.1 100")
    assert "Traceback" not in capfd.readouterr().err
