"""Kept results: found by datum key, whichever job, branch or pipeline computed them.

The catalog names, for each transform, a few *results runs*: tables of kind `cache` that never change. Each job adds one; more than
`RUNS_MAX` are merged into one, so a look-up reads few tables.

A run is given up whole, the longest unused first (`cache_limits`). So that the few results of an old run that are still found
outlive it, a job writes them into its own run anew; a run of which much is found is marked as used instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog import results
from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.runtime.job_tables import CACHE
from paddock.runtime.plan import ROWS_AT_ONCE
from paddock.storage.chunks import ChunkWriter
from paddock.storage.columnar import conform, single_array
from paddock.versions.home import Home

RUNS_MAX = 8
MERGE_RATIO = 4
REWRITE_SHARE = 4
"""Found results are written anew where they are less than one in so many of their run."""


@dataclass(slots=True)
class ResultFinder:
    """Looks kept results of a transform up, and remembers which runs had them.

    busy: ids of runs much of which was found. scattered: keys that were found in other runs.
    """

    home: Home
    transform: Digest
    busy: set[int] = field(default_factory=set)
    scattered: set[bytes] = field(default_factory=set)

    def __call__(self, keys: Sequence[bytes]) -> Mapping[bytes, tuple[bytes, int, bytes]]:
        """(batch, ordinal, job) of each key that has a kept result. Reads only segments in which keys fall."""
        found: dict[bytes, tuple[bytes, int, bytes]] = {}
        with self.home.catalog.read() as tx:
            runs = results.of_transform(tx, self.transform.hex())
        wanted = pa.array(sorted(set(keys)), pa.binary(32)) if runs else None
        for run in runs:
            rows = self.home.tables.lookup(CACHE, Digest(bytes.fromhex(run.root)), wanted)
            columns = (rows.column(name).to_pylist() for name in ("key", "batch", "ordinal", "job"))
            if rows.num_rows * REWRITE_SHARE < run.entries:
                self.scattered.update(key for key in rows.column("key").to_pylist() if key not in found)
            else:
                self.busy.add(run.id)
            for key, batch, ordinal, job in zip(*columns, strict=True):
                found.setdefault(key, (batch, ordinal, job))
        return found


def write_run(home: Home, writer: ChunkWriter, successes: pa.Table) -> tuple[Digest, int] | None:
    """Store a run of rows of kind `cache`; its root and rows, or None if there are none. Not visible until `record_run`.

    Of two rows with one key (two datums with equal content) one is kept.
    """
    if successes.num_rows == 0:
        return None
    keys = single_array(successes.column("key"))
    order = pc.sort_indices(keys).to_numpy()
    order = order[_firsts(keys, order)]
    pieces = (decoded(successes.take(some)) for some in _windows(order))
    return home.tables.merge_sorted(CACHE, home.tables.empty(CACHE), pieces, (), writer), len(order)


def decoded(rows: pa.Table) -> pa.Table:
    """Rows of the cache's tables without dictionaries."""
    return conform(CACHE, rows)


def _windows(order: npt.NDArray[np.uint64]) -> Iterator[npt.NDArray[np.uint64]]:
    return (order[at : at + ROWS_AT_ONCE] for at in range(0, len(order), ROWS_AT_ONCE))


def _firsts(keys: pa.Array, order: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """For each place of the order, whether its key differs from the one before."""
    first = np.ones(len(order), dtype=bool)
    for at in range(0, len(order) - 1, ROWS_AT_ONCE):
        some = keys.take(pa.array(order[at : at + ROWS_AT_ONCE + 1]))
        first[at + 1 : at + len(some)] = pc.not_equal(some[1:], some[:-1]).to_numpy(zero_copy_only=False)
    return first


def record_run(
    tx: Transaction, transform: Digest, run: tuple[Digest, int], *, job_id: int, stored_bytes: int, now: float
) -> None:
    """stored_bytes: what computing the results added to the object store."""
    root, entries = run
    results.add(
        tx,
        transform=transform.hex(),
        root=root.hex(),
        entries=entries,
        job_id=job_id,
        created=now,
        stored_bytes=stored_bytes,
        used=now,
    )


def compact(home: Home, transform: Digest, *, now: float) -> None:
    """Merge a transform's small runs where there are too many. Harmless beside other compactions: the loser changes nothing.

    Runs much larger than all newer ones together are left alone, so a row is rewritten O(log rows) times in its life.
    """
    with home.pin():
        _compact(home, transform, now=now)


def _compact(home: Home, transform: Digest, *, now: float) -> None:
    with home.catalog.read() as tx:
        runs = results.of_transform(tx, transform.hex())
    if len(runs) <= RUNS_MAX:
        return
    chosen = _newest_of_a_size(runs)
    scanned = [rows for run in chosen for rows in home.tables.scan(CACHE, Digest(bytes.fromhex(run.root)))]
    with home.chunks.writer() as writer:
        run = write_run(home, writer, pa.concat_tables(scanned))
        writer.flush()
    assert run is not None, "a run has rows"
    with home.catalog.write() as tx:
        results.replace(
            tx,
            [run.id for run in chosen],
            transform=transform.hex(),
            root=run[0].hex(),
            entries=run[1],
            created=now,
            stored_bytes=sum(run.stored_bytes for run in chosen),
            used=max(run.used for run in chosen),
        )


def _newest_of_a_size(runs: Sequence[results.ResultRunRow]) -> Sequence[results.ResultRunRow]:
    rows = 0
    for position, run in enumerate(runs):
        if position > RUNS_MAX // 2 and run.entries > MERGE_RATIO * rows:
            return runs[:position]
        rows += run.entries
    return runs
