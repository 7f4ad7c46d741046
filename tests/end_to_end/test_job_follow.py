"""`--follow` prints what datums print while they run, each line once, and ends with the job."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.client.embedded import EmbeddedPaddock
from paddock.testing.servers import running_server


def apply(paddock: EmbeddedPaddock, script: str, **fields: object) -> None:
    """Three datums, each of which runs the script with its name as $1."""
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for name in ("a", "b", "c"):
        paddock.files.put(f"data@main:/{name}", name.encode())
    paddock.commits.finish("data@main")
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "say"},
            "transform": {"cmd": ["sh", "-c", f"set $(cat $data); {script}"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 1},
            **fields,
        }
    )


@contextmanager
def working(paddock: EmbeddedPaddock) -> Iterator[None]:
    """Do the work in another thread, and wait for its end."""
    thread = threading.Thread(target=lambda: paddock.process(workers=3))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "paddock", "--home", str(home), *words]


def test_logs_are_followed_to_the_end_of_the_job(paddock: EmbeddedPaddock, home_path: Path) -> None:
    apply(paddock, "echo said $1")
    words = command(home_path, "job", "logs", "say", "--follow")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        paddock.process(workers=1)
        out, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert sorted(line for line in out.splitlines() if line.startswith("said")) == ["said a", "said b", "said c"]
    assert out.count("==> datum") == 3


def test_lines_come_while_their_datums_run(paddock: EmbeddedPaddock, home_path: Path, tmp_path: Path) -> None:
    """Each datum goes on only when what it printed before was seen by the follower."""
    apply(
        paddock,
        f"echo first $1; until test -e {tmp_path}/go-$1; do sleep 0.02; done; printf 'second '; echo $1; printf end",
    )
    words = command(home_path, "job", "logs", "say", "--follow")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower, working(paddock):
        assert follower.stdout is not None
        lines = []
        for line in follower.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("first"):
                (tmp_path / f"go-{line.split()[1]}").touch()
    said = [line for line in lines if not line.startswith("==>")]
    assert sorted(said) == ["end", "end", "end", *(f"{word} {name}" for word in ("first", "second") for name in "abc")]


def test_a_running_datum_is_read_and_followed_over_http(
    paddock: EmbeddedPaddock, home_path: Path, tmp_path: Path
) -> None:
    apply(paddock, f"echo first $1; until test -e {tmp_path}/go; do sleep 0.02; done; echo second $1")
    with running_server(home_path, workers=3) as server, connect(url=server.url) as remote:
        seen: dict[str, bytes] = {}
        for id, lines in remote.jobs.follow("say@head"):
            if not id:
                continue
            seen[id] = seen.get(id, b"") + lines
            if len(seen) == 3 and not (tmp_path / "go").exists():
                assert remote.datums.logs("say@head", id).startswith(b"first ")
                (tmp_path / "go").touch()
    assert sorted(seen.values()) == [b"first a\nsecond a\n", b"first b\nsecond b\n", b"first c\nsecond c\n"]
    one = next(iter(seen))
    assert [*paddock.jobs.follow("say@head", datum=one)] == [(one, seen[one])]


@pytest.mark.parametrize("words", [("datum", "logs", "say"), ("job", "logs", "say", "--datum")])
def test_one_datum_of_a_job_that_has_ended(paddock: EmbeddedPaddock, home_path: Path, words: tuple[str, ...]) -> None:
    apply(paddock, "echo said $1")
    paddock.process(workers=1)
    (datum,) = [each for each in paddock.datums.list("say@head") if each.inputs[0].path == "/b"]
    ran = subprocess.run(
        command(home_path, *words, datum.id, "--follow"), capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.endswith("said b\n")
    assert "said a" not in ran.stdout
