"""A million datums in one job, and ten thousand workers: what the control plane costs."""

from __future__ import annotations

import sys

from measure import Budget, Result, Settings, run

from paddock.testing.simulation_pool import PoolRun, run_pool
from rows.scale import large_home, probe

DATUMS, QUICK_DATUMS = 1_000_000, 20_000
CONTENTS = 1000
MEMORY_MB = 500.0
FUNCTION = """
import sys
import paddock

@paddock.pipeline(input=paddock.glob("data", "/*/*"), name="warm")
def shout(content: bytes) -> bytes:
    return content.upper()

if __name__ == "__main__":
    with paddock.connect(home=sys.argv[1]) as services:
        shout.apply(services)
"""


def million_datums(settings: Settings) -> Result:
    """One job of trivial warm datums on two workers. The memory is the scheduling process's own, not the workers'."""
    count = settings.size(DATUMS, QUICK_DATUMS)
    home, _ = large_home(settings, count, CONTENTS)
    script = settings.work / "shout.py"
    script.write_text(FUNCTION, encoding="utf-8")
    run([sys.executable, str(script), str(home)])
    found = probe(home, "process", 1)
    if found.found != count:
        raise SystemExit(f"{count} datums should have run, not {found.found}")
    return Result(
        name="scale-job",
        what=f"one job of {count:,} trivial warm datums, from plan to output",
        seconds=found.seconds[0],
        samples=found.seconds,
        others={"Ray queues 1 million in, on 64 cores": 184.0},
        budgets=(
            Budget("< 200 s a million", found.seconds[0] * DATUMS / count, 200.0),
            Budget("control plane < 500 MB", found.mb, MEMORY_MB),
        ),
        facts={"datums per second": count / found.seconds[0]},
    )


def simulated_cluster(settings: Settings) -> Result:
    """Virtual workers and a virtual clock; the decisions are those of the real scheduler, and take real time."""
    workers, datums = settings.size(10_000, 1_000), settings.size(10_000_000, 200_000)
    tenth = _pool(workers // 10, datums // 10)
    whole = _pool(workers, datums)
    return Result(
        name="scale-cluster",
        what=f"{workers:,} simulated workers, {datums:,} datums of 1 s: the scheduler's decisions",
        seconds=whole.scheduler_seconds,
        samples=(whole.scheduler_seconds,),
        others={"a tenth of the workers and datums": tenth.scheduler_seconds},
        budgets=(
            Budget("idle < 5 %", 1 - whole.busy, 0.05),
            Budget("a batch costs <= 2 x that of a tenth", _each(whole) / _each(tenth), 2.0),
        ),
        facts={"batches": whole.batches, "microseconds a batch": _each(whole) * 1e6},
    )


def _pool(workers: int, datums: int) -> PoolRun:
    return run_pool(workers=workers, datums=datums, seconds=lambda _: 1.0, round_trip_seconds=0.02)


def _each(found: PoolRun) -> float:
    return found.scheduler_seconds / found.batches
