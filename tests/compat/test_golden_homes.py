"""Homes of every release are upgraded, read fully, and extended by this one."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import make_home
import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict
from paddock.model.records import CommitState, JobState
from paddock.versions.home import FORMAT_VERSION, Home
from paddock.versions.upgrade import inspect_versions, upgrade

RELEASES = sorted(path.name.removesuffix(".tar.gz") for path in make_home.HOMES.glob("*.tar.gz"))


def unpack(release: str, target: Path) -> tuple[Path, dict[str, Any]]:
    with tarfile.open(make_home.HOMES / f"{release}.tar.gz") as archive:
        archive.extractall(target, filter="data")
    return target / "home", json.loads((make_home.HOMES / f"{release}.json").read_text(encoding="utf-8"))


def covers(found: Any, expected: Any) -> bool:
    """Equal, but records may have got fields since."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(key in found and covers(found[key], value) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(covers, found, expected))
    return bool(found == expected)


def test_covers_sees_differences() -> None:
    assert covers({"a": [1, {"b": 2, "new": 3}]}, {"a": [1, {"b": 2}]})
    assert not covers({"a": [1]}, {"a": [1, 2]})
    assert not covers({"a": 1}, {"a": 1, "b": 2})


@pytest.mark.parametrize("release", RELEASES)
def test_a_golden_home_is_read_and_extended(release: str, tmp_path: Path) -> None:
    home, expected = unpack(release, tmp_path)
    upgrade(home)
    with EmbeddedPaddock.open(home) as paddock:
        assert covers(make_home.contents(paddock), expected)
        assert b"".join(paddock.files.read("data:/big", offset=4_000_000)) == make_home.BIG[4_000_000:]
        paddock.commits.finish("lab/raw@side")
        assert b"".join(paddock.files.read("lab/raw@side:/open")) == b"not finished"
        paddock.files.delete("data:/texts/c")
        ended = {job.pipeline: job for job in paddock.process(workers=1)}
        assert {job.state for job in ended.values()} == {JobState.SUCCESS}
        assert (ended["upper"].datums.reused, ended["upper"].datums.run) == (2, 0)
        paddock.pipelines.apply(make_home.UPPER)
        assert sum(job.datums.run for job in paddock.process(workers=1)) == 0


def test_a_home_of_an_older_catalog_is_refused_until_it_is_upgraded(tmp_path: Path) -> None:
    home, _ = unpack("0.1.0-catalog-1", tmp_path)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(Conflict, match=r"schema version 1, older than version .*`paddock upgrade`"):
        Home.open(home)
    assert {path: path.read_bytes() for path in before} == before
    found = inspect_versions(home)
    assert (found.present.schema, found.current) == (1, False)
    assert upgrade(home).present.schema == 1
    assert inspect_versions(home).current
    with EmbeddedPaddock.open(home) as paddock:
        assert {commit.state for commit in paddock.commits.list("data")} == {CommitState.FINISHED}


def test_a_newer_home_is_refused_with_its_version(tmp_path: Path) -> None:
    Home.open(tmp_path / "home", create=True).close()
    file = tmp_path / "home" / "home.json"
    content = json.loads(file.read_text()) | {"format_version": FORMAT_VERSION + 7}
    file.write_text(json.dumps(content))
    command = [sys.executable, "-m", "paddock", "--home", str(tmp_path / "home"), "repo", "list"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == Conflict.exit_code
    assert f"format version {FORMAT_VERSION + 7}" in refused.stderr
    assert f"up to {FORMAT_VERSION}" in refused.stderr
    with pytest.raises(Conflict, match=f"format version {FORMAT_VERSION + 7}"):
        upgrade(tmp_path / "home")
