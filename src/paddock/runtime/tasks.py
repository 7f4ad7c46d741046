"""From a plan to what workers are sent: for each datum its input files, and for each file where its chunks lie."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from paddock.model.ids import CommitId, DatumId, DatumKey, Digest
from paddock.model.records import Location
from paddock.pipelines.inputs import group_values, join_values
from paddock.pipelines.models import DatumLimits, PipelineSpec, ResourceLimits
from paddock.runtime.piece_tasks import PieceTasks
from paddock.runtime.planner import Plan
from paddock.runtime.protocol import BatchTask, DatumTask, FileTask, InputTask, Limit, TransformTask
from paddock.storage.chunks import EMPTY_DIGEST
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

AHEAD_DATUMS = 200
"""The files of so many datums that come next are looked up before they are asked for, when half of the last ones are gone: it is the number of
questions that costs. More would save little, and who asks meanwhile has to wait longer."""


class _File(NamedTuple):
    path: str
    size: int
    executable: bool
    chunks: tuple[Digest, ...]


_Pair = tuple[int, int]
"""(leaf, match)"""


class TaskBuilder:
    """Builds the batches of one job. Cost of some batches: their files, the segments in which they lie, and one question to the index;
    nothing of that where `look_ahead` has looked them up."""

    def __init__(self, home: Home, plan: Plan, *, job: CommitId, transform: str) -> None:
        self._home = home
        self._plan = plan
        self._job = job
        self._transform = transform
        self._repos = [f"{leaf.project}/{leaf.repo}" for leaf in plan.leaves]
        pairs = list(zip(plan.leaves, plan.matches, strict=True))
        self._join_on = [join_values(leaf, matches) for leaf, matches in pairs]
        self._group_by = [group_values(leaf, matches) for leaf, matches in pairs]
        self._pieces = PieceTasks(home)
        self._ahead: dict[_Pair, InputTask] = {}
        """What was looked up before it was asked for. Places of chunks stay right: the job's pin keeps all packs."""
        self._hits = 0
        """How often it was made use of."""
        self._built = 0
        """Datums that were asked for; `_built_before`: when it was last looked ahead."""
        self._built_before = 0

    def batches(self, leases: Sequence[tuple[str, Sequence[int]]]) -> list[BatchTask]:
        """One for each (lease, positions in the plan)."""
        members = [[self._plan.files_of(position) for position in datums] for _, datums in leases]
        inputs = self._inputs_of({pair for each in members for pairs in each for pair in pairs})
        self._built += sum(map(len, members))
        return [self._batch(lease, datums, each, inputs) for (lease, datums), each in zip(leases, members, strict=True)]

    def look_ahead(self, coming: Callable[[int], Sequence[int]]) -> None:
        """Look up the files of some datums that come next, where few are left of those that were; for when nobody waits.

        coming: so many positions, at most, that will likely be asked for next.
        """
        if self._built == self._built_before or 2 * self._hits < len(self._ahead):
            return  # enough are left, or they come in another order than was thought
        self._built_before = self._built
        # No more than were built before: a job of one batch needs none.
        positions = coming(min(AHEAD_DATUMS, self._built))
        wanted = {pair for position in positions for pair in self._plan.files_of(position) if self._is_small(pair)}
        known = {pair: self._ahead[pair] for pair in wanted & self._ahead.keys()}
        missing = wanted - known.keys()
        self._ahead, self._hits = known | (self._inputs(missing) if missing else {}), 0

    def _batch(
        self,
        lease: str,
        datums: Sequence[int],
        members: Sequence[Sequence[tuple[int, int]]],
        inputs: Mapping[_Pair, InputTask],
    ) -> BatchTask:
        plan = self._plan
        return BatchTask(
            lease=lease,
            job=self._job,
            output_commit=self._job,
            transform=self._transform,
            datums=tuple(
                DatumTask(
                    DatumId(plan.ids[position].hex()),
                    DatumKey(plan.keys[position]),
                    tuple([inputs[pair] for pair in pairs]),
                )
                for position, pairs in zip(datums, members, strict=True)
            ),
        )

    def _inputs_of(self, pairs: Set[_Pair]) -> Mapping[_Pair, InputTask]:
        found = {pair: self._ahead[pair] for pair in pairs & self._ahead.keys()}
        self._hits += len(found)
        missing = pairs - found.keys()
        return found | self._inputs(missing) if missing else found

    def _is_small(self, pair: _Pair) -> bool:
        """Whether it is one whole file of few chunks: a directory may have a million of them, as a large file may."""
        leaf, match = pair
        if self._plan.leaves[leaf].split is not None:
            return False
        matches = self._plan.matches[leaf]
        return not matches.directories[match] and matches.sizes[match] <= self._home.chunking.max_bytes

    def _inputs(self, pairs: Set[tuple[int, int]]) -> dict[tuple[int, int], InputTask]:
        """Each (leaf, match) as its datums get it; made once, however many datums of a cross have it."""
        found: dict[tuple[int, int], InputTask] = {}
        files = self._file_tasks(pairs)
        for leaf, matches in _by_leaf(pairs).items():
            node, repo, commit = self._plan.leaves[leaf], self._repos[leaf], CommitId(self._plan.inputs[leaf].id)
            columns = (self._plan.matches[leaf].paths, self._join_on[leaf], self._group_by[leaf])
            texts = [column.take(np.array(matches, np.int64)) for column in columns]
            for match, path, join_on, group_by in zip(matches, *texts, strict=True):
                found[leaf, match] = InputTask(
                    node.name,
                    path,
                    repo,
                    node.branch,
                    commit,
                    join_on,
                    group_by,
                    node.empty_files,
                    files[leaf, match],
                )
        return found

    def _file_tasks(self, pairs: Set[tuple[int, int]]) -> dict[tuple[int, int], tuple[FileTask, ...]]:
        """All files at or below each (leaf, match), or the piece that it is."""
        whole = {pair for pair in pairs if self._plan.leaves[pair[0]].split is None}
        files = self._read_files(whole)
        located = _locate(self._home, (each for group in files.values() for each in group))
        tasks = {pair: tuple([_file_task(each, located) for each in group]) for pair, group in files.items()}
        for leaf in {leaf for leaf, _ in pairs - whole}:
            paths = {self._plan.matches[leaf].paths[match]: match for each, match in pairs if each == leaf}
            found = self._pieces.of(self._plan.leaves[leaf], self._plan.inputs[leaf].tree, paths)
            tasks |= {(leaf, match): (found[path],) for path, match in paths.items()}
        return tasks

    def _read_files(self, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Sequence[_File]]:
        """All files at or below each (leaf, match)."""
        found: dict[tuple[int, int], Sequence[_File]] = {}
        for leaf, positions in _by_leaf(pairs).items():
            matches, tree = self._plan.matches[leaf], self._plan.inputs[leaf].tree
            paths = dict(zip(positions, matches.paths.take(np.array(positions, np.int64)), strict=True))
            for position in [each for each in positions if matches.directories[each]]:
                rows = self._home.trees.rows(tree, paths.pop(position))
                found[leaf, position] = [each for table in rows for each in _files(table)]
            if paths:
                table = self._home.tables.lookup(TREE, tree, pa.array(sorted(set(paths.values())), pa.string()))
                by_path = {each.path: each for each in _files(table)}
                for position, path in paths.items():
                    found[leaf, position] = (by_path[path],)
        return found


def transform_task(
    home: Home, spec: PipelineSpec, *, id: str, project: str, pipeline: str, code: Digest | None
) -> TransformTask:
    """The message that a worker gets once before its first batch of this transform."""
    transform = spec.transform
    timeout_seconds, timeout_field = _timeout(spec)
    return TransformTask(
        id=id,
        project=project,
        pipeline=pipeline,
        cmd=transform.cmd,
        stdin=transform.stdin or None,
        env=transform.env,
        working_dir=transform.working_dir,
        user=transform.user or "",
        accept_return_code=transform.accept_return_code,
        err_cmd=transform.err_cmd,
        err_stdin=transform.err_stdin or None,
        datum_tries=spec.datum_tries,
        datum_timeout_seconds=timeout_seconds,
        timeout_field=timeout_field,
        limits=_limits(spec),
        cpus_max=_cpus_max(spec),
        placeholders=transform.placeholders,
        warm=transform.warm,
        warm_datums_max=transform.warm_datums_max,
        warm_memory_bytes=transform.warm_memory_max,
        code=None if code is None else _code_files(home, code),
    )


def _timeout(spec: PipelineSpec) -> tuple[float | None, str]:
    """The shorter of the two times that a spec can give, and its field."""
    given = [(spec.datum_timeout, "datum_timeout")]
    given += [(spec.datum_limits.time, "datum_limits.time")] if spec.datum_limits is not None else []
    return min(((seconds, name) for seconds, name in given if seconds is not None), default=(None, "datum_timeout"))


def _limits(spec: PipelineSpec) -> tuple[Limit, ...]:
    """The lowest limit of each kind."""
    own, resources = spec.datum_limits or DatumLimits(), spec.resource_limits or ResourceLimits()
    given = [
        ("memory", own.memory, "datum_limits.memory"),
        ("memory", resources.memory, "resource_limits.memory"),
        ("scratch", own.scratch, "datum_limits.scratch"),
        ("output", own.output, "datum_limits.output"),
        ("disk", resources.disk, "resource_limits.disk"),
    ]
    lowest: dict[str, Limit] = {}
    for kind, size, name in given:
        if size is not None and (kind not in lowest or size < lowest[kind].bytes):
            lowest[kind] = Limit(kind, size, name)
    return tuple(lowest.values())


def _cpus_max(spec: PipelineSpec) -> int | None:
    cpus = spec.resource_limits.cpu if spec.resource_limits is not None else None
    return None if cpus is None else math.ceil(cpus)


def _code_files(home: Home, code: Digest) -> tuple[FileTask, ...]:
    files = [each for table in home.trees.rows(code, "/") for each in _files(table)]
    located = _locate(home, files)
    return tuple(_file_task(each, located) for each in files)


def _by_leaf(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """{leaf: its matches} of pairs of both."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for leaf, match in pairs:
        found[leaf].append(match)
    return found


def _files(table: pa.Table) -> list[_File]:
    columns = (table.column(name).to_pylist() for name in ("path", "size", "executable", "digest", "chunks"))
    return [
        _File(path, size, executable == 1, tuple(chunks) if chunks else _single(digest))
        for path, size, executable, digest, chunks in zip(*columns, strict=True)
    ]


def _single(digest: bytes) -> tuple[Digest, ...]:
    return () if digest == EMPTY_DIGEST else (Digest(digest),)


def _locate(home: Home, files: Iterable[_File]) -> Mapping[Digest, Location]:
    return home.chunks.locate(list({chunk for each in files for chunk in each.chunks}))


def _file_task(file: _File, located: Mapping[Digest, Location]) -> FileTask:
    chunks = file.chunks
    if len(chunks) == 1:
        return FileTask(file.path, file.size, file.executable, ((chunks[0], located[chunks[0]]),))
    return FileTask(file.path, file.size, file.executable, tuple([(chunk, located[chunk]) for chunk in chunks]))
