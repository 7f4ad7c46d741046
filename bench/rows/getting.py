"""Getting files out of a repo, against `cp -r` of the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from measure import (
    PADDOCK,
    Budget,
    Result,
    Settings,
    fresh,
    median,
    paddock,
    peak_memory_mb,
    put_command,
    rounds_of,
    run,
    write_large_files,
    write_small_files,
)

from rows.adding import FILE_BYTES as SMALL_BYTES
from rows.large import FILE_BYTES, FILES, QUICK_FILE_BYTES

MEMORY_MB = 500
CP = "cp -r"


def get_small(settings: Settings) -> Result:
    count = settings.size(100_000, 5_000)
    write_small_files(settings.work / "source", count, SMALL_BYTES)
    return _get(settings, "get-small", f"get {count:,} files of 2 KiB", ratio_max=2)


def get_large(settings: Settings) -> Result:
    size = settings.size(FILE_BYTES, QUICK_FILE_BYTES)
    write_large_files(settings.work / "source", FILES, size)
    return _get(settings, "get-large", f"get {FILES} files of {size >> 20:,} MiB", ratio_max=1.5)


def _get(settings: Settings, name: str, what: str, *, ratio_max: float) -> Result:
    source, home, target = (settings.work / part for part in ("source", "home", "target"))
    paddock(home, "repo", "create", "data")
    run(put_command(home, source))
    words = [PADDOCK, "--home", str(home), "get", "data@main:/", "-o", str(target)]

    def timed(words: list[str]) -> Callable[[int], Callable[[], object]]:
        def prepare(_: int) -> Callable[[], object]:
            shutil.rmtree(target, ignore_errors=True)
            return lambda: run(words)

        return prepare

    rounds = rounds_of(settings.repeats, {"Paddock": timed(words), CP: timed(["cp", "-r", str(source), str(target)])})
    samples = rounds.pop("Paddock")
    others = {CP: median(rounds[CP])}
    expect_equal(source, target)
    memory = peak_memory_mb([*words[:-1], str(fresh(target))])
    return Result(
        name=name,
        what=what,
        seconds=median(samples),
        samples=samples,
        others=others,
        budgets=(
            Budget(f"<= {ratio_max} x cp -r", median(samples) / others[CP], ratio_max),
            Budget(f"peak memory < {MEMORY_MB} MB", memory, MEMORY_MB),
        ),
    )


def expect_equal(source: Path, target: Path) -> None:
    run(["diff", "--recursive", "--brief", str(source), str(target)])
