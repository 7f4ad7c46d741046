"""Reports that a thread enters into the catalog: order, waiting for it, and what a failure leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from paddock.model.errors import Unavailable
from paddock.runtime.acceptance import AcceptingThread


class Catalog:
    """Takes reports that are names. Each transaction waits until it may begin."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.may_begin = threading.Semaphore(0)
        self.away = False

    def accept(self, reports: Sequence[str]) -> None:
        self.begun.release()
        assert self.may_begin.acquire(timeout=60)
        if self.away:
            raise Unavailable("the catalog is away")
        self.transactions.append(list(reports))


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def accepting(catalog: Catalog) -> Iterator[AcceptingThread[str]]:
    thread = AcceptingThread(catalog.accept)
    yield thread
    catalog.may_begin.release(10)
    thread.close()


def test_what_comes_during_a_transaction_is_the_next_one(catalog: Catalog, accepting: AcceptingThread[str]) -> None:
    accepting.put(["a"])
    assert catalog.begun.acquire(timeout=60)
    accepting.put(["b", "c"])
    accepting.put(["d"])
    assert catalog.transactions == []
    catalog.may_begin.release(2)
    accepting.settle()
    assert catalog.transactions == [["a"], ["b", "c", "d"]]


def test_after_a_failure_nothing_is_accepted_and_each_call_says_why(
    catalog: Catalog, accepting: AcceptingThread[str]
) -> None:
    catalog.away = True
    accepting.put(["a"])
    assert catalog.begun.acquire(timeout=60)
    accepting.put(["b"])
    catalog.may_begin.release(1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="the catalog is away"):
            accepting.settle()
    with pytest.raises(Unavailable, match="the catalog is away"):
        accepting.put(["c"])
    accepting.close()
    assert catalog.transactions == []


def test_closing_accepts_what_was_put(catalog: Catalog, accepting: AcceptingThread[str]) -> None:
    catalog.may_begin.release(10)
    accepting.put(["a"])
    accepting.close()
    accepting.close()
    assert catalog.transactions == [["a"]]
