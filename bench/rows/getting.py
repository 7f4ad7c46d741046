"""Getting files out of a repo, against `cp -r` of the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from measure import (
    PADDOCK,
    Budget,
    Contender,
    Result,
    Settings,
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
    return _get(settings, "get-small", f"get {count:,} files of 2 KiB", ratio_max=2, keep_few=False)


def get_large(settings: Settings) -> Result:
    size = settings.size(FILE_BYTES, QUICK_FILE_BYTES)
    write_large_files(settings.work / "source", FILES, size)
    return _get(settings, "get-large", f"get {FILES} files of {size >> 20:,} MiB", ratio_max=1.5, keep_few=True)


def _get(settings: Settings, name: str, what: str, *, ratio_max: float, keep_few: bool) -> Result:
    source, home = settings.work / "source", settings.work / "home"
    paddock(home, "repo", "create", "data")
    run(put_command(home, source))
    get = [PADDOCK, "--home", str(home), "get", "data@main:/", "-o"]
    copy = ["cp", "-r", str(source)]

    def into_new(words: list[str], name: str) -> Contender:
        def prepare(number: int) -> Callable[[], object]:
            # Many small files are left where they are: removing them slows down who makes files next.
            if keep_few:
                _clear_but(settings.work, source, home)
            return lambda: run([*words, str(settings.work / f"{name}{number}")])

        return prepare

    rounds = rounds_of(settings.repeats, {"Paddock": into_new(get, "paddock"), CP: into_new(copy, "copy")})
    samples = rounds.pop("Paddock")
    others = {CP: median(rounds[CP])}
    target = settings.work / "checked"
    memory = peak_memory_mb([*get, str(target)])
    run(["diff", "--recursive", "--brief", str(source), str(target)])
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


def _clear_but(work: Path, *kept: Path) -> None:
    for path in work.iterdir():
        if path not in kept:
            shutil.rmtree(path)
