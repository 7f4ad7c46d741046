"""A datum in the foreground: the same inputs, environment and code as its worker had; nothing of the home changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import UserCodeFailed

SCRIPT = (
    'cat "$data" > /pfs/out/copy; cat; echo "$PADDOCK_DATUM_ID $PACH_JOB_ID $FLAVOUR $data"; test "$(cat $data)" != bad'
)


def command(home: Path, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paddock", "--home", str(home), *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def made(paddock: EmbeddedPaddock, home_path: Path) -> Path:
    """A home with a job of two datums, one of which failed."""
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    paddock.files.put("data@main:/good", b"good")
    paddock.files.put("data@main:/poor", b"bad")
    paddock.commits.finish("data@main")
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "copy"},
            "transform": {"cmd": ["sh", "-c", SCRIPT], "stdin": ["from the spec"], "env": {"FLAVOUR": "plain"}},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_tries": 1,
        }
    )
    paddock.process(workers=1)
    return home_path


def ids(home: Path) -> dict[str, str]:
    found = json.loads(command(home, "datum", "list", "copy", "--json").stdout)
    return {datum["inputs"][0]["path"]: datum["id"] for datum in found}


def test_rerun_shows_what_the_worker_saw(made: Path, tmp_path: Path) -> None:
    good = ids(made)["/good"]
    recorded = command(made, "datum", "logs", "copy", good).stdout
    ran = command(made, "datum", "rerun", "copy", good, "--output", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == recorded
    assert "from the spec" in recorded
    assert (tmp_path / "out" / "copy").read_text() == "good"
    assert "/copy (4 B)" in ran.stderr
    assert list((made / "scratch").iterdir()) == []


def test_rerun_fails_as_the_datum_did(made: Path) -> None:
    ran = command(made, "datum", "rerun", "copy", ids(made)["/poor"])
    assert ran.returncode == UserCodeFailed.exit_code
    assert "ended with exit code 1" in ran.stderr


def test_a_shell_in_the_place_of_a_datum(made: Path) -> None:
    poor = ids(made)["/poor"]
    script = 'cat "$data"; echo; echo x 2>/dev/null > "$data" || echo read-only; echo "$FLAVOUR"; exit 3\n'
    ran = command(made, "datum", "shell", "copy", poor[:12], stdin=script, SHELL="/bin/sh")
    assert ran.stdout.splitlines() == ["bad", "read-only", "plain"]
    assert ran.returncode == 0


def test_what_can_not_be_run_is_said(made: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused = command(made, "datum", "rerun", "copy", ids(made)["/good"], "-o", str(tmp_path / "full"))
    assert "is not empty" in refused.stderr
    assert "has no datum ffff" in command(made, "datum", "shell", "copy", "ffff").stderr


@pytest.fixture
def limited(paddock: EmbeddedPaddock, home_path: Path) -> Path:
    """A home with a job whose datum takes more memory than it may, and asks for a GPU."""
    paddock.repos.create("data")
    paddock.files.put("data@main:/one", b"1")
    hog = f"{sys.executable} -S -E -c 'import time; x = bytearray(300 << 20); time.sleep(60)'"
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "take"},
            "transform": {"cmd": ["sh", "-c", f"echo gpu $CUDA_VISIBLE_DEVICES of $(nproc); {hog}; echo not here"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "resource_requests": {"gpu": {"number": 1}},
            "resource_limits": {"cpu": 1},
            "datum_limits": {"memory": "100Mi", "scratch": "1Mi"},
        }
    )
    return home_path


@pytest.mark.parametrize("sandbox", ["auto", "directory"])
def test_limits_and_resources_hold_in_the_foreground(paddock: EmbeddedPaddock, limited: Path, sandbox: str) -> None:
    settings = {"PADDOCK_GPUS": "x,y", "PADDOCK_SANDBOX": sandbox}
    assert command(limited, "job", "wait", **settings).returncode
    (datum,) = paddock.datums.list("take@head")
    assert "its limit of 100 MiB (datum_limits.memory)" in datum.reason
    ran = command(limited, "datum", "rerun", "take", datum.id, **settings)
    assert ran.returncode == UserCodeFailed.exit_code
    assert ran.stdout == "gpu x of 1\n"
    assert "more than its limit of 100 MiB (datum_limits.memory)" in ran.stderr


def test_a_shell_outlives_what_takes_too_much_in_it(paddock: EmbeddedPaddock, limited: Path) -> None:
    settings = {"PADDOCK_GPUS": "x,y", "SHELL": "/bin/sh"}
    command(limited, "job", "wait", **settings)
    (datum,) = paddock.datums.list("take@head")
    hog = f"{sys.executable} -S -E -c 'import time; x = bytearray(300 << 20); time.sleep(60)'"
    shell = command(limited, "datum", "shell", "take", datum.id, stdin=f"{hog}\necho still here\n", **settings)
    assert shell.returncode == 0
    assert shell.stdout == "still here\n"
    assert "more than its limit of 100 MiB (datum_limits.memory)" in shell.stderr
