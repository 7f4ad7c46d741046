"""Directories that other processes walk: the same as walking them here, and no loss where a process fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput
from paddock.storage import scan_ahead
from paddock.storage.scan import Scan, scan_source
from paddock.storage.scan_ahead import expect_scan, take_scan


def columns(scan: Scan) -> list[object]:
    stamps = scan.stamps
    arrays = (stamps.size, stamps.mtime_ns, stamps.ctime_ns, stamps.inode, stamps.executable)
    return [scan.source, scan.paths, *(array.tolist() for array in arrays)]


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
    here = scan_source(source)

    expect_scan(source)
    processes = list(scan_ahead._started[str(source)])
    ahead = scan_source(source)

    assert len(processes) == 2
    assert all(process.returncode == 0 for process in processes)
    assert columns(ahead) == columns(here)
    assert ahead.paths == sorted(ahead.paths)
    assert take_scan(str(source), 4096) is None  # it was taken


def test_a_scan_ahead_finds_the_same_problems(source: Path) -> None:
    os.mkfifo(source / "c" / "pipe")
    (source / "dangling").symlink_to("nowhere")
    with pytest.raises(InvalidInput) as here:
        scan_source(source)

    expect_scan(source)
    with pytest.raises(InvalidInput) as ahead:
        scan_source(source)

    assert len(ahead.value.problems) == 3  # the pipe also by way of the link
    assert (ahead.value.message, ahead.value.problems) == (here.value.message, here.value.problems)


def test_a_process_that_dies_costs_only_time(source: Path) -> None:
    expect_scan(source)
    for process in scan_ahead._started[str(source)]:
        process.kill()

    assert columns(scan_source(source)) == columns(scan_source(source))


def test_paths_that_the_target_makes_too_long_are_refused(source: Path) -> None:
    expect_scan(source)

    with pytest.raises(InvalidInput, match="2 entries"):
        scan_source(source, path_bytes_max=7)


def test_a_flat_directory_is_walked_by_one_process(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").touch()

    expect_scan(tmp_path)

    assert len(scan_ahead._started[str(tmp_path)]) == 1
    assert len(scan_source(tmp_path)) == 600


def test_small_or_missing_directories_start_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for place in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        expect_scan(place)

    assert not {str(tmp_path), str(tmp_path / "file"), str(tmp_path / "missing")} & set(scan_ahead._started)
