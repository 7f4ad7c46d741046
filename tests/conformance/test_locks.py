"""One suite for every place that keeps a home's locks: files, and sessions of a PostgreSQL server."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from paddock.catalog.database import Catalog
from paddock.catalog.postgres import PostgresEngine
from paddock.model.errors import Unavailable
from paddock.testing.postgres import RunningPostgres
from paddock.versions.locks import FileLocks, Locks

NewLocks = Callable[[], Locks]
"""The locks of one home, as another process would see them."""

_numbers = itertools.count()


@pytest.fixture(params=["files", "postgresql"])
def new_locks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewLocks]:
    if request.param == "files":
        home = tmp_path_factory.mktemp("home")
        yield lambda: FileLocks(home)
        return
    url = request.getfixturevalue("postgres").create(f"locks_{next(_numbers)}")
    with contextlib.ExitStack() as stack:

        def connect() -> Locks:
            return stack.enter_context(contextlib.closing(PostgresEngine(url))).locks

        yield connect


def test_one_holder_at_a_time(new_locks: NewLocks) -> None:
    mine, theirs = new_locks(), new_locks()
    lock = mine.try_alone("scheduler")
    assert lock is not None
    assert theirs.try_alone("scheduler") is None
    assert mine.try_alone("scheduler") is None
    other = theirs.try_alone("gc")
    assert other is not None
    lock.release()
    lock.release()
    with other, theirs.wait_alone("scheduler"):
        assert mine.try_alone("scheduler") is None


def test_who_waits_gets_it_when_it_is_released(new_locks: NewLocks) -> None:
    mine, theirs = new_locks(), new_locks()
    lock = mine.wait_alone("repo-1")
    got = threading.Event()

    def wait() -> None:
        with theirs.wait_alone("repo-1"):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.05)
    lock.release()
    waiter.join(10)
    assert got.is_set()


def test_a_lock_that_nobody_can_release_is_free(new_locks: NewLocks) -> None:
    lock = new_locks().try_alone("scheduler")
    assert lock is not None
    del lock
    gc.collect()
    assert new_locks().try_alone("scheduler") is not None


def test_the_oldest_pin_of_anybody_counts(new_locks: NewLocks) -> None:
    mine, theirs = new_locks(), new_locks()
    assert mine.oldest_pin(before=10) is None
    new, old, again = mine.pin(5), theirs.pin(3), mine.pin(5)
    assert mine.oldest_pin(before=10) == 3
    assert mine.oldest_pin(before=3) is None
    old.release()
    old.release()
    assert theirs.oldest_pin(before=10) == 5
    new.release()
    assert theirs.oldest_pin(before=10) == 5
    again.release()
    assert theirs.oldest_pin(before=10) is None


def test_nothing_is_written_once_the_session_of_a_lock_or_pin_is_gone(postgres: RunningPostgres) -> None:
    database = f"locks_{next(_numbers)}"
    engine = PostgresEngine(postgres.create(database))
    catalog = Catalog.reach(engine)
    for take in (lambda: engine.locks.try_alone("scheduler"), lambda: engine.locks.pin(1)):
        held = take()
        assert held is not None
        assert postgres.cut(database) >= 1
        with pytest.raises(Unavailable, match="locks was cut; nothing was changed"), catalog.write() as tx:
            tx.execute("DELETE FROM projects")
        held.release()
        with catalog.write() as tx:
            tx.execute("DELETE FROM projects")
    catalog.close()
