"""Adding many small files: against git, and against reading and hashing them and doing nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3
from measure import Budget, Result, Settings, fresh, median, paddock, rounds_of, run, samples_of, write_small_files

FILE_BYTES = 2048
FLOOR = "read and hash, one process"
GIT = "git add + commit"


def add_small(settings: Settings) -> Result:
    count = settings.size(100_000, 5_000)
    source = settings.work / "source"
    write_small_files(source, count, FILE_BYTES)

    def prepare(number: int) -> Callable[[], object]:
        home = settings.work / f"home{number}"
        paddock(home, "repo", "create", "data")
        return lambda: put(home, source)

    rounds = rounds_of(
        settings.repeats,
        {
            "Paddock": prepare,
            FLOOR: lambda _: lambda: read_and_hash(source),
            GIT: lambda number: git_repository(settings.work, source, number),
        },
    )
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    seconds = median(samples)
    return Result(
        name="add-small",
        what=f"add and commit {count:,} files of 2 KiB",
        seconds=seconds,
        samples=samples,
        others=others,
        budgets=(
            Budget("<= 1.6 x the read-and-hash floor", seconds / others[FLOOR], 1.6),
            Budget("<= 1/3 of git", seconds / others[GIT], 1 / 3),
        ),
        facts={"files_per_second": count / seconds},
    )


def add_again(settings: Settings) -> Result:
    """The same folder again after one file changed."""
    count = settings.size(100_000, 5_000)
    source, home = settings.work / "source", settings.work / "home"
    write_small_files(source, count, FILE_BYTES)
    paddock(home, "repo", "create", "data")
    put(home, source)
    changed = source / "d0000" / "f0000000"

    def prepare(number: int) -> Callable[[], object]:
        changed.write_bytes(f"change {number}".encode())
        return lambda: put(home, source)

    samples = samples_of(settings.repeats, prepare)
    return Result(
        name="add-again",
        what=f"add the same {count:,} files again, one changed",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("<= 1 s", median(samples), 1.0),),
    )


def put(home: Path, source: Path) -> None:
    paddock(home, "put", "data@main:/", str(source), "--mirror")


def read_and_hash(folder: Path) -> int:
    """Open, read and hash every file once, in the order of the directory."""
    hashed = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            blake3(os.read(descriptor, 1 << 20)).digest()
            os.close(descriptor)
            hashed += 1
    return hashed


def git_repository(work: Path, source: Path, number: int) -> Callable[[], object]:
    repository = fresh(work / f"git{number}") / ".git"
    git = ["git", f"--git-dir={repository}", f"--work-tree={source}", "-c", "core.autocrlf=false", "-c", "gc.auto=0"]
    run(["git", "init", "--quiet", "--bare", str(repository)])
    run([*git, "config", "core.bare", "false"])
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]

    def action() -> None:
        run([*git, "add", "--all"], cwd=source)
        run([*git, *identity, "commit", "--quiet", "--message", "all"], cwd=source)

    return action
