"""The result cache: many small runs become few, and every result is still found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from paddock.catalog import results
from paddock.model.ids import Digest
from paddock.runtime import result_cache
from paddock.versions.home import Home

TRANSFORM = Digest(b"t" * 32)
RUNS = 3 * result_cache.RUNS_MAX


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def rows(numbers: range, batch: bytes) -> pa.Table:
    return pa.table(
        {
            "key": pa.array([key(number) for number in numbers], pa.binary(32)),
            "batch": pa.array([batch] * len(numbers), pa.binary(32)),
            "ordinal": pa.array(list(numbers), pa.int32()),
            "job": pa.array([b"j" * 16] * len(numbers), pa.binary(16)),
        }
    )


def test_runs_are_merged_and_nothing_is_forgotten(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        for number in range(RUNS):
            with home.chunks.writer() as writer:
                run = result_cache.write_run(home, writer, rows(range(number, number + 3), key(1000 + number)))
                writer.flush()
            assert run is not None
            with home.catalog.write() as tx:
                result_cache.record_run(tx, TRANSFORM, run, job_id=number, now=float(number))
            result_cache.compact(home, TRANSFORM, now=float(number))
        with home.catalog.read() as tx:
            assert len(results.of_transform(tx, TRANSFORM.hex())) <= result_cache.RUNS_MAX
        found = result_cache.find_results(home, TRANSFORM, [key(number) for number in range(RUNS + 3)])
    assert found.keys() == {key(number) for number in range(RUNS + 2)}
    assert all(ordinal == int.from_bytes(of, "big") for of, (_, ordinal, _) in found.items())
