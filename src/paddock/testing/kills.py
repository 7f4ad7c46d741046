"""Real processes under random fire: user code, workers and the scheduler are killed or stopped while jobs run.

From one seed come the inputs and the order of blows; when they strike is up to the machine. Each round commits files, computes them
through two pipelines (a process per datum, then a warm one) under fire, and compares both output trees with those of a home that
was left in peace.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import JobState
from paddock.settings import Settings

FILES = 200
WORKERS = 3
BLOW_SECONDS = (0.1, 1.2)
ROUND_SECONDS_MAX = 240.0
BLOWS = (
    ("user code is killed", 8),
    ("user code is stopped", 1),
    ("a worker is killed", 4),
    ("a worker is stopped", 1),
    ("the scheduler is killed", 1),
)
"""Kinds, and how often each in comparison."""
_COLD = "n=$(cat $data/* 2>/dev/null || cat $data); sleep 0.0$((n % 7)); echo $((n * n)) > $PADDOCK_PFS/out/${data##*/}; echo $n"
_WARM = """
import json, os, time
for line in open(3):
    task = json.loads(line)
    with open(task["in"]) as file:
        number = int(file.read())
    time.sleep(0.005)
    with open(task["out"] + "/" + os.path.basename(task["in"]), "w") as file:
        file.write(str(number + 1))
    os.write(4, json.dumps({"id": task["id"], "ok": True}).encode() + b"\\n")
"""


def run_under_fire(seed: int, folder: Path, *, seconds: float, files: int = FILES) -> Mapping[str, int]:
    """Rounds for about so long; how many blows of each kind fell, and how many `rounds` there were.

    AssertionError: a job failed, or came to another result than the one that ran in peace. folder: empty.
    """
    random = Random(seed)
    deadline = time.monotonic() + seconds
    fallen: Counter[str] = Counter()
    with _home(folder / "peace") as peace, _home(folder / "fire") as fire:
        while not fallen["rounds"] or time.monotonic() < deadline:
            contents = {f"/{index:03}": str(random.randrange(10**6)) for index in range(files)}
            for paddock in (peace, fire):
                _commit(paddock, contents)
            peace.process(workers=WORKERS)
            _process_under_fire(fire, folder / "fire", random, fallen)
            for name in ("square", "next"):
                (job, *_) = fire.jobs.list(pipeline=name, limit=1)
                assert job.state is JobState.SUCCESS, f"seed {seed}: job {name} is {job.state}: {job.reason}"
                trees = [paddock.commits.inspect(f"{name}@main").tree for paddock in (peace, fire)]
                assert trees[0] == trees[1], f"seed {seed}: {name} came to another tree under fire"
            fallen["rounds"] += 1
    return fallen


def _home(path: Path) -> EmbeddedPaddock:
    paddock = EmbeddedPaddock.open(path, settings=Settings(workers=WORKERS, grace_seconds=0.2))
    paddock.repos.create("data")
    commands = {"square": ["sh", "-c", _COLD], "next": [sys.executable, "-S", "-E", "-c", _WARM]}
    for name, repo in (("square", "data"), ("next", "square")):
        paddock.pipelines.apply(
            {
                "pipeline": {"name": name},
                "transform": {"cmd": commands[name], "warm": name == "next"},
                "input": {"pfs": {"repo": repo, "name": "data", "glob": "/*"}},
                "datum_tries": 20,
            }
        )
    return paddock


def _commit(paddock: EmbeddedPaddock, contents: Mapping[str, str]) -> None:
    paddock.commits.start("data@main")
    for path, text in contents.items():
        paddock.files.put(f"data@main:{path}", text.encode())
    paddock.commits.finish("data@main")


def _process_under_fire(paddock: EmbeddedPaddock, home: Path, random: Random, fallen: Counter[str]) -> None:
    """Let another process do the work, start it anew when it was killed, and strike until nothing is unfinished."""
    command = [sys.executable, "-m", "paddock", "--home", str(home), "job", "wait", "--json"]
    environment = {**os.environ, "PADDOCK_WORKERS": str(WORKERS), "PADDOCK_GRACE_SECONDS": "0.2"}
    deadline = time.monotonic() + ROUND_SECONDS_MAX
    while not all(job.state.final for job in paddock.jobs.list(limit=2)):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as scheduler:
            try:
                while not _waits(scheduler, random.uniform(*BLOW_SECONDS)):
                    assert time.monotonic() < deadline, "the work does not end"
                    kind = random.choices([kind for kind, _ in BLOWS], [weight for _, weight in BLOWS])[0]
                    fallen[kind] += _strike(kind, scheduler.pid, random)
            finally:
                scheduler.kill()


def _waits(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait so long for its end; whether it has ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _strike(kind: str, scheduler: int, random: Random) -> int:
    """Send one signal; whether (1 or 0) there was somebody to get it."""
    workers, user_code = _targets(scheduler)
    targets = {"user code": user_code, "a worker": workers, "the scheduler": [scheduler]}
    who, _, how = kind.partition(" is ")
    if not targets[who]:
        return 0
    with suppress(ProcessLookupError):
        os.kill(random.choice(targets[who]), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        return 1
    return 0


def _targets(scheduler: int) -> tuple[list[int], list[int]]:
    """Processes of workers, and of user code, below the scheduler."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    workers: list[int] = []
    user_code: list[int] = []
    left = list(children.get(scheduler, ()))
    while left:
        pid = left.pop()
        left += children.get(pid, ())
        with suppress(OSError):
            ours = b"paddock.runtime.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            (workers if ours else user_code).append(pid)
    return sorted(workers), sorted(user_code)


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                yield int(folder.name), int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
