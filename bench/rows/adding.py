"""Adding many small files: against git, DVC and Oxen, and against reading and hashing them and doing nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import peers
from blake3 import blake3
from measure import (
    Budget,
    Contender,
    Result,
    Settings,
    fresh,
    median,
    paddock,
    peak_memory_mb,
    put_command,
    rounds_of,
    run,
    write_small_files,
)

FILE_BYTES = 2048
MEMORY_MB = 500
FLOOR = "read and hash, one process"
GIT = "git add + commit"
GIT_STATUS = "git status"
DVC = "dvc add"
OXEN = "oxen add + commit"
OXEN_SCRIPT = """
import sys, oxen
repo = oxen.Repo(sys.argv[1])
repo.add(sys.argv[1] + "/source")
repo.commit("all")
"""
OXEN_INIT = """
import sys, oxen
from oxen.user import config_user
config_user("bench", "bench@localhost")
oxen.Repo(sys.argv[1]).init()
"""


def add_small(settings: Settings) -> Result:
    count = settings.size(100_000, 5_000)
    source = settings.work / "source"
    write_small_files(source, count, FILE_BYTES)
    home = settings.work / "home"
    contenders: dict[str, Contender] = {
        "Paddock": lambda _: _put_into_new(home, source),
        FLOOR: lambda _: lambda: read_and_hash(source),
        GIT: lambda number: _git_add(_git(settings.work, source, number), source),
        **_dvc_contender(settings.work, source),
        **_oxen_contender(settings.work, source),
    }
    rounds = rounds_of(settings.repeats, contenders, once=(DVC, OXEN))
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    seconds = median(samples)
    stored = sum(path.stat().st_size for path in (home / "objects").rglob("*") if path.is_file())
    paddock(fresh(home), "repo", "create", "data")
    memory = peak_memory_mb(put_command(home, source, "--mirror"))
    budgets = [
        Budget("<= 1.6 x the read-and-hash floor", seconds / others[FLOOR], 1.6),
        *(
            Budget(f"<= 1/{factor} of {name}", seconds / others[name], 1 / factor)
            for name, factor in ((GIT, 3), (DVC, 10), (OXEN, 20))
            if name in others
        ),
        Budget("stored: <= 1.05 x + 50 B a file", stored, count * (1.05 * FILE_BYTES + 50)),
        Budget(f"peak memory < {MEMORY_MB} MB", memory, MEMORY_MB),
    ]
    return Result(
        name="add-small",
        what=f"add and commit {count:,} files of 2 KiB",
        seconds=seconds,
        samples=samples,
        others=others,
        budgets=tuple(budgets),
        notes=peers.notes("git", "dvc", "oxenai"),
        facts={"files_per_second": count / seconds},
    )


def add_again(settings: Settings) -> Result:
    """The same folder again after one file changed, by scan: no other file is read."""
    count = settings.size(100_000, 5_000)
    source, home = settings.work / "source", settings.work / "home"
    write_small_files(source, count, FILE_BYTES)
    paddock(home, "repo", "create", "data")
    put(home, source)
    changed = source / "d0000" / "f0000000"

    def after_change(action: Callable[[], object]) -> Contender:
        def prepare(number: int) -> Callable[[], object]:
            changed.write_bytes(f"change {number} {action}".encode())
            return action

        return prepare

    git = _git(settings.work, source, 0)
    _git_add(git, source)()
    contenders: dict[str, Contender] = {
        "Paddock": after_change(lambda: put(home, source)),
        GIT_STATUS: after_change(lambda: run([*git, "status", "--porcelain"], cwd=source)),
    }
    if dvc := _dvc_contender(settings.work, source):
        dvc[DVC](0)()
        copy, add = _dvc_paths(settings.work)
        contenders[DVC] = lambda number: _after_dvc_change(copy / "d0000" / "f0000000", number, add)
    rounds = rounds_of(settings.repeats, contenders, once=(DVC,))
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    seconds = median(samples)
    memory = peak_memory_mb(put_command(home, source, "--mirror"))
    return Result(
        name="add-again",
        what=f"add the same {count:,} files again, one changed",
        seconds=seconds,
        samples=samples,
        others=others,
        budgets=(
            Budget("<= 1 s", seconds, 1.0),
            Budget("<= 2 x git status", seconds / others[GIT_STATUS], 2),
            Budget(f"peak memory < {MEMORY_MB} MB", memory, MEMORY_MB),
        ),
        notes=peers.notes("git", "dvc"),
    )


def put(home: Path, source: Path) -> None:
    run(put_command(home, source, "--mirror"))


def _put_into_new(home: Path, source: Path) -> Callable[[], object]:
    paddock(fresh(home), "repo", "create", "data")
    return lambda: put(home, source)


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


def _git(work: Path, source: Path, number: int) -> list[str]:
    """A new repository beside the source; the words that begin a command on it."""
    repository = fresh(work / f"git{number}") / ".git"
    git = ["git", f"--git-dir={repository}", f"--work-tree={source}", "-c", "core.autocrlf=false", "-c", "gc.auto=0"]
    run(["git", "init", "--quiet", "--bare", str(repository)])
    run([*git, "config", "core.bare", "false"])
    return git


def _git_add(git: list[str], source: Path) -> Callable[[], object]:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]

    def action() -> None:
        run([*git, "add", "--all"], cwd=source)
        run([*git, *identity, "commit", "--quiet", "--message", "all"], cwd=source)

    return action


def _dvc_contender(work: Path, source: Path) -> dict[str, Contender]:
    """DVC wants the files in its workspace."""
    program = peers.program("dvc")
    if program is None:
        return {}

    def prepare(number: int) -> Callable[[], object]:
        copy, add = _dvc_paths(work)
        workspace = fresh(copy.parent)
        run([program, "init", "--no-scm", "--quiet"], cwd=workspace)
        run([program, "config", "core.analytics", "false"], cwd=workspace)
        run(["cp", "-r", str(source), str(copy)])
        return add

    return {DVC: prepare}


def _dvc_paths(work: Path) -> tuple[Path, Callable[[], object]]:
    workspace = work / "dvc"
    return workspace / "source", lambda: run([str(peers.program("dvc")), "add", "--quiet", "source"], cwd=workspace)


def _after_dvc_change(changed: Path, number: int, add: Callable[[], object]) -> Callable[[], object]:
    changed.write_bytes(f"change {number}".encode())
    return add


def _oxen_contender(work: Path, source: Path) -> dict[str, Contender]:
    """Oxen comes as a Python package; its start is counted, as is everybody's."""
    python = peers.interpreter("oxenai")
    if python is None:
        return {}

    def prepare(number: int) -> Callable[[], object]:
        workspace = fresh(work / "oxen")
        environment = ["env", f"HOME={fresh(work / 'oxen-user')}"]
        run([*environment, python, "-c", OXEN_INIT, str(workspace)])
        run(["cp", "-r", str(source), str(workspace / "source")])
        return lambda: run([*environment, python, "-c", OXEN_SCRIPT, str(workspace)])

    return {OXEN: prepare}
