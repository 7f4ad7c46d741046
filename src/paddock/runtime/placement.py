"""Where a datum is best run: on the machine that wrote its input, or read it before, and keeps a copy (`storage.kept_objects`; design note 036)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from paddock.model.ids import Digest, PackId
from paddock.model.packed import PackedBytes
from paddock.model.records import Location
from paddock.runtime.plan import Integers, Plan

PACKS_MAX = 100_000
"""A machine keeps some gigabytes: what was written before so many packs is gone from there."""
READ_MAX = 1_000_000
"""Of so many datums, of the newest jobs, it is known who has read them: 12 bytes each."""
READ_JOBS_MAX = 8
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

    def note(self, machine: str, packs: Iterable[PackId]) -> int:
        """The machine's number."""
        number = self._numbers.setdefault(machine, len(self._numbers))
        for pack in packs:
            self._machine[pack] = number
        while len(self._machine) > PACKS_MAX:
            self._machine.popitem(last=False)
        return number

    def number(self, machine: str) -> int:
        return self._numbers.get(machine, _NONE)

    def by(self, pack: PackId) -> int:
        """The number of the machine that wrote it."""
        return self._machine.get(pack, _NONE)


class Readers:
    """Which machine has read a datum's first file, of the newest jobs; machines by their numbers in `Written`."""

    def __init__(self) -> None:
        self._jobs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]] = []
        """Of each job files, sorted, and who read them; the oldest first."""

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def note(self, files: npt.NDArray[np.uint64], machines: npt.NDArray[np.int32]) -> None:
        """files: as `first_files` tells them, of a job that has ended; forgets the oldest jobs where there are too many."""
        order = np.argsort(files[:READ_MAX], kind="stable")
        self._jobs.append((files[order], machines[order]))
        while len(self._jobs) > READ_JOBS_MAX or (
            len(self._jobs) > 1 and sum(len(known) for known, _ in self._jobs) > READ_MAX
        ):
            self._jobs.pop(0)

    def of(self, files: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The number of the machine that read each last; -1 where none is known."""
        found = np.full(len(files), _NONE, np.int32)
        for known, machines in self._jobs:
            places = np.searchsorted(known, files)
            places[places == len(known)] = 0
            hits = known[places] == files
            found[hits] = machines[places[hits]]
        return found


def first_files(plan: Plan, positions: Integers) -> npt.NDArray[np.uint64]:
    """What tells the first file of each datum from others. Vectorized; some 50 ns each."""
    datums = plan.datum_set
    if not len(datums.leaf):  # datums that have no files
        return np.zeros(len(positions), np.uint64)
    firsts = np.minimum(datums.offsets[positions], len(datums.leaf) - 1)
    columns = [each.digests for each in plan.matches]
    return PackedBytes.gather(columns, datums.leaf[firsts], datums.match[firsts], 32).heads()


class Owners:
    """Of a job's datums, who has what they read; looked up as they come near. Four bytes a datum."""

    def __init__(
        self,
        plan: Plan,
        written: Written,
        readers: Readers,
        locate: Callable[[Sequence[Digest]], Mapping[Digest, Location]] | None,
    ) -> None:
        """locate: of chunks; None: no worker wrote any of the job's inputs."""
        self._plan = plan
        self._written = written
        self._readers = readers
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
        """By the first file of each: who read it last, or wrote it."""
        self._owner[positions] = self._readers.of(first_files(self._plan, positions)) if self._readers else _NONE
        if self._locate is not None:
            self._look_up_writers(self._locate, positions[self._owner[positions] < 0])
        self._any = self._any or bool((self._owner[positions] >= 0).any())

    def _look_up_writers(
        self, locate: Callable[[Sequence[Digest]], Mapping[Digest, Location]], positions: Integers
    ) -> None:
        """A file of one chunk has the chunk's digest. Others, and directories, are nobody's."""
        digests = [self._first_digest(position) for position in positions.tolist()]
        places = locate([digest for digest in set(digests) if digest is not None])
        for position, digest in zip(positions.tolist(), digests, strict=True):
            place = None if digest is None else places.get(digest)
            self._owner[position] = _NONE if place is None else self._written.by(place.pack)

    def _first_digest(self, position: int) -> Digest | None:
        pairs = self._plan.files_of(position)
        if not pairs:
            return None
        leaf, match = pairs[0]
        matches = self._plan.matches[leaf]
        return None if matches.directories[match] else Digest(matches.digests[match])
