"""Planning a job: which datums its input has, which of them have a result already, and which must run.

The plan is columnar (one array per field, one position per datum, sorted by sort name) and deterministic: planning the same job
again gives the same positions, which is how a job is taken up after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.globs import compile_glob
from paddock.model.ids import Digest
from paddock.pipelines.inputs import DatumSet, Leaf, leaves_of, plan_datums
from paddock.pipelines.keys import datum_ids_and_keys
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.job_tables import DATUMS, NO_BATCH, NO_JOB
from paddock.storage.matching import Matches, match_tree
from paddock.versions.home import Home

RUN, KEPT, FOUND = 0, 1, 2
"""What is to happen with a datum: computed; kept as the last good job has it, outputs untouched; its result found in the cache."""


FindResults = Callable[[Sequence[bytes]], Mapping[bytes, tuple[bytes, int, bytes]]]
"""Looks kept results up by datum key: (batch, ordinal, job) of each key that has one."""


@dataclass(frozen=True, slots=True)
class InputCommit:
    """The commit that one leaf reads: its id (empty where the branch has none yet) and its tree."""

    id: str
    tree: Digest


@dataclass(slots=True)
class Plan:
    """All datums of one job, as columns of `len(plan)` rows.

    datum_set holds, for each datum, its files as (leaf, match) pairs in CSR form. `batches`, `ordinals` and `jobs` say where a
    datum's result lies, for those that have one; the scheduler fills them in for those that run.
    """

    leaves: Sequence[Leaf]
    inputs: Sequence[InputCommit]
    matches: Sequence[Matches]
    datum_set: DatumSet
    names: pa.Array
    ids: list[bytes]
    keys: list[bytes]
    actions: np.ndarray
    batches: list[bytes]
    ordinals: list[int]
    jobs: list[bytes]
    successes: list[bool]
    removed: list[tuple[bytes, int]]
    """(batch, ordinal) of results in the base whose outputs must go: of vanished and of changed datums."""
    base_tree: Digest

    def __len__(self) -> int:
        return len(self.ids)

    def files_of(self, position: int) -> list[tuple[int, int]]:
        """(leaf, match) of each of a datum's files."""
        first, last = self.datum_set.offsets[position], self.datum_set.offsets[position + 1]
        return list(
            zip(
                self.datum_set.leaf[first:last].tolist(),
                self.datum_set.match[first:last].tolist(),
                strict=True,
            )
        )

    def reuse(self, position: int, action: int, batch: bytes, ordinal: int, job: bytes) -> None:
        """Let a datum have a result that is kept."""
        self.actions[position] = action
        self.batches[position], self.ordinals[position], self.jobs[position] = batch, ordinal, job
        self.successes[position] = True

    def describe(self, position: int) -> str:
        """A datum for people: its id and its input paths."""
        parts = [
            f"{self.leaves[leaf].name}:{self.matches[leaf].paths[match]}" for leaf, match in self.files_of(position)[:4]
        ]
        more = len(self.files_of(position)) - len(parts)
        return f"{self.ids[position].hex()} ({', '.join(parts)}{f' and {more} more' if more > 0 else ''})"

    def describe_id(self, id: bytes) -> str:
        """The same, by the datum's id, for one that is in the plan."""
        return self.describe(self.ids.index(id)) if id in self.ids else id.hex()

    def input_bytes(self, positions: np.ndarray) -> list[int]:
        """Bytes of the inputs of each datum in `positions`."""
        sizes = _flat_sizes(self.datum_set, self.matches)
        totals = (
            np.add.reduceat(np.append(sizes, 0), self.datum_set.offsets[:-1]) if len(self) else np.zeros(0, np.int64)
        )
        empty = self.datum_set.offsets[:-1] == self.datum_set.offsets[1:]
        totals = np.where(empty, 0, totals)
        return [int(value) for value in totals[positions]]

    def table(self) -> pa.Table:
        """The job's datums table, as it is stored."""
        flat = _flat_positions(self.datum_set, self.matches)
        offsets = pa.array(self.datum_set.offsets, pa.int32())
        paths = pa.chunked_array([pa.array(match.paths, pa.string()) for match in self.matches], pa.string())
        digests = pa.chunked_array([pa.array(match.digests, pa.binary(32)) for match in self.matches], pa.binary(32))

        def lists(values: pa.Array) -> pa.Array:
            return pa.ListArray.from_arrays(offsets, values)

        return pa.table(
            {
                "name": self.names,
                "id": pa.array(self.ids, pa.binary(16)),
                "key": pa.array(self.keys, pa.binary(32)),
                "leaves": lists(pa.array(self.datum_set.leaf, pa.int32())),
                "paths": lists(_take(paths, flat)),
                "digests": lists(_take(digests, flat)),
                "sizes": lists(pa.array(_flat_sizes(self.datum_set, self.matches), pa.int64())),
                "batch": pa.array(self.batches, pa.binary(32)),
                "ordinal": pa.array(self.ordinals, pa.int32()),
                "job": pa.array(self.jobs, pa.binary(16)),
                "success": pa.array(self.successes, pa.bool_()).cast(pa.uint8()),
            }
        )


@dataclass(frozen=True, slots=True)
class Base:
    """The last good job of the pipeline: its datums table and its output tree."""

    datums: Digest
    tree: Digest


def plan_job(
    home: Home,
    spec: PipelineSpec,
    *,
    transform: Digest,
    inputs: Mapping[tuple[str, str, str], InputCommit],
    base: Base | None,
    found: FindResults,
    reuse: bool,
) -> Plan:
    """Plan one job.

    inputs: the commit of each (project, repo, branch) that the spec reads. found: looks results up by datum key.
    With `reuse` false every datum runs. Reads trees and tables only; writes nothing. Cost: one pass over the matched paths.
    """
    plan = _enumerate(home, spec, transform, inputs)
    plan.base_tree = base.tree if base is not None else home.trees.empty()
    if base is not None:
        _compare(home, plan, base, reuse=reuse)
    if reuse:
        _look_up(plan, found)
    return plan


def _enumerate(
    home: Home, spec: PipelineSpec, transform: Digest, inputs: Mapping[tuple[str, str, str], InputCommit]
) -> Plan:
    leaves = leaves_of(spec)
    commits = [inputs[leaf.project, leaf.repo, leaf.branch] for leaf in leaves]
    matches = [
        match_tree(home.trees, commit.tree, compile_glob(leaf.glob))
        for leaf, commit in zip(leaves, commits, strict=True)
    ]
    datum_set = plan_datums(spec.input, matches)
    ids, keys, names = datum_ids_and_keys(datum_set, leaves, matches, transform)
    order = _sorted_unique(names)
    datum_set = _reorder(datum_set, order)
    count = len(order)
    return Plan(
        leaves=leaves,
        inputs=commits,
        matches=matches,
        datum_set=datum_set,
        names=pa.array([names[position] for position in order], pa.string()),
        ids=[ids[position] for position in order],
        keys=[keys[position] for position in order],
        actions=np.zeros(count, np.uint8),
        batches=[NO_BATCH] * count,
        ordinals=[0] * count,
        jobs=[NO_JOB] * count,
        successes=[False] * count,
        removed=[],
        base_tree=home.trees.empty(),
    )


def _compare(home: Home, plan: Plan, base: Base, *, reuse: bool) -> None:
    """Keep what the base has under the same name and key; note the results of the others for removal."""
    for rows in home.tables.scan(DATUMS, base.datums):
        positions = pc.index_in(rows.column("name"), value_set=plan.names).to_pylist()
        columns = (rows.column(name).to_pylist() for name in ("key", "batch", "ordinal", "job", "success"))
        for position, key, batch, ordinal, job, success in zip(positions, *columns, strict=True):
            if position is not None and reuse and success and plan.keys[position] == key:
                plan.reuse(position, KEPT, batch, ordinal, job)
            elif batch != NO_BATCH:
                plan.removed.append((batch, ordinal))


def _look_up(plan: Plan, found: FindResults) -> None:
    wanted = np.flatnonzero(plan.actions == RUN).tolist()
    results = found([plan.keys[position] for position in wanted])
    for position in wanted:
        result = results.get(plan.keys[position])
        if result is not None:
            plan.reuse(position, FOUND, *result)


def _sorted_unique(names: Sequence[str]) -> list[int]:
    """Positions in name order, one for each name (two siblings of a union may match the same file)."""
    order = sorted(range(len(names)), key=names.__getitem__)
    return [position for rank, position in enumerate(order) if rank == 0 or names[order[rank - 1]] != names[position]]


def _reorder(datum_set: DatumSet, order: Sequence[int]) -> DatumSet:
    starts, ends = datum_set.offsets[:-1][order], datum_set.offsets[1:][order]
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return DatumSet(offsets, datum_set.leaf[flat], datum_set.match[flat])


def _flat_positions(datum_set: DatumSet, matches: Sequence[Matches]) -> np.ndarray:
    """For each file of each datum, its position in all leaves' matches, one after another."""
    starts = np.concatenate([[0], np.cumsum([len(match.paths) for match in matches])]).astype(np.int64)
    positions: np.ndarray = starts[datum_set.leaf] + datum_set.match
    return positions


def _flat_sizes(datum_set: DatumSet, matches: Sequence[Matches]) -> np.ndarray:
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.asarray(match.sizes, np.int64) for match in matches)])
    flat: np.ndarray = sizes[_flat_positions(datum_set, matches)]
    return flat


def _take(values: pa.ChunkedArray, positions: np.ndarray) -> pa.Array:
    taken = values.take(pa.array(positions, pa.int64()))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
