"""From results to the output tree: what vanished or changed goes, what was computed or found comes in, the rest stays.

Cost follows the change: only results of datums that are not kept are read, only segments in which paths fall are rewritten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.errors import UserCodeFailed
from paddock.model.ids import Digest
from paddock.runtime.batch_results import BatchResult, log_pieces, read_batch_result
from paddock.runtime.freed_memory import release_freed
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.plan import KEPT, ROWS_AT_ONCE, Integers, Plan, describe_datum
from paddock.storage.chunks import ChunkWriter
from paddock.storage.columnar import single_array
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

BATCH_RESULTS_CACHED = 64
LOG_CHUNKS_CACHED = 16
"""Of a mebibyte at most; each holds the logs of many datums."""


class BatchResults:
    """Reads batch results, keeping the last few."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._kept: OrderedDict[bytes, BatchResult] = OrderedDict()
        self._read_log = lru_cache(LOG_CHUNKS_CACHED)(home.chunks.read)

    def __getitem__(self, batch: bytes) -> BatchResult:
        found = self._kept.get(batch)
        if found is None:
            found = self._kept[batch] = read_batch_result(self._home.chunks, Digest(batch))
            if len(self._kept) > BATCH_RESULTS_CACHED:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(batch)
        return found

    def row(self, batch: bytes, ordinal: int) -> dict[str, Any]:
        """One datum's row of the results table."""
        row: dict[str, Any] = self[batch].results.slice(ordinal, 1).to_pylist()[0]
        return row

    def log(self, batch: bytes, ordinal: int) -> bytes:
        """What one datum printed."""
        result = self[batch]
        return b"".join(log_pieces(result.header, result.results, ordinal, self._read_log))

    def named(self, batch: bytes, ordinal: int) -> dict[str, tuple[bytes, int]]:
        """The output files of one datum: (digest, executable) by path."""
        place = np.array([ordinal])
        table = self._files_of(batch, place, place)
        columns = (table.column(name).to_pylist() for name in ("path", "digest", "executable"))
        return {path: (digest, executable) for path, digest, executable in zip(*columns, strict=True)}

    def files(self, wanted: Mapping[bytes, tuple[Integers, Integers]]) -> pa.Table:
        """Output files of many results, given as batch to (tags, ordinals): the files' columns and `tag`."""
        tables = []
        for batch, (tags, ordinals) in wanted.items():
            tables.append(self._files_of(batch, tags, ordinals))
            self._kept.pop(batch)  # once is all that it is wanted
        return pa.concat_tables(tables) if tables else NO_FILES

    def _files_of(self, batch: bytes, tags: Integers, ordinals: Integers) -> pa.Table:
        result = self[batch]
        first = result.results.column("files_first").to_numpy()[ordinals]
        count = result.results.column("files_count").to_numpy()[ordinals]
        starts = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        rows = np.repeat(first - starts[:-1], count) + np.arange(starts[-1])
        column = pa.array(np.repeat(tags, count), pa.int64())
        return result.files.take(pa.array(rows, pa.int64())).append_column("tag", column)


NO_FILES = pa.table({"path": pa.array([], pa.string()), "tag": pa.array([], pa.int64())})


def merge_outputs(home: Home, plan: Plan, results: BatchResults, writer: ChunkWriter) -> Digest:
    """The root of the job's output tree.

    Two datums that wrote one path, and a file that would also be a directory, are UserCodeFailed with both datums named;
    nothing that readers see was changed then.
    """
    gone = results.files({batch: (ordinals, ordinals) for batch, ordinals in plan.removed.items()}).column("path")
    added = _by_path(results.files(plan.results.by_batch(np.flatnonzero(plan.actions != KEPT))))
    release_freed(len(plan))
    if added.num_rows:
        _refuse_doubles(home, plan, added, gone)
    deleted = set(gone.to_pylist())
    clash = home.trees.find_clash(plan.base_tree, added.column("path"), deleted)
    if clash is not None:
        raise UserCodeFailed(_clash(home, plan, added, *clash))
    return home.tables.merge_sorted(TREE, plan.base_tree, _tree_rows(plan, added), sorted(deleted), writer)


def _by_path(files: pa.Table) -> pa.Table:
    """The files in order of their paths. Takes them column by column, so that little more than the table is held at once: the
    caller keeps no reference to it.
    """
    release_freed(files.num_rows)
    names = ["path", *(name for name in files.column_names if name != "path")]
    files = files.select(names)
    path = single_array(files.column(0))
    files = files.remove_column(0)
    order = pc.sort_indices(path)
    columns = [path.take(order)]
    del path
    while files.num_columns:
        column = single_array(files.column(0))
        files = files.remove_column(0)
        columns.append(column.take(order))
        del column
        release_freed(len(order))
    return pa.Table.from_arrays(columns, names)


def _refuse_doubles(home: Home, plan: Plan, added: pa.Table, gone: pa.ChunkedArray) -> None:
    paths = single_array(added.column("path"))
    if len(paths) > 1:
        same = pc.equal(paths[1:], paths[:-1]).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(same)[:1].tolist():
            path = paths[row].as_py()
            tags = sorted(added.filter(pc.equal(paths, path)).column("tag").to_pylist())
            raise UserCodeFailed(_double(path, plan.describe(tags[0]), plan.describe(tags[1])))
    if plan.base_tree == home.trees.empty():
        return
    present = home.tables.lookup(TREE, plan.base_tree, paths)
    if present.num_rows == 0:
        return
    stays = pc.invert(pc.is_in(present.column("path"), value_set=gone.combine_chunks()))
    for row in present.filter(stays).slice(0, 1).to_pylist():
        position = added.column("tag")[pc.index(added.column("path"), row["path"]).as_py()].as_py()
        raise UserCodeFailed(_double(row["path"], plan.describe(position), _describe_id(home, plan, row["datum"])))


def _describe_id(home: Home, plan: Plan, id: bytes) -> str:
    """A datum of the plan or of its base, for people. Cost: a look at all ids, which a refusal is worth."""
    position = pc.index(plan.ids.array(), pa.scalar(id, pa.binary(16))).as_py()
    if position >= 0:
        return plan.describe(position)
    for rows in home.tables.scan(DATUMS, plan.base_datums):
        row = pc.index(rows.column("id"), pa.scalar(id, pa.binary(16))).as_py()
        if row >= 0:
            found = rows.slice(row, 1).to_pylist()[0]
            names = [plan.leaves[leaf].name for leaf in found["leaves"]]
            return describe_datum(id, list(zip(names, found["paths"], strict=True)))
    return id.hex()


def _double(path: str, first: str, second: str) -> str:
    return (
        f"two datums wrote {path}: datum {first} and datum {second}; "
        "let each datum write under a name of its own, for example one made from its input's path"
    )


def _tree_rows(plan: Plan, added: pa.Table) -> Iterator[pa.Table]:
    """The files as rows of a tree, some at a time."""
    for first in range(0, added.num_rows, ROWS_AT_ONCE):
        some = added.slice(first, ROWS_AT_ONCE)
        ids = plan.ids.take(some.column("tag").to_numpy()).array().cast(pa.binary())
        yield some.drop_columns(["tag"]).append_column("datum", ids).select([column.name for column in TREE.columns])


def _clash(home: Home, plan: Plan, added: pa.Table, file: str, inside: str) -> str:
    return (
        f"{file} would be a file and a directory at once: datum {_writer_of(home, plan, added, file)} wrote the file, "
        f"datum {_writer_of(home, plan, added, inside)} wrote {inside}; rename one of them"
    )


def _writer_of(home: Home, plan: Plan, added: pa.Table, path: str) -> str:
    at = pc.index(added.column("path"), path).as_py()
    if at >= 0:
        return plan.describe(added.column("tag")[at].as_py())
    row = home.trees.row(plan.base_tree, path)
    assert row is not None, f"{path} clashes, so it is new or in the base"
    return _describe_id(home, plan, row.datum)
