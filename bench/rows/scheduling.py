"""How soon a job's first datum runs, and how well two workers share the work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measure import Budget, Contender, Result, Settings, fresh, median, paddock, rounds_of

from paddock.client.embedded import EmbeddedPaddock
from paddock.testing.servers import running_server

SPIN = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; cp {in} {out}"
"""Some 100 ms of one core."""
WAIT_SECONDS = 30.0


def first_datum(settings: Settings) -> Result:
    """From the call that commits to the first line of the datum's command, with a server up."""
    home, stamp = settings.work / "home", settings.work / "stamp"
    with EmbeddedPaddock.open(home) as client, running_server(home, workers=1):
        client.repos.create("data")
        script = f"date +%s.%N > {stamp}.new; mv {stamp}.new {stamp}"
        client.pipelines.apply(_spec("first", script))
        samples = tuple(_first(client, stamp, number) for number in range(settings.size(20, 5)))
    seconds = median(samples)
    return Result(
        name="first-datum",
        what="from a commit to its first datum running, server up",
        seconds=seconds,
        samples=samples,
        others={},
        budgets=(Budget("< 0.05 s", seconds, 0.05),),
    )


def _first(client: EmbeddedPaddock, stamp: Path, number: int) -> float:
    stamp.unlink(missing_ok=True)
    begin = time.time()
    client.files.put("data@main:/file", b"%d" % number)
    while not stamp.exists():
        if time.time() - begin > WAIT_SECONDS:
            raise SystemExit("no datum ran; is a server at work?")
        time.sleep(0.0005)
    began = float(stamp.read_text())
    client.jobs.wait(["first@head"])
    return began - begin


def two_workers(settings: Settings) -> Result:
    """Datums of about 100 ms that use a core each: one worker against two; and so many bare processes, which show what the
    machine's two processors are worth."""
    source = fresh(settings.work / "source")
    for number in range(settings.size(300, 16)):
        (source / f"f{number:03}").write_bytes(b"%d" % number)

    def mapped(workers: int) -> Contender:
        def prepare(number: int) -> Callable[[], object]:
            home, target = (settings.work / f"{name}{workers}-{number}" for name in ("home", "target"))
            words = ["-o", str(target), "-j", str(workers), "--", "sh", "-c", SPIN]
            return lambda: paddock(home, "map", str(source), *words)

        return prepare

    def bare(processes: int) -> Contender:
        def prepare(number: int) -> Callable[[], object]:
            target = fresh(settings.work / f"bare{processes}-{number}")
            return lambda: spin_all(sorted(source.iterdir()), target, processes)

        return prepare

    contenders = {"Paddock": mapped(2), "one worker": mapped(1), "bare, one": bare(1), "bare, two": bare(2)}
    rounds = rounds_of(settings.repeats, contenders)
    samples = rounds.pop("Paddock")
    others = {name: median(found) for name, found in rounds.items()}
    alone = others["one worker"]
    return Result(
        name="two-workers",
        what=f"{len(list(source.iterdir()))} datums of about 100 ms on two workers",
        seconds=median(samples),
        samples=samples,
        others=others,
        budgets=(Budget("one worker / 1.9", median(samples) / alone, 1 / 1.9),),
        notes=(
            f"{len(os.sched_getaffinity(0))} cores; other load on the machine counts against it",
            f"{alone / median(samples):.2f} times as fast as one worker",
            f"two bare processes: {others['bare, one'] / others['bare, two']:.2f} times as fast as one",
        ),
    )


def spin_all(paths: Sequence[Path], target: Path, processes: int) -> None:
    """The same work without Paddock: so many processes at a time, each path handed to the first that is free."""
    running: set[int] = set()
    for path in paths:
        script = SPIN.format_map({"in": path, "out": target})
        running.add(os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ))
        if len(running) == processes:
            running.remove(os.wait()[0])
    for process in running:
        os.waitpid(process, 0)


def heavy_tail(settings: Settings) -> Result:
    """One datum in a hundred takes fifty times as long; computed a second time, with the times of the first known."""
    count = settings.size(400, 100)
    with EmbeddedPaddock.open(settings.work / "home") as client:
        client.repos.create("data")
        client.commits.start("data@main")
        for number in range(count):
            client.files.put(f"data@main:/f{number:04}", b"%d" % number)
        client.commits.finish("data@main")
        script = "case $data in *50) sleep 1;; *) sleep 0.02;; esac; cp $data /pfs/out/"
        client.pipelines.apply(_spec("tail", script))
        client.process(workers=2)
        ratios, samples = [], []
        for _ in range(settings.repeats):
            client.pipelines.rerun("tail", reprocess=True)
            client.process(workers=2)
            timing = client.jobs.timing("tail@head")
            samples.append(timing.total_seconds)
            bound = max(timing.slowest[0].seconds, timing.datum_seconds / 2)
            ratios.append(timing.total_seconds / bound)
    return Result(
        name="heavy-tail",
        what=f"{count} datums, 1 % of them 50 times as long, two workers",
        seconds=median(samples),
        samples=tuple(samples),
        others={"longest-first bound": median(samples) / median(ratios)},
        budgets=(Budget("<= 1.1 x the bound", median(ratios), 1.1),),
    )


def _spec(name: str, script: str) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-c", script]},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
    }
