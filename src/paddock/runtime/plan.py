"""The plan of one job, as columns: what is to happen with the datums that are not simply kept from the base.

One position for each of those datums, sorted by sort name. Planning the same job again gives the same positions, which is how a job
is taken up after a crash. Memory is in proportion to them, not to the datums of the job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.model.packed import PackedBytes, PackedTexts
from paddock.pipelines.inputs import DatumSet, Leaf
from paddock.pipelines.keys import sort_names
from paddock.runtime.job_tables import NO_BATCH, NO_JOB
from paddock.storage.matching import Matches

RUN, KEPT, FOUND, CARRIED = 0, 1, 2, 3
"""What is to happen with a datum: computed; kept as the base has it, outputs untouched; its result found in the cache; that of
another transform carried over (see `carrying`)."""

Integers = npt.NDArray[np.int64]

ROWS_AT_ONCE = 1 << 15
"""Rows of a table that are made at a time: some 10 MB."""


@dataclass(frozen=True, slots=True)
class InputCommit:
    """The commit that one leaf reads: its id (empty where the branch has none yet) and its tree. computed: it is a pipeline's output."""

    id: str
    tree: Digest
    computed: bool = False


class ResultPlaces:
    """Where the results of datums lie: (batch, ordinal, job) by position. Eight bytes a datum."""

    def __init__(self, count: int) -> None:
        self._source = np.full(count, -1, np.int32)
        self._ordinal = np.zeros(count, np.int32)
        self._sources: list[tuple[bytes, bytes]] = []
        self._numbers: dict[tuple[bytes, bytes], int] = {}

    def set(self, position: int, batch: bytes, ordinal: int, job: bytes) -> None:
        self._source[position], self._ordinal[position] = self._number(batch, job), ordinal

    def set_many(self, positions: Integers, batch: bytes, ordinals: npt.NDArray[np.int32], job: bytes) -> None:
        self._source[positions], self._ordinal[positions] = self._number(batch, job), ordinals

    def _number(self, batch: bytes, job: bytes) -> int:
        number = self._numbers.setdefault((batch, job), len(self._sources))
        if number == len(self._sources):
            self._sources.append((batch, job))
        return number

    def get(self, position: int) -> tuple[bytes, int, bytes] | None:
        """None where the datum has no result yet."""
        if self._source[position] < 0:
            return None
        batch, job = self._sources[self._source[position]]
        return batch, int(self._ordinal[position]), job

    def by_batch(self, positions: Integers) -> dict[bytes, tuple[Integers, Integers]]:
        """The positions that have a result, by its batch: (positions, ordinals)."""
        positions = positions[self._source[positions] >= 0]
        sources = self._source[positions]
        order = np.argsort(sources, kind="stable")
        bounds = np.flatnonzero(np.diff(sources[order])) + 1
        found: dict[bytes, tuple[Integers, Integers]] = {}
        for group in np.split(positions[order], bounds):
            if len(group):
                batch = self._sources[self._source[group[0]]][0]
                found[batch] = group, self._ordinal[group].astype(np.int64)
        return found

    def columns(self, positions: Integers) -> tuple[pa.Array, pa.Array, pa.Array]:
        """batch, ordinal and job at these positions, with NO_BATCH and NO_JOB where there is no result; batch and job as dictionaries."""
        sources = self._source[positions]
        places = pa.array(np.where(sources < 0, len(self._sources), sources))
        batches = pa.array([*(batch for batch, _ in self._sources), NO_BATCH], pa.binary(32))
        jobs = pa.array([*(job for _, job in self._sources), NO_JOB], pa.binary(16))
        encoded = (pa.DictionaryArray.from_arrays(places, values) for values in (batches, jobs))
        return next(encoded), pa.array(self._ordinal[positions]), next(encoded)


@dataclass(slots=True)
class Plan:
    """What a job does, by columns of `len(plan)` rows; `kept` more datums stay as the base has them.

    datum_set holds, for each datum, its files as (leaf, match) pairs in CSR form; `matches` has no more than these files need. The
    scheduler fills in `results` and `successes` of those that run.
    """

    leaves: Sequence[Leaf]
    inputs: Sequence[InputCommit]
    matches: Sequence[Matches]
    datum_set: DatumSet
    ids: PackedBytes
    keys: PackedBytes
    actions: npt.NDArray[np.uint8]
    results: ResultPlaces
    successes: npt.NDArray[np.bool_]
    base_datums: Digest
    """The datums table that the job's own is made from: the last good job's, or the empty one."""
    base_tree: Digest
    """The output tree that the job's own is made from."""
    kept: int = 0
    """Datums of `base_datums` that stay as they are, and are in no column."""
    dropped: Sequence[str] = ()
    """Sort names in `base_datums` that the job does not have."""
    removed: Mapping[bytes, Integers] = field(default_factory=dict)
    """Results whose outputs must go from `base_tree` (of dropped and of changed datums): batch to ordinals."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def total(self) -> int:
        """Datums of the job."""
        return self.kept + len(self)

    @property
    def reused(self) -> int:
        """Datums that need not run."""
        return self.kept + int(np.count_nonzero(self.actions != RUN))

    @property
    def found(self) -> int:
        """Datums whose results other jobs, branches or pipelines left, the carried ones among them."""
        return int(np.count_nonzero(self.actions >= FOUND))

    @property
    def carried(self) -> int:
        """Datums whose results another transform computed."""
        return int(np.count_nonzero(self.actions == CARRIED))

    def found_at(self, keys: Collection[bytes]) -> Integers:
        """Positions of those found under their own key, where it is one of these; ascending."""
        if not keys:
            return np.zeros(0, np.int64)
        found = np.flatnonzero(self.actions == FOUND)
        return np.array([position for position in found.tolist() if self.keys[position] in keys], np.int64)

    def reads_directory_of(self, leaves: Collection[int]) -> npt.NDArray[np.bool_]:
        """For each datum, whether one of these leaves matched a directory for it."""
        directories = np.concatenate([np.zeros(0, bool), *(match.directories for match in self.matches)])
        of_leaf = np.isin(self.datum_set.leaf, sorted(leaves))
        flat = directories[_flat_positions(self.datum_set, self.matches)] & of_leaf
        before = np.concatenate([[0], np.cumsum(flat)])
        found: npt.NDArray[np.bool_] = before[self.datum_set.offsets[1:]] > before[self.datum_set.offsets[:-1]]
        return found

    def files_of(self, position: int) -> list[tuple[int, int]]:
        """(leaf, match) of each of a datum's files."""
        first, end = self.datum_set.offsets[position : position + 2].tolist()
        leaf, match = self.datum_set.leaf, self.datum_set.match
        if end - first == 1:
            return [(leaf.item(first), match.item(first))]
        return list(zip(leaf[first:end].tolist(), match[first:end].tolist(), strict=True))

    def forget_contents(self) -> None:
        """Free what is needed no more once the tables of the job are written: keys, digests and sizes. Positions can still be described."""
        self.keys = PackedBytes(b"", 32)
        self.matches = [
            replace(each, digests=PackedBytes(b"", 32), sizes=each.sizes[:0].copy()) for each in self.matches
        ]

    def reuse(self, position: int, action: int, batch: bytes, ordinal: int, job: bytes) -> None:
        """Let a datum have a result that is kept."""
        self.actions[position] = action
        self.results.set(position, batch, ordinal, job)
        self.successes[position] = True

    def describe(self, position: int) -> str:
        """A datum for people: its id and its input paths."""
        files = [(self.leaves[leaf].name, self.matches[leaf].paths[match]) for leaf, match in self.files_of(position)]
        return describe_datum(self.ids[position], files)

    def input_bytes(self, positions: Integers) -> Integers:
        """Bytes of the inputs of each datum in `positions`."""
        totals = np.concatenate(([0], np.cumsum(_flat_sizes(self.datum_set, self.matches))))
        offsets = self.datum_set.offsets
        sizes: Integers = totals[offsets[positions + 1]] - totals[offsets[positions]]
        return sizes

    def names(self, positions: Integers) -> pa.Array:
        """The sort names of the datums at `positions`; made anew."""
        return sort_names(self.datum_set, self.matches, self.ids, positions)

    def tables(self) -> Iterator[pa.Table]:
        """The rows of the datums table for the planned datums, as it is stored: some of them at a time, in order."""
        for first in range(0, len(self), ROWS_AT_ONCE):
            yield self._rows(np.arange(first, min(first + ROWS_AT_ONCE, len(self))))

    def _rows(self, positions: Integers) -> pa.Table:
        """positions: a run of them."""
        offsets = self.datum_set.offsets[positions[0] : positions[-1] + 2]
        files = slice(int(offsets[0]), int(offsets[-1]))
        leaf, match = self.datum_set.leaf[files], self.datum_set.match[files]
        sizes = np.zeros(len(leaf), np.int64)
        for index, matches in enumerate(self.matches):
            sizes[leaf == index] = matches.sizes[match[leaf == index]]
        digests = PackedBytes.gather([matches.digests for matches in self.matches], leaf, match, 32)
        batch, ordinal, job = self.results.columns(positions)

        def lists(values: pa.Array) -> pa.Array:
            return pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), values)

        return pa.table(
            {
                "name": self.names(positions),
                "id": self.ids.take(positions).array(),
                "key": self.keys.take(positions).array(),
                "leaves": lists(pa.array(leaf, pa.int32())),
                "paths": lists(PackedTexts.gather([matches.paths for matches in self.matches], leaf, match).array),
                "digests": lists(digests.array()),
                "sizes": lists(pa.array(sizes, pa.int64())),
                "batch": batch.dictionary_decode(),
                "ordinal": ordinal,
                "job": job.dictionary_decode(),
                "success": pa.array(self.successes[positions]).cast(pa.uint8()),
            }
        )


def describe_datum(id: bytes, files: Sequence[tuple[str, str]]) -> str:
    """A datum for people: its id and its first input paths. files: (input name, path) of each."""
    parts = [f"{name}:{path}" for name, path in files[:4]]
    more = len(files) - len(parts)
    return f"{id.hex()} ({', '.join(parts)}{f' and {more} more' if more > 0 else ''})"


def _flat_positions(datum_set: DatumSet, matches: Sequence[Matches]) -> Integers:
    """For each file of each datum, its position in all leaves' matches, one after another."""
    starts = np.concatenate([[0], np.cumsum([len(match.paths) for match in matches])]).astype(np.int64)
    positions: Integers = starts[datum_set.leaf] + datum_set.match
    return positions


def _flat_sizes(datum_set: DatumSet, matches: Sequence[Matches]) -> Integers:
    sizes = np.concatenate([np.zeros(0, np.int64), *(match.sizes for match in matches)])
    flat: Integers = sizes[_flat_positions(datum_set, matches)]
    return flat
