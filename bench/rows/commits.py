"""One small file committed into a repo of a million, through the SDK: against one durable write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from measure import Budget, Result, Settings, median, samples_of, write_small_files

import paddock
from paddock.model.services import Paddock

REPEATS = 9
BASE_FILES = 1000


def commit_one(settings: Settings) -> Result:
    levels = settings.size(3, 1)
    with paddock.connect(home=settings.work / "home") as services:
        services.repos.create("small")
        put_one(services, "small", 0)
        total = fill(services, "large", settings.work / "source", levels)
        small = median(samples_of(REPEATS, lambda number: lambda: put_one(services, "small", number)))
        samples = samples_of(REPEATS, lambda number: lambda: put_one(services, "large", number))
    durable = median(samples_of(REPEATS, lambda number: durable_write(settings.work / f"durable{number}")))
    seconds = median(samples)
    return Result(
        name="commit-one",
        what=f"commit one small file into {total:,} files (SDK, durable)",
        seconds=seconds,
        samples=samples,
        others={"the same into an empty repo": small, "one file, written and synced": durable},
        budgets=(Budget("< 0.05 s", seconds, 0.05),),
    )


def fill(services: Paddock, repo: str, source: Path, levels: int) -> int:
    """1,000 files of bytes, then ten copies by reference for each level. Returns how many files there are."""
    write_small_files(source, BASE_FILES, 64)
    services.repos.create(repo)
    services.files.put_tree(f"{repo}@main:/level0", source)
    for level in range(levels):
        services.commits.start(f"{repo}@main")
        for number in range(10):
            services.files.copy(f"{repo}@main:/level{level}", f"{repo}@main:/level{level + 1}/{number}")
        services.commits.finish(f"{repo}@main")
    return services.repos.inspect(repo).files


def put_one(services: Paddock, repo: str, number: int) -> None:
    services.files.put(f"{repo}@main:/level0/d0000/f0000007", f"change {number}".encode())


def durable_write(path: Path) -> Callable[[], object]:
    def action() -> None:
        with path.open("wb") as file:
            file.write(b"change")
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    return action
