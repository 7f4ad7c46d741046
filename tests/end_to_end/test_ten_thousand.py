"""Ten thousand files through two chained pipelines, by the command line: exactly what a change affects is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = 10_000
COLD = """
pipeline: {name: copy}
transform: {cmd: [cp, "{in}", "{out}/"], placeholders: true}
input: {pfs: {repo: words, glob: "/*"}}
"""
WARM = """
import paddock

@paddock.pipeline(input=paddock.glob("copy", "/*"))
def shout(word: bytes) -> bytes:
    return word.upper()
"""

Run = Callable[[], dict[str, dict[str, int]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs both pipelines on `words/`, a process for each datum and then a function, with the outputs in `out/`; the datum counts."""
    (tmp_path / "cold.yaml").write_text(COLD)
    (tmp_path / "warm.py").write_text(WARM)
    (tmp_path / "words").mkdir()

    def once() -> dict[str, dict[str, int]]:
        command = [sys.executable, "-m", "paddock", "--home", "home", "run", "cold.yaml", "warm.py", "--json"]
        command += ["--input", "words=words", "--output", "shout=out", "-j", "2"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        assert all(job["state"] == "success" for job in summary["jobs"])
        return {job["pipeline"]: job["datums"] for job in summary["jobs"]}

    return once


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_exactly_the_affected_datums_run(run: Run, tmp_path: Path) -> None:
    words = tmp_path / "words"
    for number in range(FILES):
        (words / f"w{number:05}").write_text(f"word {number}\n")
    first = {"total": FILES, "run": FILES, "reused": 0, "recovered": 0, "failed": 0}
    assert run() == {"copy": first, "shout": first}

    (words / "added").write_text("new\n")
    (words / "w00007").write_text("changed\n")
    (words / "w00008").unlink()
    second = {"total": FILES, "run": 2, "reused": FILES - 2, "recovered": 0, "failed": 0}
    assert run() == {"copy": second, "shout": second}
    out = tmp_path / "out"
    assert (out / "added").read_text() == "NEW\n"
    assert (out / "w00007").read_text() == "CHANGED\n"
    assert not (out / "w00008").exists()
    assert len(list(out.iterdir())) == FILES

    assert run() == {}
