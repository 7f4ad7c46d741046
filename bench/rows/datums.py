"""1,000 datums of `cp`, one process each: against the cheapest spawn there is, xargs and GNU parallel."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import peers
from measure import Budget, Result, Settings, fresh, median, paddock, rounds_of, run, samples_of, write_small_files

FILE_BYTES = 2048
WORKERS = 2
FLOOR = "posix_spawn, 2 threads"


def cp_datums(settings: Settings) -> Result:
    count = settings.size(1000, 200)
    source = settings.work / "source"
    make_source(source, count)

    def prepare(number: int) -> Callable[[], object]:
        home, target = settings.work / f"home{number}", settings.work / f"target{number}"
        return lambda: map_cp(home, source, target)

    rounds = rounds_of(settings.repeats, {"Paddock": prepare, **contenders(settings, source)})
    expect_files(settings.work / "target0", count)
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    ratio = median(samples) / others[FLOOR]
    return Result(
        name="cp-datums",
        what=f"{count:,} datums of `cp`, start to finish, with lineage",
        seconds=median(samples),
        samples=samples,
        others=others,
        budgets=(Budget("<= 1.5 x the spawn floor", ratio, 1.5),),
        notes=peers.notes("parallel"),
    )


def cp_again(settings: Settings) -> Result:
    """The same job after one of its files has changed."""
    count = settings.size(1000, 200)
    source, home, target = (settings.work / name for name in ("source", "home", "target"))
    make_source(source, count)
    map_cp(home, source, target)
    changed = next(iter(sorted(source.iterdir())))

    def prepare(number: int) -> Callable[[], object]:
        changed.write_bytes(f"change {number}".encode())
        return lambda: expect_run(map_cp(home, source, target), run_now=1, total=count)

    samples = samples_of(settings.repeats, prepare)
    return Result(
        name="cp-again",
        what=f"the same {count:,} datums after one file changed (1 runs)",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("<= 1 s", median(samples), 1.0),),
    )


def make_source(source: Path, count: int) -> None:
    fresh(source)
    write_small_files(source / "tree", count, FILE_BYTES)
    for path in sorted((source / "tree").rglob("f*")):
        path.rename(source / path.name)
    shutil.rmtree(source / "tree")


def map_cp(home: Path, source: Path, target: Path) -> dict[str, int]:
    words = ["-o", str(target), "-j", str(WORKERS), "--", "cp", "{in}", "{out}"]
    summary = paddock(home, "map", str(source), *words)
    counts: dict[str, int] = summary["jobs"][0]["datums"]
    return counts


def expect_run(counts: dict[str, int], *, run_now: int, total: int) -> None:
    if (counts["run"], counts["total"]) != (run_now, total):
        raise SystemExit(f"{run_now} of {total} datums should have run, not {counts}")


def expect_files(folder: Path, count: int) -> None:
    found = sum(1 for path in folder.rglob("f*") if path.is_file())
    if found != count:
        raise SystemExit(f"{folder} should hold {count} files, not {found}")


def contenders(settings: Settings, source: Path) -> dict[str, Callable[[int], Callable[[], object]]]:
    target = settings.work / "peer"
    names = "\0".join(str(path) for path in sorted(source.iterdir())).encode()

    def command(*words: str) -> Callable[[int], Callable[[], object]]:
        def prepare(number: int) -> Callable[[], object]:
            fresh(target)
            return lambda: run(words, stdin=names)

        return prepare

    def spawn(number: int) -> Callable[[], object]:
        fresh(target)
        return lambda: spawn_all(sorted(source.iterdir()), target)

    found = {
        FLOOR: spawn,
        "xargs -P2": command("xargs", "-0", "-P", str(WORKERS), "-I", "{}", "cp", "{}", str(target)),
    }
    if parallel := peers.program("parallel"):
        found["GNU parallel -j2"] = command(parallel, "-0", "-j", str(WORKERS), "cp", "{}", str(target))
    return found


def spawn_all(paths: list[Path], target: Path) -> None:
    """The floor: a bare posix_spawn of `cp` for each file, from two threads, nothing else."""
    cp = shutil.which("cp") or "/bin/cp"

    def work(share: list[Path]) -> None:
        for path in share:
            process = os.posix_spawn(cp, ["cp", str(path), str(target)], os.environ)
            os.waitpid(process, 0)

    threads = [threading.Thread(target=work, args=(paths[start::WORKERS],)) for start in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
