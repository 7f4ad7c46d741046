"""Puts and finishes that die, or find the disk full, at every operation: the old head stays or the new one is there."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from paddock.catalog.sqlite import SqliteConnection
from paddock.model.errors import Corrupt, LimitExceeded, Unavailable
from paddock.model.records import CommitState
from paddock.testing.disks import Crash, RecordedDisk, failing_operations
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.repos import RepoService

DISK = [(os, name) for name in ("write", "fsync", "rename", "mkdir")]
CATALOG = [(SqliteConnection, name) for name in ("begin_write", "commit")]
OLD = {"/a": b"old" * 1000, "/gone": b"to be removed"}
NEW = {"/a": b"new" * 1000, "/b": b"also new"}


def put_a_tree(home: Home, source: Path) -> None:
    FileService(home).put_tree("data", source, mirror=True)


def finish_an_open_commit(home: Home, source: Path) -> None:
    commits, files = CommitService(home), FileService(home)
    commits.start("data")
    put_a_tree(home, source)
    files.put("data:/b", NEW["/b"])
    commits.finish("data")


SCENARIOS = pytest.mark.parametrize("scenario", [put_a_tree, finish_an_open_commit])


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template"
    with Home.open(path, create=True) as home:
        RepoService(home).create("data")
        for name, data in OLD.items():
            FileService(home).put(f"data:{name}", data)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    for name, data in NEW.items():
        (path / name[1:]).write_bytes(data)
    return path


def content(home: Home) -> dict[str, bytes]:
    files = FileService(home)
    return {info.path: b"".join(files.read(f"data:{info.path}")) for info in files.list("data", recursive=True)}


@SCENARIOS
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("targets", [DISK, CATALOG], ids=["disk", "catalog"])
def test_a_death_at_any_operation_loses_and_doubles_nothing(
    template: Path,
    source: Path,
    tmp_path: Path,
    targets: list[tuple[object, str]],
    scenario: Callable[[Home, Path], None],
    *,
    after: bool,
) -> None:
    seen = set()
    for fail_at in itertools.count(1):
        path = tmp_path / "home"
        shutil.copytree(template, path)
        home = Home.open(path)
        with failing_operations(targets, fail_at=fail_at, after=after) as called:
            try:
                scenario(home, source)
            except Crash:
                pass
        home.close()
        with Home.open(path) as reopened:
            found = content(reopened)
            assert found in (OLD, NEW)
            seen.add(found == NEW)
            commits = CommitService(reopened).list("data")
            finished = [commit for commit in commits if commit.state == CommitState.FINISHED]
            assert len(finished) == (3 if found == NEW else 2)
            if any(commit.state == CommitState.OPEN for commit in commits):
                CommitService(reopened).abandon("data")
            put_a_tree(reopened, source)
            assert content(reopened) == NEW
        shutil.rmtree(path)
        if len(called) < fail_at:
            break
    assert seen == {False, True}
    assert fail_at > 4


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@SCENARIOS
def test_a_full_disk_at_any_write_is_named_and_leaves_the_head(
    template: Path, source: Path, tmp_path: Path, scenario: Callable[[Home, Path], None]
) -> None:
    failed = 0
    for fail_at in itertools.count(1):
        path = tmp_path / "home"
        shutil.copytree(template, path)
        with Home.open(path) as home:
            error = None
            with failing_operations(DISK, fail_at=fail_at, after=False, error=full) as called:
                try:
                    scenario(home, source)
                except LimitExceeded as limit:
                    error = limit
            if error is not None:
                failed += 1
                assert "disk is full" in str(error) or "no space left" in str(error)
                assert content(home) == OLD
            if CommitService(home).list("data")[0].state == CommitState.OPEN:
                CommitService(home).abandon("data")
            put_a_tree(home, source)
            assert content(home) == NEW
        shutil.rmtree(path)
        if len(called) < fail_at:
            break
    assert failed > 2


def test_a_full_disk_under_the_catalog_is_named(template: Path) -> None:
    with Home.open(template) as home:
        with home.catalog.write() as tx:
            ((pages,),) = tx.all("PRAGMA page_count")
        connection = home.catalog._take()
        connection.rows(f"PRAGMA max_page_count = {pages}")
        home.catalog._give_back(connection)
        with pytest.raises(LimitExceeded, match="no space left on the disk that holds catalog"):
            RepoService(home).create("more", description="x" * 1_000_000)
        assert content(home) == OLD


# ---- power -------------------------------------------------------------------------------------------------


def restored(template: Path, catalog: Path, survivors: dict[str, bytes | None], home: Path, target: Path) -> Home:
    """The home as the disk would give it back: what was there before, what was synced, and the catalog as committed."""
    shutil.copytree(template, target)
    shutil.copyfile(catalog, target / "catalog.db")
    for name, data in survivors.items():
        place = target / Path(name).relative_to(home)
        if data is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(data)
    return Home.open(target)


@SCENARIOS
@pytest.mark.parametrize("honest", [True, False], ids=["honest disk", "lying disk"])
def test_what_is_visible_survives_a_power_cut(
    template: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[Home, Path], None],
    *,
    honest: bool,
) -> None:
    path = tmp_path / "home"
    shutil.copytree(template, path)
    home = Home.open(path)
    disk = RecordedDisk(path, ignore_syncs=not honest)
    snapshots: list[tuple[Path, dict[str, bytes | None]]] = []
    commit = SqliteConnection.commit

    def committed(connection: SqliteConnection) -> None:
        """Whenever something becomes visible, keep what a power cut in this moment would leave."""
        commit(connection)
        catalog = tmp_path / f"cut{len(snapshots)}.db"
        with closing(sqlite3.connect(path / "catalog.db")) as source, closing(sqlite3.connect(catalog)) as copy:
            source.backup(copy)
        snapshots.append((catalog, disk.survivors()))

    with monkeypatch.context() as patch, disk.recording():
        patch.setattr(SqliteConnection, "commit", committed)
        scenario(home, source)
    home.close()
    lost, heads = 0, []
    for number, (catalog, survivors) in enumerate(snapshots):
        with restored(template, catalog, survivors, path, tmp_path / f"after{number}") as reopened:
            try:
                heads.append(content(reopened))
            except Corrupt:
                lost += 1
    if honest:
        assert lost == 0
        assert heads[-1] == NEW
        assert all(head in (OLD, NEW) for head in heads)
    else:
        assert lost > 0


def test_the_catalog_syncs_each_commit(template: Path) -> None:
    with Home.open(template) as home, home.catalog.write() as tx:
        full = 2
        assert tx.all("PRAGMA synchronous") == [(full,)]
        assert tx.all("PRAGMA journal_mode") == [("wal",)]


# ---- clocks ------------------------------------------------------------------------------------------------


def test_clocks_that_jump_change_no_order(tmp_path: Path) -> None:
    times = iter([5e9, 1e9, 4e9, 0.0, 3e9, 1.0, *itertools.repeat(7.0, 100)])
    with Home.open(tmp_path / "home", create=True, clock=lambda: next(times)) as home:
        RepoService(home).create("data")
        put = [FileService(home).put("data:/a", bytes([number])).commit for number in range(5)]
        CommitService(home).start("data")
        FileService(home).put("data:/b", b"open")
        put.append(CommitService(home).finish("data").id)
        history = CommitService(home).list("data@main")
        assert [commit.id for commit in history] == put[::-1]
        assert [commit.id for commit in CommitService(home).list("data")] == put[::-1]
        assert [item.id for item in CommitService(home).list_sets()] == put[::-1]
        assert content(home) == {"/a": bytes([4]), "/b": b"open"}


def test_a_store_that_answers_badly_once_is_asked_again_by_the_caller(template: Path) -> None:
    with Home.open(template) as home:
        with (
            failing_operations([(os, "pread")], fail_at=1, after=False, error=lambda: OSError(errno.EAGAIN, "later")),
            pytest.raises(Unavailable),
        ):
            content(home)
        assert content(home) == OLD
