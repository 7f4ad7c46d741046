"""Datums of `cp`, one process each: against the cheapest spawn there is, xargs, GNU parallel, and engines."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import peers
from measure import (
    Budget,
    Result,
    Settings,
    fresh,
    median,
    paddock,
    rounds_of,
    run,
    samples_of,
    seconds_said,
    timed,
    write_small_files,
)

FILE_BYTES = 2048
WORKERS = 2
FLOOR = "posix_spawn, 2 threads"


ENGINES = Path(__file__).resolve().parent.parent / "engines"


def cp_datums(settings: Settings) -> Result:
    """With every peer. Snakemake takes a minute, so it runs once."""
    count = settings.size(1000, 200)
    result = _cp(settings, "cp-datums", count, slow_peers=True)
    snakemake = settings.work / "snakemake"
    if (program := peers.program("snakemake")) is not None:
        source, target = settings.work / "source", snakemake / "target"
        target.mkdir(parents=True)
        words = ["--cores", str(WORKERS), "--quiet", "all", "--snakefile", str(ENGINES / "Snakefile")]
        config = ["--config", f"source={source}", f"target={target}"]
        result.others["Snakemake, 2 cores"] = timed(lambda: run([program, *words, *config], cwd=snakemake))
        expect_files(target, count)
    others = result.others
    budgets = [*result.budgets]
    for peer, times in (("GNU parallel -j2", 2), ("Snakemake, 2 cores", 20)):
        if peer in others:
            budgets.append(Budget(f"{times} x as fast as {peer}", result.seconds / others[peer], 1 / times))
    missing = peers.notes("parallel", "ray", "hyperqueue", "snakemake")
    return dataclasses.replace(result, budgets=tuple(budgets), notes=missing)


def cp_many(settings: Settings) -> Result:
    """Ten times as many, where what is fixed counts less; beside the floor and xargs alone."""
    return _cp(settings, "cp-many", settings.size(10_000, 1000), slow_peers=False)


def _cp(settings: Settings, name: str, count: int, *, slow_peers: bool) -> Result:
    source = settings.work / "source"
    make_source(source, count)

    def prepare(number: int) -> Callable[[], object]:
        home, target = settings.work / f"home{number}", settings.work / f"target{number}"
        return lambda: map_cp(home, source, target)

    rounds = rounds_of(settings.repeats, {"Paddock": prepare, **contenders(settings, source)})
    expect_files(settings.work / "target0", count)
    samples = rounds.pop("Paddock")
    others = {peer: median(found) for peer, found in rounds.items()}
    if slow_peers:
        others |= engines(settings, source)
    return Result(
        name=name,
        what=f"{count:,} datums of `cp`, start to finish, with lineage",
        seconds=median(samples),
        samples=samples,
        others=others,
        budgets=(Budget("<= 1.5 x the spawn floor", median(samples) / others[FLOOR], 1.5),),
    )


def engines(settings: Settings, source: Path) -> dict[str, float]:
    """Seconds of the peers that are engines, without their start; the median of the rounds."""
    found: dict[str, float] = {}
    for peer, shown in (("ray", "Ray tasks that spawn"), ("hyperqueue", "HyperQueue")):
        python = peers.interpreter(peer)
        if python is not None:
            seconds = []
            for number in range(settings.repeats):
                target = settings.work / f"{peer}{number}"
                target.mkdir()
                seconds.append(seconds_said([python, str(ENGINES / f"{peer}_spawn.py"), str(source), str(target)]))
            found[shown] = median(seconds)
    return found


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
    tree = fresh(source).with_name("tree")
    write_small_files(tree, count, FILE_BYTES)
    for path in sorted(tree.rglob("f*")):
        path.rename(source / path.name)
    shutil.rmtree(tree)


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
    """Peers that take turns with Paddock. Each copies into a directory of its own, and none is removed meanwhile: ext4 without a
    journal takes ten times as long to make files where many were removed in the last seconds.
    """
    names = "\0".join(str(path) for path in sorted(source.iterdir())).encode()

    def command(name: str, *words: str) -> Callable[[int], Callable[[], object]]:
        def prepare(number: int) -> Callable[[], object]:
            target = fresh(settings.work / f"{name}{number}")
            return lambda: run([*words, str(target)], stdin=names)

        return prepare

    def spawn(number: int) -> Callable[[], object]:
        target = fresh(settings.work / f"spawn{number}")
        return lambda: spawn_all(sorted(source.iterdir()), target)

    found = {
        FLOOR: spawn,
        "xargs -P2": command("xargs", "xargs", "-0", "-P", str(WORKERS), "-I", "{}", "cp", "{}"),
    }
    if parallel := peers.program("parallel"):
        found["GNU parallel -j2"] = command("parallel", parallel, "-0", "-j", str(WORKERS), "cp", "{}")
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
