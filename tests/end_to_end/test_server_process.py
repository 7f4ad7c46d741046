"""`paddock up` as a process: what speaks plain HTTP to it, and how it starts and stops."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.testing.commands import CommandLine
from paddock.testing.servers import RunningServer, running_server

API = "/api/v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url) as client:
        assert client.post(f"{API}/repos", json={"repo": "data"}).status_code == 201
        yield client


COMMIT = f"{API}/repos/default/data/commits/main"


def tar_of(entries: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = kind
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_it_describes_itself(http: httpx2.Client) -> None:
    described = http.get("/openapi.json").json()
    assert described["info"]["title"] == "Paddock"
    assert (
        f"{COMMIT.replace('default/data', '{project}/{repo}').replace('main', '{ref}')}/content" in described["paths"]
    )
    assert "ProblemDocument" in described["components"]["schemas"]
    assert http.get("/docs").status_code == 200
    assert http.get(f"{API}/version").json().keys() == {"version"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{API}/repos/default/none", 404, "not-found"),
        ("GET", f"{API}/nothing/here", 404, "not-found"),
        ("DELETE", f"{API}/version", 405, "invalid-input"),
        ("GET", f"{API}/jobs?limit=0", 422, "invalid-input"),
        ("GET", f"{COMMIT}/content?path=/none", 404, "not-found"),
        ("GET", f"{COMMIT}/files?path=/a/../b", 422, "invalid-input"),
        ("GET", f"{COMMIT}/archive?path=/none", 404, "not-found"),
        ("PUT", f"{COMMIT}/archive?path=/a/../b", 422, "invalid-input"),
        ("POST", f"{API}/pipelines", 422, "invalid-input"),
    ],
)
def test_failures_are_problem_documents(http: httpx2.Client, method: str, path: str, status: int, code: str) -> None:
    answer = http.request(method, path)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"]


def test_every_fault_of_a_spec_is_listed(http: httpx2.Client) -> None:
    spec = {"pipeline": {"name": "p"}, "transform": {"cmd": []}, "input": {"pfs": {"repo": "data"}}}
    problem = http.post(f"{API}/pipelines", json=spec).json()
    assert {item["place"] for item in problem["problems"]} >= {"transform.cmd", "input.pfs.glob"}
    assert http.post(f"{API}/pipelines", json=[1]).json()["code"] == "invalid-input"


def test_listings_are_lines_of_json(http: httpx2.Client) -> None:
    assert http.put(f"{COMMIT}/content", params={"path": "/lines/a b"}, content=b"1").status_code == 200
    answer = http.get(f"{COMMIT}/files", params={"path": "/lines"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["path"] for line in answer.text.splitlines()] == ["/lines/a b"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not a tar stream", "no archive"),
        (tar_of({"top/file": b"1" * 2000})[:1200], "torn"),
        (tar_of({"top/../../escape": b"1"}), ".."),
        (tar_of({"/etc/passwd": b"1"}), "from the root"),
        (tar_of({"top/link": b""}, kind=tarfile.SYMTYPE), "symbolic link"),
        (tar_of({"top/pipe": b""}, kind=tarfile.FIFOTYPE), "named pipe"),
        (tar_of({"top/a": b"1"})[:1024] + tar_of({"top/a/b": b"2"}), "file and a directory"),
        (tar_of({"top/a": b"1"})[:1024] + tar_of({"top/a": b"2"}), "twice"),
    ],
)
def test_bad_archives_change_nothing(http: httpx2.Client, body: bytes, said: str) -> None:
    before = http.get(f"{API}/repos/default/data/commits").json()
    answer = http.put(f"{COMMIT}/archive", content=body)
    assert answer.status_code in (409, 422)
    assert said in answer.text
    assert http.get(f"{API}/repos/default/data/commits").json() == before


def test_archives_go_in_and_out(http: httpx2.Client) -> None:
    report = http.put(f"{COMMIT}/archive", params={"path": "/tars"}, content=tar_of({"./a": b"1", "b/c": b"22"}))
    assert (report.json()["files"], report.json()["bytes"]) == (2, 3)
    answer = http.get(f"{COMMIT}/archive", params={"path": "/tars", "format": "zip"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a": b"1", "b/c": b"22"}
    assert http.get(f"{COMMIT}/archive", params={"format": "rar"}).status_code == 422


def test_a_refusal_reaches_who_still_sends(http: httpx2.Client) -> None:
    body = (b"no archive" * 100_000 for _ in range(64))
    answer = http.put(f"{COMMIT}/archive", content=body)
    assert answer.json()["code"] == "invalid-input"


def test_web_pages_and_foreign_names_are_refused(http: httpx2.Client, server: RunningServer) -> None:
    for headers in ({"Origin": "https://example.com"}, {"Host": "example.com"}):
        answer = http.get(f"{API}/repos", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission-denied")
    assert http.get(f"{API}/repos", headers={"Origin": server.url}).status_code == 200


def peak_bytes(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_large_bodies_pass_in_constant_memory(http: httpx2.Client, server: RunningServer) -> None:
    http.put(f"{COMMIT}/content", params={"path": "/warm"}, content=os.urandom(8 << 20))
    before = peak_bytes(server.process)
    pieces = 192
    piece = os.urandom(1 << 20)
    body = (number.to_bytes(8, "big") + piece[8:] for number in range(pieces))
    report = http.put(f"{COMMIT}/content", params={"path": "/large"}, content=body, timeout=60).json()
    assert report["bytes"] == pieces << 20
    size = 0
    with http.stream("GET", f"{COMMIT}/content", params={"path": "/large"}) as answer:
        for part in answer.iter_bytes():
            size += len(part)
    assert size == pieces << 20
    assert peak_bytes(server.process) - before < 128 << 20


def test_jobs_run_in_the_server_and_it_stops_in_order(tmp_path: Path) -> None:
    with running_server(tmp_path / "home") as server, connect(url=server.url, environment={}) as paddock:
        apply_slow_and_quick(paddock)
        (quick,) = paddock.jobs.wait(["quick@head"])
        assert quick.state == "success"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    with connect(tmp_path / "home", environment={}) as embedded:
        embedded.jobs.stop("slow@head")
        assert embedded.jobs.inspect("quick@head") == quick


def apply_slow_and_quick(paddock: Paddock) -> None:
    paddock.repos.create("data")
    paddock.files.put("data@main:/a", b"1")
    for name, script in (("quick", "true"), ("slow", "sleep 600")):
        paddock.pipelines.apply(
            {
                "pipeline": {"name": name},
                "transform": {"cmd": ["sh", "-c", script]},
                "input": {"pfs": {"repo": "data", "glob": "/*"}},
                "parallelism_spec": {"constant": 1},
            }
        )


def test_the_command_works_the_same_against_a_server(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    cli = CommandLine(("--url", server.url), lambda: (lambda read: (read.out, read.err))(capsys.readouterr()))
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a").write_text("1\n")
    (tmp_path / "in" / "sub" / "b").write_text("2\n")
    (tmp_path / "spec.yaml").write_text(
        "pipeline: {name: swap}\ntransform: {cmd: [sh, -c, 'cp -r /pfs/numbers/* /pfs/out/']}\n"
        "input: {pfs: {repo: numbers, glob: /*}}\n"
    )
    words = ("run", "spec.yaml", "--input", "numbers=in", "--output", "swap=out")
    assert cli.json(*words)["jobs"][0]["datums"]["run"] == 2
    assert (tmp_path / "out" / "sub" / "b").read_text() == "2\n"
    (tmp_path / "in" / "a").unlink()
    assert cli.json(*words)["jobs"][0]["datums"] == {"total": 1, "run": 0, "reused": 1, "recovered": 0, "failed": 0}
    assert not (tmp_path / "out" / "a").exists()

    mapped = cli.json("map", "in", "-o", "mapped", "--glob", "/**/b", "--", "cp", "{in}", "{out}")
    assert mapped["jobs"][0]["datums"]["run"] == 1
    assert (tmp_path / "mapped" / "b").read_text() == "2\n"
    assert cli.ok("cat", "swap:/sub/b").output == "2\n"
    assert cli("cat", "swap:/a").code == 4


def test_a_port_in_use_is_a_conflict(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "paddock", "--home", str(tmp_path / "home"), "up", "--port", port]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 6
    assert port in ran.stderr
    assert ran.stdout == ""
