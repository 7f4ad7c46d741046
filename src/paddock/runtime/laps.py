"""What a worker's time goes into: one stopwatch that never stands still while there is work (design note 029)."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds of a worker's time. start: processes of commands, until they run or are ready; other: all that is no other part."""

    input: float = 0.0
    start: float = 0.0
    code: float = 0.0
    output: float = 0.0
    report: float = 0.0
    other: float = 0.0

    def believed(self, most_seconds: float) -> Spent:
        """The same without what can't be: less than nothing, no number, or more than `most_seconds`."""
        return Spent(*(min(each, most_seconds) if each > 0 else 0.0 for each in self))


NOTHING_SPENT = Spent()
INPUT, START, CODE, OUTPUT, REPORT, OTHER = range(len(Spent._fields))


class Laps:
    """Gives the time since its last lap to a part. Cost: 0.1 µs a lap. Not thread-safe."""

    __slots__ = ("_mark", "_seconds")

    def __init__(self) -> None:
        self._seconds = [0.0] * len(Spent._fields)
        self._mark = perf_counter()

    def lap(self, part: int) -> None:
        """What has passed until now."""
        now = perf_counter()
        self._seconds[part] += now - self._mark
        self._mark = now

    def until(self, moment: float, part: int) -> None:
        """What had passed at a moment of `perf_counter`; nothing where that was before the last lap."""
        if moment > self._mark:
            self._seconds[part] += moment - self._mark
            self._mark = moment

    def skip(self) -> None:
        """What has passed is nobody's: the worker had nothing to do."""
        self._mark = perf_counter()

    def take(self) -> Spent:
        """The sums since the last call."""
        spent = Spent(*self._seconds)
        self._seconds = [0.0] * len(Spent._fields)
        return spent
