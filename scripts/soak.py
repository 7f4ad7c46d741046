"""`make soak`: many random lives of a home, each from one seed; stops at the first that fails and prints its seed.

What is soaked is named in `TARGETS`. To have a failure again: `make soak ARGS="--only scheduler --seed 123 --seeds 1"`.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from paddock.testing.kills import run_under_fire
from paddock.testing.simulation_run import simulate

MEMORY = Path("/dev/shm")
ROOT = Path(__file__).resolve().parents[1]
KILLS_SECONDS = 300.0
PROPERTIES = "tests/property"


def scheduler(seed: int, folder: Path) -> None:
    """Jobs with simulated workers that crash, hang, lie and repeat themselves, and a scheduler that restarts."""
    simulate(seed, folder)


def properties(seed: int, folder: Path) -> None:
    """The property tests of the suite (stores, tables, plans against simple models) with another seed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        f"--hypothesis-seed={seed}",
        f"--basetemp={folder / 'tmp'}",
        PROPERTIES,
    ]
    subprocess.run(command, cwd=ROOT, check=True)


def kills(seed: int, folder: Path) -> None:
    """Real jobs while user code, workers and the scheduler are killed and stopped at random, for five minutes a seed."""
    fallen = run_under_fire(seed, folder, seconds=KILLS_SECONDS)
    print(
        f"kills: seed {seed}: {', '.join(f'{kind} {count} times' for kind, count in sorted(fallen.items()))}",
        flush=True,
    )


TARGETS: dict[str, Callable[[int, Path], None]] = {"scheduler": scheduler, "properties": properties, "kills": kills}
"""Each takes a seed and an empty folder, and raises where something is wrong."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="this target; may be given again")
    parser.add_argument("--seed", type=int, default=None, help="the first seed (default: by chance)")
    parser.add_argument("--seeds", type=int, default=5000, help="how many seeds for each target (default 5000)")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop each target after so long (default 60)")
    parser.add_argument("--work", type=Path, default=None, help="where homes go (default: memory, else TMPDIR)")
    return parser.parse_args()


def soak(name: str, options: argparse.Namespace) -> bool:
    """Whether every seed went well."""
    first = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    deadline = time.monotonic() + 60 * options.minutes
    work = options.work or (MEMORY if os.access(MEMORY, os.W_OK) else None)
    done = 0
    for seed in range(first, first + options.seeds):
        if time.monotonic() > deadline:
            break
        with tempfile.TemporaryDirectory(prefix=f"paddock-soak-{name}-", dir=work) as folder:
            try:
                TARGETS[name](seed, Path(folder))
            except Exception:  # noqa: BLE001 (whatever it is, the seed is what matters)
                traceback.print_exc()
                print(f'\n{name}: seed {seed} FAILED; again: make soak ARGS="--only {name} --seed {seed} --seeds 1"')
                return False
        done += 1
    print(f"{name}: {done} seeds from {first} on, all well", flush=True)
    return True


def main() -> int:
    options = arguments()
    well = [soak(name, options) for name in options.only or TARGETS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
