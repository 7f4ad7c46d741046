"""What every row of the bench is made of: timed commands, repeats, and the result that is kept."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PADDOCK = str(Path(sys.executable).with_name("paddock"))
MEMORY_POLL_SECONDS = 0.02
_BLOCK_BYTES = 16 << 20

Contender = Callable[[int], Callable[[], object]]
"""Sets the n-th round up, untimed, and returns what to time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """quick: smaller sizes and one repeat. work: an empty directory of the row's own, removed after it. shared: one for all rows
    of a run, for what is costly to make."""

    quick: bool
    repeats: int
    work: Path
    shared: Path

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Budget:
    """`text` as the user reads it; `limit` is the most that `value` (seconds, bytes, MB or a ratio) may be."""

    text: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One row. seconds: the median of Paddock's samples; others: the median seconds of each peer or floor."""

    name: str
    what: str
    seconds: float
    samples: tuple[float, ...]
    others: dict[str, float]
    budgets: tuple[Budget, ...]
    notes: tuple[str, ...] = ()
    facts: dict[str, float] = field(default_factory=dict)


def timed(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def samples_of(repeats: int, prepare: Callable[[int], Callable[[], object]]) -> tuple[float, ...]:
    """Seconds of each run. `prepare(n)` sets the n-th one up, untimed, and returns what to time."""
    samples = []
    for number in range(repeats):
        action = prepare(number)
        samples.append(timed(action))
    return tuple(samples)


def rounds_of(
    repeats: int, contenders: Mapping[str, Contender], *, once: Collection[str] = ()
) -> dict[str, tuple[float, ...]]:
    """Seconds of each contender in each round. They take turns, so that a noisy minute hits all of them.

    `once`: peers that are so slow that the first round has to do.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats):
        for name, prepare in contenders.items():
            if number and name in once:
                continue
            action = prepare(number)
            samples[name].append(timed(action))
    return {name: tuple(found) for name, found in samples.items()}


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def paddock(home: Path, *arguments: str, cwd: Path | None = None) -> Any:
    """Run `paddock … --json` on a home; its JSON document. The bench stops where the command fails."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [*arguments[:end], "--json", *arguments[end:]]
    text = run([PADDOCK, "--home", str(home), *words], cwd=cwd)
    return json.loads(text) if text.strip() else None


def put_command(home: Path, source: Path, *options: str) -> list[str]:
    """`paddock put` of a file or folder into the repo `data`."""
    return [PADDOCK, "--home", str(home), "put", "data@main:/", str(source), *options]


def run(words: Sequence[str], *, cwd: Path | None = None, stdin: bytes | None = None) -> str:
    """Standard output of a command; SystemExit with its standard error where it fails."""
    finished = subprocess.run(words, cwd=cwd, env=_environment(), input=stdin, capture_output=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{finished.stderr.decode(errors='replace')}")
    return finished.stdout.decode(errors="replace")


def seconds_said(words: Sequence[str]) -> float:
    """Run a program of `bench/engines`: the seconds in its last line."""
    return float(run(words).split()[-1])


def peak_memory_mb(words: Sequence[str]) -> float:
    """Run a command; the most MB that it and its children held at one moment, by their proportional shares.

    Looked at every 20 ms, which slows the command: not to be timed.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment())
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_memory_kib(pid) for pid in _with_children(process.pid)))
        time.sleep(MEMORY_POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return peak / 1024


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a process has had since it was started as what it is now.

    `getrusage` tells that of whatever started it, too: a bench that has planned a million datums is larger than what it measures.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(word) for word in tasks.read_text(encoding="ascii").split()]
            except OSError:
                continue  # it ended meanwhile
    return found


def _memory_kib(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}


def fresh(path: Path) -> Path:
    """An empty directory at `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_small_files(target: Path, count: int, size: int) -> None:
    """`count` files of `size` bytes that do not compress, 1,000 to a folder; the same on every run."""
    block = deterministic_bytes(count + size)
    for number in range(count):
        folder = target / f"d{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number:07d}").write_bytes(block[number : number + size])


def write_large_files(target: Path, count: int, size: int) -> None:
    """`count` files of `size` bytes that do not compress; the same on every run."""
    target.mkdir(parents=True)
    for number in range(count):
        generator = random.Random(number)
        with (target / f"large{number}").open("wb") as file:
            for start in range(0, size, _BLOCK_BYTES):
                file.write(generator.randbytes(min(_BLOCK_BYTES, size - start)))


def deterministic_bytes(count: int) -> bytes:
    """Bytes from a fixed 64-bit linear congruential generator: cheap, and no two windows alike."""
    state = 0x9E3779B97F4A7C15
    pieces = []
    for _ in range(count // 8 + 1):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        pieces.append((state ^ (state >> 29)).to_bytes(8, "little"))
    return b"".join(pieces)
