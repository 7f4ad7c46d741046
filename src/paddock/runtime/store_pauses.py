"""Jobs that pause because their object store is away: what could not be read or stored is tried again, and nothing fails by it.

A store on other machines comes back: after a restart, a broken line, new credentials of a role. Until then the datums that it
concerns wait, seldomer and seldomer tried, and the job says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Unavailable
from paddock.runtime.protocol import BatchReport
from paddock.versions.home import Home

FIRST_SECONDS = 2.0
SECONDS_MAX = 60.0
PATIENCE_SECONDS = 3600.0
"""What has not passed by then will not by itself: the job fails with the reason."""

LOG = logging.getLogger("paddock")


@dataclass(slots=True)
class _Pause:
    since: float
    seconds: float
    until: float


class StorePauses:
    """For the scheduler's thread. Of a home whose store is its own folder nothing pauses: its disk is no better in a minute."""

    def __init__(self, home: Home, monotonic: Callable[[], float]) -> None:
        self._home = home
        self._monotonic = monotonic
        self._pauses: dict[int, _Pause] = {}
        """By row id of the job."""
        self._parted: set[int] = set()
        """Jobs that are not at work while they pause: they are planned again after it."""

    def note(self, row: JobRow, message: str, *, parted: bool = False) -> bool:
        """Have a job pause; False where it has for too long. Unavailable: it is not the store that is away, but the catalog.

        parted: it is not at work, and `due` is to say when it may be planned.
        """
        if self._home.storage is None:
            return False
        now = self._monotonic()
        pause = self._pauses.get(row.id)
        if pause is None:
            pause = self._pauses[row.id] = _Pause(now, FIRST_SECONDS, now)
        elif now - pause.since > PATIENCE_SECONDS:
            return False
        if parted:
            self._parted.add(row.id)
        if now < pause.until:
            return True  # of the same try as what was noted before
        pause.until = now + pause.seconds
        text = f"the object store is away, and is tried again: {message}"
        LOG.warning("job %s/%s@%s: in %g s %s", row.project, row.pipeline, row.set_id, pause.seconds, text)
        pause.seconds = min(2 * pause.seconds, SECONDS_MAX)
        self._say(row.id, text)
        return True

    def holds(self, id: int) -> bool:
        """Whether nothing is to be given out of this job now."""
        pause = self._pauses.get(id)
        return pause is not None and self._monotonic() < pause.until

    def end(self, id: int) -> None:
        """The job got on."""
        if self._pauses.pop(id, None) is not None:
            self._parted.discard(id)
            self._say(id, "")

    def forget(self, id: int) -> None:
        """The job has ended."""
        self._pauses.pop(id, None)
        self._parted.discard(id)

    def due(self) -> bool:
        """Whether a job that is not at work may be planned again."""
        ended = [id for id in self._parted if not self.holds(id)]
        self._parted.difference_update(ended)
        return bool(ended)

    def _say(self, id: int, text: str) -> None:
        with self._home.catalog.write() as tx:
            jobs_sql.set_waiting_reason(tx, id, text)


def trouble_of(report: BatchReport) -> str:
    """What a worker could not read or store, because the store did not answer; empty where there is no such thing."""
    if report.error_code == Unavailable.code:
        return report.error
    return next((each.reason for each in report.datums if each.error_code == Unavailable.code), "")
