"""Several processes on one home, processes killed at any moment, and storage that fails at the n-th operation."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paddock.catalog.database import Catalog
from paddock.catalog.sqlite import SqliteConnection
from paddock.model.errors import LimitExceeded, PaddockError
from paddock.model.ids import Digest
from paddock.model.records import CommitState
from paddock.storage.chunks import ChunkStore
from paddock.storage.objects import LocalObjects
from paddock.storage.tables import Tables
from paddock.storage.trees import Trees
from paddock.testing.objects import FaultObjects
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.repos import RepoService

PUT_MANY = """
import sys, threading
from pathlib import Path
from paddock.versions.files import FileService
from paddock.versions.home import Home

home, prefix, threads, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
files = FileService(Home.open(home))
print("ready", flush=True)
sys.stdin.readline()

def work(thread):
    for number in range(rounds):
        files.put(f"data:/{prefix}/{thread}/{number}", f"{prefix} {thread} {number}".encode())
        print(f"/{prefix}/{thread}/{number}", flush=True)

workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
"""

CREATE = """
import sys
from pathlib import Path
from paddock.versions.home import Home
from paddock.versions.repos import RepoService

print("ready", flush=True)
sys.stdin.readline()
home = Home.open(Path(sys.argv[1]), create=True)
RepoService(home).create(sys.argv[2])
print(home.id, flush=True)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open(tmp_path / "home", create=True) as opened:
        RepoService(opened).create("data")
        yield opened


def _start(code: str, *calls: tuple[object, ...]) -> list[subprocess.Popen[str]]:
    """A process for each call's arguments; all have imported what they need before the first begins."""
    processes = []
    for arguments in calls:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def _content(home: Home, ref: str = "main") -> dict[str, bytes]:
    files = FileService(home)
    found = files.list(f"data@{ref}:/", recursive=True)
    return {info.path: b"".join(files.read(f"data@{ref}:{info.path}")) for info in found}


def test_processes_that_make_one_home_at_once_agree_on_it(tmp_path: Path) -> None:
    processes = _start(CREATE, *((tmp_path / "home", f"repo{number}") for number in range(4)))
    ids = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    with Home.open(tmp_path / "home") as home:
        assert ids == {home.id + "\n"}
        assert [repo.name for repo in RepoService(home).list()] == ["repo0", "repo1", "repo2", "repo3"]


def test_parallel_puts_of_several_processes_are_all_seen(home: Home) -> None:
    processes = _start(PUT_MANY, *((home.path, f"p{number}", 5, 2) for number in range(3)))
    printed = "".join(process.communicate(timeout=120)[0] for process in processes).split()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(printed) == 30
    assert sorted(_content(home)) == sorted(printed)
    history = CommitService(home).list("data@main")
    assert len(history) == 30
    assert [commit.files for commit in history] == list(range(30, 0, -1))


def test_parallel_writes_to_an_open_commit_are_all_in_it(home: Home) -> None:
    CommitService(home).start("data")
    files = FileService(home)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            files.put(f"data:/{number}", str(number).encode())
            files.put("data:/log", b"x", append=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    CommitService(home).finish("data")
    expected = {f"/{number}": str(number).encode() for number in range(12)}
    assert _content(home) == expected | {"/log": b"x" * 12}


@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_while_it_puts_loses_nothing_that_it_reported(home: Home, seed: int) -> None:
    (process,) = _start(PUT_MANY, (home.path, "p", 2, 1000))
    assert process.stdout is not None
    reported = [process.stdout.readline().strip() for _ in range(random.Random(seed).randrange(1, 12))]
    process.kill()
    reported += process.stdout.read().split("\n")[:-1]
    process.communicate()
    with Home.open(home.path) as reopened:
        content = _content(reopened)
        assert set(reported) <= set(content)
        assert len(content) <= len(reported) + 2
        assert all(data.decode() == path[1:].replace("/", " ") for path, data in content.items())
        history = CommitService(reopened).list("data")
        assert {commit.state for commit in history} == {CommitState.FINISHED}
        assert [commit.files for commit in history] == list(range(len(content), 0, -1))
        FileService(reopened).put("data:/after", b"it goes on")


def test_a_fault_at_any_storage_operation_leaves_the_old_head_or_the_new_one(home: Home) -> None:
    FileService(home).put("data:/a", b"old")
    failed = 0
    for fail_at in range(1, 40):
        for after in (False, True):
            before = _content(home)
            head = BranchService(home).inspect("data@main").head
            faulty = Home.open(home.path)
            objects = FaultObjects(LocalObjects(home.path / "objects"), fail_at=fail_at, after=after)
            faulty.chunks = ChunkStore(objects, home.chunks.index, chunking=home.chunking)
            path, data = f"/n{fail_at}{after}", b"new" * 1000 + str(fail_at).encode()
            try:
                FileService(faulty).put(f"data:{path}", data)
            except PaddockError:
                failed += 1
                assert BranchService(home).inspect("data@main").head == head
                assert _content(home) == before
            else:
                assert _content(home) == before | {path: data}
            faulty.close()
        if BranchService(home).inspect("data@main").head != head:
            break
    assert failed > 2


def test_a_lost_race_is_run_again_on_the_new_head(home: Home) -> None:
    files = FileService(home)
    files.put("data:/log", b"first ")
    overtaken = _OvertakenStream(b"second", lambda: files.put("data:/log", b"between ", append=True))
    files.put("data:/log", overtaken, append=True)
    assert _content(home) == {"/log": b"first between second"}


def test_a_branch_that_gets_an_open_commit_meanwhile_takes_the_write_there(home: Home) -> None:
    files, versions = FileService(home), CommitService(home)
    files.put("data:/a", b"1")
    opened = []
    stream = _OvertakenStream(b"2", lambda: opened.append(versions.start("data").id))
    report = files.put("data:/a", stream, append=True)
    assert [report.commit] == opened
    assert _content(home) == {"/a": b"1"}
    versions.finish("data")
    assert _content(home) == {"/a": b"12"}


def test_finishing_takes_in_what_is_written_at_the_last_moment(home: Home) -> None:
    files, versions = FileService(home), CommitService(home)
    opened = versions.start("data")
    files.put("data:/a", b"1")
    with Home.open(home.path) as slow:
        slow.trees = _OvertakenTrees(home.tables, lambda: files.put(f"data@{opened.id}:/b", b"2"))
        assert CommitService(slow).finish("data").files == 2
    assert _content(home) == {"/a": b"1", "/b": b"2"}


def test_a_full_catalog_disk_is_a_limit_and_the_head_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    FileService(home).put("data:/a", b"1")
    before = _content(home)

    def full(self: SqliteConnection) -> None:
        self.rollback()
        raise LimitExceeded("no space left on the disk that holds the catalog")

    monkeypatch.setattr(SqliteConnection, "commit", full)
    with pytest.raises(LimitExceeded):
        FileService(home).put("data:/b", b"2")
    monkeypatch.undo()
    assert _content(home) == before


def test_a_writer_that_holds_the_catalog_does_not_stop_readers(home: Home) -> None:
    FileService(home).put("data:/a", b"1")
    other = Catalog.open(home.path / "catalog.db")
    with other.write() as tx:
        tx.execute("UPDATE repos SET description = 'being changed'")
        assert _content(home) == {"/a": b"1"}
        assert RepoService(home).inspect("data").description == ""
    other.close()
    assert RepoService(home).inspect("data").description == "being changed"


class _OvertakenTrees(Trees):
    """Trees that let another writer go first, once, after an open commit was merged."""

    def __init__(self, tables: Tables, overtake: Callable[[], object]) -> None:
        super().__init__(tables)
        self._overtake: Callable[[], object] | None = overtake

    def totals(self, root: Digest) -> tuple[int, int]:
        overtake, self._overtake = self._overtake, None
        if overtake is not None:
            overtake()
        return super().totals(root)


class _OvertakenStream:
    """A stream that lets another writer go first, after its own write has seen the branch."""

    def __init__(self, data: bytes, overtake: Callable[[], object]) -> None:
        self._data = data
        self._overtake = overtake

    def read(self, size: int = -1, /) -> bytes:
        data, self._data = self._data, b""
        if data:
            self._overtake()
        return data
