"""What the README and the tutorial show is what happens.

The `console` blocks of a page are one session in an empty folder. Lines that start with `$ ` are commands (a
backslash carries them on); the lines after a command are its standard output, compared exactly but for ids,
times and durations. A block whose first line is `# file: NAME` is written to that file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/tutorial.md")
LINKED = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# file: (?P<name>\S+)\n(?P<content>.*)", re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
CHANGING = (
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,31}\b"), "<short id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)?"), "<time>"),
    (re.compile(r"\b(just now|a few seconds ago|\d+ (s|seconds?|minutes?) ago)"), "<ago>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms)\b"), "<duration>"),
    (re.compile(r"\b\d+(\.\d+)?/s\b"), "<rate>"),
    (re.compile(r"[ \t]+"), " "),
)
END = "\x1e"


@dataclass(frozen=True)
class Command:
    text: str
    output: str
    line: int


def steps_of(page: str) -> list[Command | tuple[str, str]]:
    """Commands with their outputs, and (name, content) of files to write, in the page's order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    steps: list[Command | tuple[str, str]] = []
    for block in BLOCK.finditer(text):
        file = FILE.fullmatch(block["body"])
        if file:
            steps.append((file["name"], file["content"]))
        elif block["language"] == "console":
            steps += commands_of(block["body"], text.count("\n", 0, block.start("body")) + 1)
    return steps


def commands_of(body: str, first_line: int) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(body.splitlines()):
        if line.startswith("$ "):
            found.append(Command(line[2:], "", first_line + number))
        elif found and found[-1].text.endswith("\\"):
            found[-1] = Command(f"{found[-1].text}\n{line}", "", found[-1].line)
        else:
            assert found, f"line {first_line + number}: a console block starts with a command"
            found[-1] = Command(found[-1].text, f"{found[-1].output}{line}\n", found[-1].line)
    return found


def stable(output: str) -> list[str]:
    for pattern, replacement in CHANGING:
        output = pattern.sub(replacement, output)
    return [line.rstrip() for line in output.rstrip().splitlines()]


def script_of(steps: list[Command | tuple[str, str]]) -> str:
    """One shell script for the session: a mark before each command tells the outputs apart."""
    lines = []
    for step in steps:
        if isinstance(step, Command):
            lines += [f"printf '\\036'; {step.text}"]
        else:
            name, content = step
            lines += [f"mkdir -p \"$(dirname '{name}')\"; cat > '{name}' <<'END OF FILE'\n{content}END OF FILE"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES)
def test_shown_output_is_what_happens(page: str, tmp_path: Path) -> None:
    steps = steps_of(page)
    commands = [step for step in steps if isinstance(step, Command)]
    assert commands, f"{page} shows no session"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    work = tmp_path / "work"
    work.mkdir()

    finished = subprocess.run(
        ["bash"],
        input=script_of(steps),
        cwd=work,
        env=kept | {"HOME": str(tmp_path), "PATH": path, "LC_ALL": "C.UTF-8", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )

    outputs = finished.stdout.split(END)[1:]
    assert len(outputs) == len(commands), finished.stderr
    for command, output in zip(commands, outputs, strict=True):
        place = f"{page}:{command.line}: {command.text}\n{finished.stderr}"
        assert stable(output) == stable(command.output), place


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    local = (link["target"] for link in LINK.finditer(text) if "://" not in link["target"])

    missing = [target for target in local if not (ROOT / page).parent.joinpath(target).exists()]

    assert not missing, f"{page} links to files that do not exist"


def test_make_targets_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for page in LINKED:
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
        assert named <= targets, f"{page} names a target that the Makefile does not have"
