"""Taken reports become rows of the catalog: right away, or by a thread of their own while the scheduler answers who asks for work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from paddock.model.errors import Unavailable
from paddock.runtime import job_steps
from paddock.runtime.active_job import ActiveJob
from paddock.runtime.protocol import BatchReport
from paddock.versions.home import Home

WAITING_MAX = 2_000
"""Reports that may wait for the catalog; who has more to put waits with them."""
GATHER_SECONDS = 0.05
"""Reports wait so long for company, unless somebody waits for them: a transaction of many costs little more than one of a single report."""

Taken = tuple[ActiveJob, BatchReport]
"""A report whose lease was current, with the job that has noted it."""
Report = TypeVar("Report")


class Acceptance(Protocol):
    """For the scheduler's thread. Unavailable: what was put is not in the catalog, nor will be; the scheduler has to end."""

    def put(self, reports: Sequence[Taken]) -> None:
        """Have reports accepted, in this order."""

    def settle(self) -> None:
        """Return when all that was put is in the catalog."""


class AcceptedAtOnce:
    """Implements `Acceptance`: one transaction for what is put together."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def put(self, reports: Sequence[Taken]) -> None:
        job_steps.accept(self._home, reports)

    def settle(self) -> None:
        pass


class AcceptingThread(Generic[Report]):
    """Implements `Acceptance`: all that came during one transaction is the next one, so the more comes, the less each costs.

    After a transaction that failed nothing is accepted any more: which reports it had, the next scheduler sees in the catalog.
    """

    def __init__(self, accept: Callable[[Sequence[Report]], None]) -> None:
        """accept: one transaction; called in the thread."""
        self._accept = accept
        self._changed = threading.Condition()
        self._waiting: list[Report] = []
        self._at_work = False
        self._hurry = False
        """Somebody waits for what was put."""
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="acceptance", daemon=True)
        self._thread.start()

    def put(self, reports: Sequence[Report]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < WAITING_MAX or self._error is not None)
            self._check()
            first = not self._waiting
            self._waiting += reports
            if (
                first or self._is_due()
            ):  # else the thread gathers, and to wake it each time would cost more than to enter a report
                self._changed.notify_all()

    def settle(self) -> None:
        with self._changed:
            self._hurry = bool(self._waiting)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._at_work) or self._error is not None)
            self._check()

    def close(self) -> None:
        """Accept what was put, if that can be, and end the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self) -> None:
        if isinstance(self._error, Unavailable):
            raise Unavailable(self._error.message) from self._error
        if self._error is not None:
            raise self._error

    def _is_due(self) -> bool:
        return self._hurry or self._closed or len(self._waiting) >= WAITING_MAX

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting or self._error is not None:
                    return
                self._changed.wait_for(self._is_due, GATHER_SECONDS)
                reports, self._waiting, self._hurry = self._waiting, [], False
                self._at_work = True
            try:
                self._accept(reports)
            except BaseException as error:  # noqa: BLE001 (raised in the scheduler's thread)
                self._error = error
            with self._changed:
                self._at_work = False
                self._changed.notify_all()
