"""A collection that is cut off anywhere leaves a valid home; the next one ends what it began. Writers beside it lose nothing."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddock.catalog.database import Catalog, Transaction
from paddock.catalog.sqlite import SqliteEngine
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import PaddockError, Unavailable
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage
from paddock.storage.chunks import DetachedWriter
from paddock.storage.objects import LocalObjects
from paddock.testing.objects import FaultObjects
from paddock.versions.home import Home

KEPT = {f"/{name}": random.Random(name).randbytes(40_000) for name in range(10)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with packs of every fate: in use, unused, sparse, orphan, unfinished; and a collection's memory from before."""
    place = tmp_path_factory.mktemp("template")
    source = place / "source"
    source.mkdir()
    for path, content in KEPT.items():
        (source / path[1:]).write_bytes(content)
    with EmbeddedPaddock.open(place / "home") as paddock:
        paddock.repos.create("kept")
        paddock.repos.create("gone")
        paddock.files.put_tree("gone@main", source)
        for name in range(3):
            paddock.files.copy(f"gone@main:/{name}", f"kept@main:/{name}")
        for name in range(3, 10):
            paddock.files.put(f"kept@main:/other/{name}", KEPT[f"/{name}"][::-1])
        paddock.files.put("gone@main:/more", random.Random(1).randbytes(400_000))
        collect_garbage(paddock.home, dry_run=True)
        paddock.repos.delete("gone")
        with DetachedWriter(paddock.home.objects) as writer:
            writer.put(b"orphan" * 100)
            writer.flush()
        paddock.home.objects.create("packs/aa/aa").write(b"half")
    return place / "home"


def assert_whole(path: Path) -> None:
    """All that commits hold can be read, byte for byte."""
    with EmbeddedPaddock.open(path) as paddock:
        report = check_store(paddock.home, data=True)
        assert report.sound, report.damages
        for name in range(10):
            where, content = f"/{name}", KEPT[f"/{name}"]
            if name >= 3:
                where, content = f"/other/{name}", content[::-1]
            assert b"".join(paddock.files.read(f"kept@main:{where}")) == content


def assert_clean_after_another(path: Path) -> None:
    with Home.open(path) as home:
        collect_garbage(home, grace_seconds=0)
        assert collect_garbage(home, grace_seconds=0).garbage == ()
        assert list(home.objects.unfinished()) == []
    assert_whole(path)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_each_operation_on_the_objects_fails_once(template: Path, tmp_path: Path, after: bool) -> None:
    for number in range(1, 200):
        path = tmp_path / str(number)
        shutil.copytree(template, path)
        with Home.open(path) as home:
            faults = FaultObjects(LocalObjects(path / "objects"), fail_at=number, after=after)
            home.__dict__["objects"] = faults
            try:
                collect_garbage(home, grace_seconds=0)
            except PaddockError:
                pass
            reached = faults.count >= number
        assert_whole(path)
        if number % 3 == 0:
            assert_clean_after_another(path)
        shutil.rmtree(path)
        if not reached:
            break
    assert number > 15, "the scenario works on the store"


class FailingCatalog(Catalog):
    """Fails the n-th write transaction: before it begins, or after it has been committed."""

    fail_at = 0
    after = False
    count = 0

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        self.count += 1
        if self.count == self.fail_at and not self.after:
            raise Unavailable("injected fault")
        with super().write() as tx:
            yield tx
        if self.count == self.fail_at:
            raise Unavailable("injected fault")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_each_transaction_fails_once(template: Path, tmp_path: Path, after: bool) -> None:
    for number in range(1, 50):
        path = tmp_path / str(number)
        shutil.copytree(template, path)
        catalog = FailingCatalog(SqliteEngine(path / "catalog.db"))
        catalog.fail_at, catalog.after = number, after
        with Home.open(path) as home:
            home.catalog.close()
            home.catalog = catalog
            try:
                collect_garbage(home, grace_seconds=0)
            except PaddockError:
                pass
        assert_whole(path)
        assert_clean_after_another(path)
        if catalog.count < number:
            break
    assert number > 4, "the scenario writes to the catalog"


_KILLED = """
import os, sys
from pathlib import Path
from paddock.runtime.garbage import collect_garbage
from paddock.storage.objects import LocalObjects
from paddock.testing.objects import FaultObjects
from paddock.versions.home import Home

path = Path(sys.argv[1])
home = Home.open(path)
home.__dict__["objects"] = FaultObjects(
    LocalObjects(path / "objects"), fail_at=int(sys.argv[2]), after=True, error=lambda: os.kill(os.getpid(), 9)
)
collect_garbage(home, grace_seconds=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [8, 16, 20, 22])
def test_killed(template: Path, tmp_path: Path, number: int) -> None:
    path = tmp_path / "home"
    shutil.copytree(template, path)
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(number)], check=False, timeout=60)
    assert ended.returncode in (0, -9)
    assert_whole(path)
    assert_clean_after_another(path)


# ---- beside writers ----------------------------------------------------------------------------------------


def test_collections_beside_puts_copies_and_deletions_lose_nothing(tmp_path: Path) -> None:
    """Few contents, stored and given up over and over: every put counts on chunks that a collection is about to drop."""
    path = tmp_path / "home"
    contents = [random.Random(seed).randbytes(30_000) for seed in range(4)]
    with EmbeddedPaddock.open(path) as paddock:
        paddock.repos.create("end")
    stop = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[EmbeddedPaddock], None]) -> threading.Thread:
        def run() -> None:
            try:
                with EmbeddedPaddock.open(path) as paddock:
                    work(paddock)
            except BaseException as error:
                errors.append(error)
                stop.set()

        return threading.Thread(target=run)

    def collect(paddock: EmbeddedPaddock) -> None:
        while not stop.is_set():
            collect_garbage(paddock.home, grace_seconds=0, wait_seconds=0.05)

    def write(number: int) -> Callable[[EmbeddedPaddock], None]:
        def work(paddock: EmbeddedPaddock) -> None:
            choose = random.Random(number)
            for turn in range(15):
                repo = f"r{number}-{turn}"
                paddock.repos.create(repo)
                with paddock.home.chunks.writer():
                    paddock.files.put(f"{repo}@main:/one", choose.choice(contents))
                paddock.commits.start(f"{repo}@main")
                paddock.files.put(f"{repo}@main:/two", choose.choice(contents))
                paddock.commits.finish(f"{repo}@main")
                paddock.files.copy(f"{repo}@main:/one", f"end@b{number}:/{turn}")
                paddock.repos.delete(repo)

        return work

    collector = guarded(collect)
    writers = [guarded(write(number)) for number in range(2)]
    for thread in (collector, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    collector.join()
    assert not errors
    with EmbeddedPaddock.open(path) as paddock:
        report = check_store(paddock.home, data=True)
        assert report.sound, report.damages
        for number in range(2):
            for turn in range(15):
                assert b"".join(paddock.files.read(f"end@b{number}:/{turn}")) in contents
        collect_garbage(paddock.home, grace_seconds=0)
        held = sum(info.size for info in paddock.home.objects.list("packs/"))
        assert held < 1_000_000, "what was given up is gone"
