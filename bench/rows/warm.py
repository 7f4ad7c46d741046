"""Tiny datums through warm processes: a command with the line protocol, and a Python function."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import peers
from measure import PADDOCK, Budget, Result, Settings, median, paddock, run, samples_of, seconds_said

from rows.datums import WORKERS

FILE_BYTES = 20
ENGINES = {"ray": "Ray", "dask": "Dask"}
COMMAND = """
import json, os
with os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "rb") as tasks:
    for line in tasks:
        datum = json.loads(line)
        with open(datum["in"], "rb") as source, open(datum["out"] + "/" + os.path.basename(datum["in"]), "wb") as target:
            target.write(source.read().upper())
        os.write(int(os.environ["PADDOCK_WARM_OUT"]), json.dumps({"id": datum["id"], "ok": True}).encode() + b"\\n")
"""
FUNCTION = """
import paddock

@paddock.pipeline(input=paddock.glob("in", "/*"), name="warm")
def shout(content: bytes) -> bytes:
    return content.upper()
"""


def warm_command(settings: Settings) -> Result:
    def spec(folder: Path) -> Sequence[str]:
        (folder / "shout.py").write_text(COMMAND, encoding="utf-8")
        document = {
            "pipeline": {"name": "warm"},
            "transform": {"cmd": [sys.executable, "-S", "-E", "shout.py"], "code": "shout.py", "warm": True},
            "input": {"pfs": {"repo": "in", "glob": "/*"}},
        }
        (folder / "spec.json").write_text(json.dumps(document), encoding="utf-8")
        return (PADDOCK, "pipeline", "apply", str(folder / "spec.json"))

    return measure(settings, "warm-command", "a warm command, a line per datum", spec, per_second=5_000)


def warm_function(settings: Settings) -> Result:
    def spec(folder: Path) -> Sequence[str]:
        text = f"{FUNCTION}\n\nwith paddock.connect() as services:\n    shout.apply(services)\n"
        (folder / "shout.py").write_text(
            text.replace("\nwith", '\nif __name__ == "__main__":\n  with', 1), encoding="utf-8"
        )
        return (sys.executable, str(folder / "shout.py"))

    return measure(settings, "warm-function", "a warm Python function", spec, per_second=10_000, against_engines=True)


def measure(
    settings: Settings,
    name: str,
    what: str,
    spec: Callable[[Path], Sequence[str]],
    *,
    per_second: int,
    against_engines: bool = False,
) -> Result:
    """From committed files and an applied pipeline to the finished output, with the start of all processes."""
    count = settings.size(100_000, 2_000)
    source = settings.work / "source"
    write_files(source, count)
    apply = spec(settings.work)

    def prepare(number: int) -> Callable[[], object]:
        home = settings.work / f"home{number}"
        paddock(home, "repo", "create", "in")
        paddock(home, "put", "in@main:/", str(source))
        run(["env", f"PADDOCK_HOME={home}", *apply])
        return lambda: paddock(home, "job", "wait", "warm@head")

    samples = samples_of(settings.repeats, prepare)
    pool = samples_of(settings.repeats, lambda number: lambda: pool_all(source))
    others = {"multiprocessing.Pool, chunksize 1": median(pool), **(engines(source, count) if against_engines else {})}
    budgets = [Budget(f"<= 1 s per {per_second:,} datums", median(samples) * per_second / count, 1.0)]
    if against_engines:
        budgets += [
            Budget(f"3 x as fast as {peer}", median(samples) / others[peer], 1 / 3)
            for peer in ENGINES.values()
            if peer in others
        ]
    return Result(
        name=name,
        what=f"{count:,} files of {FILE_BYTES} bytes through {what}, from commit to finished output",
        seconds=median(samples),
        samples=samples,
        others=others,
        budgets=tuple(budgets),
        notes=peers.notes(*ENGINES),
        facts={"datums per second": count / median(samples)},
    )


def engines(source: Path, count: int) -> dict[str, float]:
    """Seconds of Ray and Dask for as many tasks, from a tenth of them; they keep nothing: no version, no output file."""
    found = {}
    for peer, shown in ENGINES.items():
        python = peers.interpreter(peer)
        if python is not None:
            program = Path(__file__).resolve().parent.parent / "engines" / f"{peer}_warm.py"
            found[shown] = 10 * seconds_said([python, str(program), str(source), str(count // 10)])
    return found


def write_files(source: Path, count: int) -> None:
    source.mkdir()
    for number in range(count):
        (source / f"f{number:07d}").write_bytes(f"{number:0{FILE_BYTES}d}".encode())


def pool_all(source: Path) -> None:
    """The peer keeps nothing: no version, no output file."""
    paths = sorted(source.iterdir())
    with multiprocessing.Pool(WORKERS) as pool:
        for _ in pool.imap_unordered(shout_file, paths, chunksize=1):
            pass


def shout_file(path: Path) -> bytes:
    return path.read_bytes().upper()
