"""`make demo`: Paddock's main job on real pictures, in under a minute.

Runs the OpenCV example (examples/opencv) as a user would, through the `paddock` command: all pictures, then
one added and one changed, then one worker against all cores. Everything is left in demo-output/ to look at.
The exit code is 0 when each step did what it claims; otherwise 1, with a line that says what did not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "opencv"
OUTPUT = ROOT / "demo-output"
MARKER = "made-by-the-paddock-demo"
LATER = "rocket.jpg"
CHANGED = "coffee.png"
FIRST = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    CHANGED,
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
)


class DemoError(Exception):
    """A step did not do what the demo says it does."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Words to the person who watches; coloured on a terminal only."""

    colour: bool

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.say()
        self.say(f"\033[1;36m{text}\033[0m" if self.colour else text)

    def command(self, words: Sequence[str]) -> None:
        line = "$ " + " ".join(words)
        self.say(f"\033[2m{line}\033[0m" if self.colour else line)


@dataclass(frozen=True, slots=True)
class Runner:
    """Starts `paddock` in demo-output/, with this environment's Python first on PATH for the scripts."""

    screen: Screen
    paddock: str = str(Path(sys.executable).with_name("paddock"))

    def environment(self, home: str) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
        return kept | {"PATH": path, "PADDOCK_HOME": str(OUTPUT / home)}

    def show(self, *arguments: str) -> None:
        """Run a command in front of the user, with its own progress and summary."""
        self.screen.command(["paddock", *arguments])
        finished = subprocess.run([self.paddock, *arguments], cwd=OUTPUT, env=self.environment(".paddock"), check=False)
        if finished.returncode:
            raise DemoError(f"paddock {arguments[0]} ended with exit code {finished.returncode}; see above")

    def ask(self, *arguments: str, home: str = ".paddock") -> Any:
        """The JSON document of a command that is run out of sight."""
        finished = subprocess.run(
            [self.paddock, *arguments, "--json"],
            cwd=OUTPUT,
            env=self.environment(home),
            check=False,
            capture_output=True,
            text=True,
        )
        if finished.returncode:
            raise DemoError(f"paddock {' '.join(arguments)} failed:\n{finished.stderr.strip()}")
        return json.loads(finished.stdout)

    def newest_job(self, pipeline: str) -> dict[str, Any]:
        job: dict[str, Any] = self.ask("job", "inspect", f"{pipeline}@head")
        return job


def prepare(screen: Screen) -> None:
    """A fresh demo-output/ with specs and pictures. Only a folder that an earlier demo made is replaced."""
    if OUTPUT.exists() and any(OUTPUT.iterdir()) and not (OUTPUT / MARKER).exists():
        raise DemoError(f"{OUTPUT} exists and was not made by the demo; move it away and run `make demo` again")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    (OUTPUT / MARKER).write_text("`make demo` replaces this folder.\n")
    shutil.copyfile(EXAMPLE / "edges.yaml", OUTPUT / "edges.yaml")
    shutil.copyfile(EXAMPLE / "montage.yaml", OUTPUT / "montage.yaml")
    shutil.copytree(EXAMPLE / "code", OUTPUT / "code", ignore=shutil.ignore_patterns("__pycache__"))
    copy_pictures("images", FIRST)
    copy_pictures("later", (LATER,))
    screen.say(f"{len(FIRST)} photographs that come with scikit-image are in demo-output/images.")


def copy_pictures(folder: str, names: Sequence[str]) -> None:
    words = [sys.executable, str(EXAMPLE / "pictures.py"), str(OUTPUT / folder), *names]
    subprocess.run(words, check=True)


def run_arguments(*more: str) -> list[str]:
    return ["run", "edges.yaml", "montage.yaml", "--input", "images=images", *more]


def first_run(runner: Runner) -> float:
    """All pictures on all cores. Returns how many seconds the edges job took."""
    runner.screen.title("1. A folder of pictures, two scripts: the outlines of each picture, then one montage")
    runner.show(*run_arguments("--output", "edges=edges", "--output", "montage=montage"))
    job = runner.newest_job("edges")
    counts = job["datums"]
    expect(counts["run"] == counts["total"] == len(FIRST), f"each picture should have been computed: {counts}")
    return float(job["seconds"])


def second_run(runner: Runner) -> None:
    runner.screen.title(f"2. {LATER} is added and {CHANGED} is mirrored; the same command again")
    shutil.copyfile(OUTPUT / "later" / LATER, OUTPUT / "images" / LATER)
    with Image.open(OUTPUT / "images" / CHANGED) as picture:
        mirrored = ImageOps.mirror(picture)
    mirrored.save(OUTPUT / "images" / CHANGED)
    runner.show(*run_arguments("--output", "edges=edges", "--output", "montage=montage"))
    counts = runner.newest_job("edges")["datums"]
    expect(counts["run"] == 2 and counts["reused"] == len(FIRST) - 1, f"only 2 should have run: {counts}")
    runner.screen.say(f"edges: {counts['run']} pictures computed, {counts['reused']} reused. What changed:")
    runner.show("diff", "edges@main")


def lineage(runner: Runner) -> None:
    runner.screen.title("3. Where a result came from")
    runner.show("why", f"edges@main:/{Path(LATER).stem}.png")


def compare(runner: Runner, all_cores_seconds: float) -> None:
    """The work of step 1 by one worker, in a home and on pictures of its own, so that nothing is reused."""
    screen = runner.screen
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        screen.title("4. This machine offers one core, so one worker can't be compared with many")
        return
    screen.title(f"4. The work of step 1 again from nothing, by one worker instead of {cores}")
    copy_pictures("again", FIRST)
    arguments = ("edges.yaml", "montage.yaml", "--input", "images=again", "-j", "1")
    screen.command(["paddock", "--home", "compare", "run", *arguments])
    summary = runner.ask("run", *arguments, home="compare")
    one_seconds = next(job["seconds"] for job in summary["jobs"] if job["pipeline"].endswith("edges"))
    screen.say(
        f"edges took {one_seconds:.1f} s with one worker and {all_cores_seconds:.1f} s with {cores}: "
        f"{one_seconds / all_cores_seconds:.2f} times as fast."
    )
    for folder in ("compare", "again", "later"):
        shutil.rmtree(OUTPUT / folder, ignore_errors=True)


def farewell(screen: Screen, seconds: float) -> None:
    activate = Path(sys.executable).with_name("activate")
    shown = activate.relative_to(ROOT) if activate.is_relative_to(ROOT) else activate
    screen.title(f"Done in {seconds:.0f} s. Look at demo-output/montage/montage.png. What to type next:")
    for line in (
        f". {shown}",
        "cd demo-output",
        "paddock pipeline list",
        "paddock datum list edges@head",
        "paddock map images -o outlines -- python3 code/edges/edges.py {in} {out}",
        "paddock --help",
    ):
        screen.say(f"  {line}")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoError(otherwise)


def main() -> int:
    screen = Screen(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    started = time.monotonic()
    try:
        prepare(screen)
        runner = Runner(screen)
        all_cores_seconds = first_run(runner)
        second_run(runner)
        lineage(runner)
        compare(runner, all_cores_seconds)
    except DemoError as failure:
        print(f"the demo stopped: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("the demo was interrupted; demo-output/ holds what was done so far", file=sys.stderr)
        return 130
    farewell(screen, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
