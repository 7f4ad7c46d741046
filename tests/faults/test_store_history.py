"""Commits that leave history while others read them, and deaths while they leave."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.catalog.sqlite import SqliteConnection
from paddock.model.errors import PaddockError
from paddock.runtime.garbage import collect_garbage
from paddock.testing.disks import Crash, failing_operations
from paddock.testing.versions import add_pipeline, succeed, waiting_jobs
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.history import drop, squash
from paddock.versions.home import Home
from paddock.versions.repos import RepoService

OPERATIONS = [(SqliteConnection, name) for name in ("begin_write", "execute", "executemany", "commit")]
BIG = bytes(range(256)) * 40_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open(tmp_path / "home", create=True) as opened:
        RepoService(opened).create("data")
        yield opened


def test_a_reader_goes_on_while_its_commit_is_squashed_and_collected(home: Home) -> None:
    files = FileService(home)
    files.put("data:/big", BIG)
    files.put("data:/big", b"small")
    pieces = files.read("data@main^:/big")
    first = next(pieces)
    (gone,) = squash(home, "data@main^")
    collect_garbage(home, grace_seconds=0, wait_seconds=0)
    assert first + b"".join(pieces) == BIG
    with pytest.raises(PaddockError, match=gone.id):
        files.read(f"data@{gone.id}:/big")
    report = collect_garbage(home, grace_seconds=0, wait_seconds=0)
    kept = sum(path.stat().st_size for path in (home.path / "objects" / "packs").glob("??/*"))
    assert kept < 10_000, report
    assert b"".join(files.read("data:/big")) == b"small"


def test_the_bytes_of_a_dropped_commit_come_free(home: Home) -> None:
    files = FileService(home)
    files.put("data:/small", b"small")
    files.put("data:/big", BIG)
    drop(home, "data@main")
    collect_garbage(home, grace_seconds=0, wait_seconds=0)
    collect_garbage(home, grace_seconds=0, wait_seconds=0)
    assert sum(path.stat().st_size for path in (home.path / "objects" / "packs").glob("??/*")) < 10_000
    assert [info.path for info in files.list("data")] == ["/small"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_leaves_the_whole_set_or_none_of_it(home: Home, tmp_path: Path, *, after: bool) -> None:
    add_pipeline(home, "p", ["data@main"])
    sets = []
    for number in range(3):
        sets.append(FileService(home).put("data:/a", bytes([number])).commit)
        succeed(home, waiting_jobs(home)[0])
    home.close()
    seen = set()
    for fail_at in itertools.count(1):
        path = tmp_path / f"copy{fail_at}"
        shutil.copytree(home.path, path)
        with Home.open(path) as copy:
            with failing_operations(OPERATIONS, fail_at=fail_at, after=after) as called:
                try:
                    squash(copy, str(sets[1]))
                    drop(copy, str(sets[2]))
                except Crash:
                    pass
            left = {repo: [commit.id for commit in CommitService(copy).list(repo)][::-1] for repo in ("data", "p")}
            assert left["data"] == left["p"]
            assert left["data"] in (sets, [sets[0], sets[2]], [sets[0]])
            for repo in left:
                assert CommitService(copy).list(f"{repo}@main")[0].id == left[repo][-1]
            assert b"".join(FileService(copy).read("data:/a")) == bytes([sets.index(left["data"][-1])])
            seen.add(len(left["data"]))
        shutil.rmtree(path)
        if len(called) < fail_at:
            break
    assert seen == {1, 2, 3}


def test_puts_beside_squashes_lose_nothing(home: Home) -> None:
    """The history of a branch that is written to shrinks behind the head."""
    files = FileService(home)
    files.put("data:/log", b"")
    failures: list[BaseException] = []
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(25):
                files.put("data:/log", b"%d " % number, append=True)
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    squashed = 0
    while not done.is_set() or squashed == 0:
        for commit in CommitService(home).list("data@main")[1:]:
            squash(home, f"data@{commit.id}")
            squashed += 1
    writer.join()
    assert failures == []
    assert b"".join(files.read("data:/log")) == b"".join(b"%d " % number for number in range(25))
