"""Directories that other processes walk: the same as walking them here, and no loss where a process fails.

The processes are forks, which a test process with its threads must not have. So each test is a program of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
from paddock.storage import scan_ahead
from paddock.storage.scan_ahead import expect_scan, take_scan

source = Path(sys.argv[1])

def begun(place=source):
    expect_scan(place)
    return [walker.pid for walker in scan_ahead._started.get(str(place), [])]

def rest():
    # It brings in numpy, which has threads.
    from paddock.storage.scan import scan_source
    return scan_source

def columns(scan):
    stamps = scan.stamps
    arrays = (stamps.size, stamps.mtime_ns, stamps.ctime_ns, stamps.inode, stamps.executable)
    return [scan.source, scan.paths, *(array.tolist() for array in arrays)]

def problems(call, *arguments, **options):
    from paddock.model.errors import InvalidInput
    try:
        call(*arguments, **options)
    except InvalidInput as error:
        return [error.message, *error.problems]
    raise SystemExit("nothing was refused")
"""


def run(source: Path, program: str) -> str:
    """What a program prints that continues PROGRAM."""
    words = [sys.executable, "-c", PROGRAM + program, str(source)]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Names that sort differently by directory and by path, a link, an empty directory, and one that is skipped."""
    root = tmp_path / "source"
    for name in ("b", "a/x", "a-b", "a.d/y", "ä/z", "c/d/e/f", "0"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "a" / "x").chmod(0o755)
    (root / "empty").mkdir()
    (root / ".paddock").mkdir()
    (root / ".paddock" / "catalog.db").touch()
    (root / "link").symlink_to("c")
    return root


def test_a_scan_ahead_is_the_scan(source: Path) -> None:
    run(
        source,
        """
assert len(begun()) == 2
scan_source = rest()
ahead, here = scan_source(source), scan_source(source)
assert columns(ahead) == columns(here)
assert len(ahead.paths) == 8
assert ahead.paths == sorted(ahead.paths)
assert take_scan(str(source), 4096) is None, "it was taken"
""",
    )


def test_a_scan_ahead_finds_the_same_problems(source: Path) -> None:
    os.mkfifo(source / "c" / "pipe")
    (source / "dangling").symlink_to("nowhere")

    shown = run(
        source,
        """
begun()
scan_source = rest()
ahead, here = problems(scan_source, source), problems(scan_source, source)
assert ahead == here
print(len(here) - 1)
""",
    )

    assert shown == "3\n"  # the pipe also by way of the link


def test_a_process_that_dies_costs_only_time(source: Path) -> None:
    run(
        source,
        """
for pid in begun():
    os.kill(pid, signal.SIGKILL)
scan_source = rest()
assert columns(scan_source(source)) == columns(scan_source(source))
""",
    )


def test_paths_that_the_target_makes_too_long_are_refused(source: Path) -> None:
    shown = run(source, "begun()\nprint(problems(rest(), source, path_bytes_max=7)[0])")

    assert "2 entries" in shown


def test_a_flat_directory_is_walked_by_one_process(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").touch()

    run(tmp_path, "assert len(begun()) == 1\nassert len(rest()(source)) == 600")


def test_small_or_missing_directories_start_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    run(tmp_path, "assert not any(begun(place) for place in (source, source / 'file', source / 'missing'))")


def test_a_program_with_threads_is_not_forked(source: Path) -> None:
    run(
        source,
        """
done = threading.Event()
other = threading.Thread(target=done.wait)
other.start()
assert not begun()
done.set()
other.join()
assert len(rest()(source)) == 8
""",
    )
