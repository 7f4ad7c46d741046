"""Where a datum is best run: on the machine that wrote its input, which keeps a copy (`storage.kept_objects`; design note 036)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from paddock.model.ids import Digest, PackId
from paddock.model.records import Location
from paddock.runtime.plan import Integers, Plan

PACKS_MAX = 100_000
"""A machine keeps some gigabytes: what was written before so many packs is gone from there."""
OWN, NOBODYS, OTHERS = 0, 1, 2

_UNKNOWN, _NONE = -2, -1


class Written:
    """Which machine has written a pack, of the newest packs. About 150 bytes each."""

    def __init__(self) -> None:
        self._machine: OrderedDict[PackId, int] = OrderedDict()
        self._numbers: dict[str, int] = {}

    @property
    def machines(self) -> int:
        """How many there are that wrote anything."""
        return len(self._numbers)

    def note(self, machine: str, packs: Iterable[PackId]) -> None:
        number = self._numbers.setdefault(machine, len(self._numbers))
        for pack in packs:
            self._machine[pack] = number
        while len(self._machine) > PACKS_MAX:
            self._machine.popitem(last=False)

    def number(self, machine: str) -> int:
        return self._numbers.get(machine, _NONE)

    def by(self, pack: PackId) -> int:
        """The number of the machine that wrote it."""
        return self._machine.get(pack, _NONE)


class Owners:
    """Of a job's datums, who wrote what they read; looked up as they come near. Four bytes a datum."""

    def __init__(
        self, plan: Plan, written: Written, locate: Callable[[Sequence[Digest]], Mapping[Digest, Location]]
    ) -> None:
        self._plan = plan
        self._written = written
        self._locate = locate
        self._owner = np.full(len(plan), _UNKNOWN, np.int32)
        self._any = False
        """Whether anybody owns any, as far as is known."""

    def ranks(self, positions: Integers, machine: str) -> Integers:
        """For each datum: is its input the machine's OWN, NOBODYS, or is it OTHERS'? Looked up are many at once: as long as more than
        half of them are known, the others count as nobody's."""
        unknown = positions[self._owner[positions] == _UNKNOWN]
        if 2 * len(unknown) > len(positions):
            self._look_up(unknown)
        if not self._any:
            return np.full(len(positions), NOBODYS)
        owner = self._owner[positions]
        return np.where(owner == self._written.number(machine), OWN, np.where(owner < 0, NOBODYS, OTHERS))

    def _look_up(self, positions: Integers) -> None:
        """By the first file of each: that of one chunk has the chunk's digest. Others, and directories, are nobody's."""
        digests = [self._first_digest(position) for position in positions.tolist()]
        places = self._locate([digest for digest in set(digests) if digest is not None])
        for position, digest in zip(positions.tolist(), digests, strict=True):
            place = None if digest is None else places.get(digest)
            owner = _NONE if place is None else self._written.by(place.pack)
            self._owner[position] = owner
            self._any = self._any or owner >= 0

    def _first_digest(self, position: int) -> Digest | None:
        pairs = self._plan.files_of(position)
        if not pairs:
            return None
        leaf, match = pairs[0]
        matches = self._plan.matches[leaf]
        return None if matches.directories[match] else Digest(matches.digests[match])
