"""Ten million files in one commit: what one change, one look and the upkeep cost, in seconds and in memory.

The large homes are made once for all rows of a run (some ten minutes, 2 GB); `--shared DIR` keeps them for the next run. Each
operation runs in a process of its own, through the SDK with the home open already, and once more as a whole command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import PADDOCK, Budget, Result, Settings, median, run

BENCH = Path(__file__).resolve().parents[1]
FILES, QUICK_FILES = 10_000_000, 100_000
SMALL_FILES = 10_000
MIDDLE_FILES = 1_000_000
MEMORY_MB = 500.0
BUILD_MB = 1500.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What one operation cost. command_seconds, command_mb: the same as a whole command."""

    seconds: tuple[float, ...]
    mb: float
    found: int
    command_seconds: float = 0.0
    command_mb: float = 0.0


def build(settings: Settings) -> Result:
    """Ten million files, put into an open commit in twenty writes, and committed."""
    _, cost = large_home(settings, settings.size(FILES, QUICK_FILES))
    mb = cost["bytes"] / 1e6
    return Result(
        name="scale-build",
        what=f"put {settings.size(FILES, QUICK_FILES):,} files in writes of 500,000, and commit them",
        seconds=cost["seconds"],
        samples=(cost["seconds"],),
        others={},
        budgets=(Budget("memory < 1,500 MB", mb, BUILD_MB),),
        facts={"files per second": settings.size(FILES, QUICK_FILES) / cost["seconds"]},
    )


def put(settings: Settings) -> Result:
    """One small file, durably, into commits of three sizes."""
    large = settings.size(FILES, QUICK_FILES)
    sizes = (SMALL_FILES, large) if settings.quick else (SMALL_FILES, MIDDLE_FILES, large)
    found = {size: probe(large_home(settings, size)[0], "put", settings.size(25, 5)) for size in sizes}
    file = settings.work / "one"
    file.write_bytes(b"one more\n")
    command = as_command(large_home(settings, large)[0], "put", "data@main:/d00000/put", str(file))
    small, most = median(found[SMALL_FILES].seconds), median(found[large].seconds)
    return Result(
        name="scale-put",
        what=f"commit one small file into {large:,}",
        seconds=most,
        samples=found[large].seconds,
        others={f"the same into {size:,}": median(found[size].seconds) for size in sizes[:-1]},
        budgets=(
            Budget("< 0.05 s", most, 0.05),
            Budget(f"<= 2 x that of {SMALL_FILES:,}", most / small, 2.0),
            Budget("memory < 500 MB", max(each.mb for each in found.values()), MEMORY_MB),
        ),
        notes=(whole_command(command),),
    )


def list_directory(settings: Settings) -> Result:
    return _look(
        settings, "scale-list", "list a directory of 1,000", "list_directory", 0.05, ("ls", "data@ten:/d00007")
    )


def list_root(settings: Settings) -> Result:
    """The sizes and digests of all directories are over all files below them."""
    return _look(
        settings, "scale-list-root", "list the root's directories, with sizes", "list_root", None, ("ls", "data@ten")
    )


def glob_prefix(settings: Settings) -> Result:
    words = ("glob", "data@ten:/d00007/*_000?.png")
    return _look(settings, "scale-glob", "a glob with a prefix", "glob_prefix", 0.05, words)


def glob_all(settings: Settings) -> Result:
    words = ("glob", "data@ten:/**/*_0001.png")
    return _look(settings, "scale-glob-all", "the glob /**/*_0001.png", "glob_all", 2.0, words)


def diff(settings: Settings) -> Result:
    return _look(settings, "scale-diff", "compare commits that differ in ten files", "diff", 0.1, ("diff", "data@ten"))


def find(settings: Settings) -> Result:
    words = ("find", "data@ten:/d00007/img_0007.png")
    return _look(settings, "scale-find", "which commits touched a path", "find", None, words)


def log(settings: Settings) -> Result:
    return _look(settings, "scale-log", "the history of a branch", "log", None, ("log", "data@ten"))


def why(settings: Settings) -> Result:
    words = ("why", "data@ten:/d00007/img_0007.png")
    return _look(settings, "scale-why", "where a file came from", "why", None, words)


def collect_dry(settings: Settings) -> Result:
    return _upkeep(settings, "scale-gc-dry", "what garbage collection would do", "collect_dry")


def collect(settings: Settings) -> Result:
    return _upkeep(settings, "scale-gc", "collect garbage", "collect")


def check(settings: Settings) -> Result:
    return _upkeep(settings, "scale-fsck", "check all references", "check")


def usage(settings: Settings) -> Result:
    return _upkeep(settings, "scale-du", "what each repo costs", "usage")


def _look(
    settings: Settings, name: str, what: str, operation: str, limit: float | None, words: Sequence[str]
) -> Result:
    home, _ = large_home(settings, settings.size(FILES, QUICK_FILES))
    found = probe(home, operation, settings.repeats if limit is None or limit > 1 else 9)
    seconds = median(found.seconds)
    budgets = [Budget("memory < 500 MB", found.mb, MEMORY_MB)]
    if limit is not None:
        budgets.insert(0, Budget(f"< {limit:g} s", seconds, limit))
    return Result(
        name=name,
        what=f"in {settings.size(FILES, QUICK_FILES):,} files: {what} ({found.found:,} found)",
        seconds=seconds,
        samples=found.seconds,
        others={},
        budgets=tuple(budgets),
        notes=(whole_command(as_command(home, *words)),),
    )


def _upkeep(settings: Settings, name: str, what: str, operation: str) -> Result:
    home, _ = large_home(settings, settings.size(FILES, QUICK_FILES))
    found = probe(home, operation, 1)
    return Result(
        name=name,
        what=f"at {settings.size(FILES, QUICK_FILES):,} files: {what}",
        seconds=found.seconds[0],
        samples=found.seconds,
        others={},
        budgets=(Budget("memory < 500 MB", found.mb, MEMORY_MB),),
    )


# ---- homes and processes -------------------------------------------------------------------------------------


def large_home(settings: Settings, files: int, distinct: int | None = None) -> tuple[Path, dict[str, float]]:
    """A home with one commit of so many files, made once for a run, and what making it cost."""
    kept = files if distinct is None else distinct
    home = settings.shared / f"home-{files}-{kept}"
    cost = settings.shared / f"home-{files}-{kept}.json"
    if not cost.exists():
        shutil.rmtree(home, ignore_errors=True)  # An earlier run may have been ended while it was made.
        text = run([sys.executable, str(BENCH / "large_home.py"), str(home), str(files), str(kept)])
        cost.write_text(text, encoding="utf-8")
    found: dict[str, float] = json.loads(cost.read_text(encoding="utf-8"))
    return home, found


def probe(home: Path, operation: str, repeats: int) -> Probe:
    """One operation through the SDK, in a process of its own."""
    text = run([sys.executable, str(BENCH / "probe.py"), str(home), operation, str(repeats)])
    found: dict[str, Any] = json.loads(text)
    return Probe(tuple(found["seconds"]), found["bytes"] / 1e6, int(found["found"]))


def as_command(home: Path, *words: str) -> tuple[float, float]:
    """Seconds and peak megabytes of a whole command, from its start to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [PADDOCK, "--home", str(home), *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    error = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"paddock {' '.join(words)} failed:\n{error.decode(errors='replace')}")
    return seconds, used.ru_maxrss * 1024 / 1e6


def whole_command(found: tuple[float, float]) -> str:
    return f"as a whole command {found[0]:.3f} s, {found[1]:.0f} MB"
