"""`paddock job logs --follow` prints the log of each datum once, and ends with the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from paddock.client.embedded import EmbeddedPaddock


def test_logs_are_followed_to_the_end_of_the_job(paddock: EmbeddedPaddock, home_path: Path) -> None:
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for name in ("a", "b", "c"):
        paddock.files.put(f"data@main:/{name}", name.encode())
    paddock.commits.finish("data@main")
    paddock.pipelines.apply(
        {
            "pipeline": {"name": "say"},
            "transform": {"cmd": ["sh", "-c", "echo said $(cat $data)"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 1},
        }
    )
    command = [sys.executable, "-m", "paddock", "--home", str(home_path), "job", "logs", "say", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        paddock.process(workers=1)
        out, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert sorted(line for line in out.splitlines() if line.startswith("said")) == ["said a", "said b", "said c"]
    assert out.count("==> datum") == 3
