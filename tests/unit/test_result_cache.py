"""The result cache: many small runs become few, and every result is still found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from paddock.catalog import results
from paddock.catalog.results import ResultRunRow
from paddock.model.cache_records import CachePolicy
from paddock.model.ids import Digest
from paddock.runtime import cache_limits, result_cache
from paddock.runtime.result_cache import ResultFinder
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


def add_run(home: Home, numbers: range, batch: bytes, *, now: float) -> None:
    with home.chunks.writer() as writer:
        run = result_cache.write_run(home, writer, rows(numbers, batch))
        writer.flush()
    assert run is not None
    with home.catalog.write() as tx:
        result_cache.record_run(tx, TRANSFORM, run, job_id=1, stored_bytes=10, now=now)


def run_row(id: int, stored_bytes: int, used: float) -> ResultRunRow:
    return ResultRunRow(id, "t", "00", 1, None, 0.0, stored_bytes, used)


def test_runs_go_by_age_and_by_weight_longest_unused_first() -> None:
    runs = [run_row(1, 5, 1.0), run_row(2, 0, 2.0), run_row(3, 5, 3.0), run_row(4, 5, 4.0)]

    def gone(**limits: float) -> list[int]:
        return [run.id for run in cache_limits.over_limits(runs, CachePolicy(**limits), now=10.0)]  # type: ignore[arg-type]

    assert gone() == []
    assert gone(bytes_max=15) == []
    assert gone(bytes_max=14) == [1]
    assert gone(bytes_max=9) == [1, 3], "a run that weighs nothing makes no room"
    assert gone(bytes_max=0) == [1, 3, 4]
    assert gone(age_seconds_max=7.5) == [1, 2]
    assert gone(age_seconds_max=8.5, bytes_max=5) == [1, 3]


def test_a_look_up_tells_runs_in_use_from_runs_that_are_hardly_used(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        add_run(home, range(100), key(1), now=1.0)
        add_run(home, range(100, 103), key(2), now=2.0)
        finder = ResultFinder(home, TRANSFORM)
        assert finder([key(5), key(101), key(500)]).keys() == {key(5), key(101)}
        with home.catalog.read() as tx:
            small, large = results.of_transform(tx, TRANSFORM.hex())
        assert finder.busy == {small.id}
        assert finder.scattered == {key(5)}
        with home.catalog.write() as tx:
            results.touch(tx, [large.id], used=9.0)
            results.touch(tx, [large.id], used=3.0)
            assert [run.used for run in results.get_all(tx)] == [2.0, 9.0]


def test_limits_hold_after_enforcing(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        for number in range(4):
            add_run(home, range(number, number + 1), key(number), now=float(number))
        cache_limits.enforce(home, now=5.0)
        with home.catalog.write() as tx:
            assert len(results.get_all(tx)) == 4
            results.set_policy(tx, CachePolicy(bytes_max=25))
        cache_limits.enforce(home, now=5.0)
        with home.catalog.read() as tx:
            assert [run.used for run in results.get_all(tx)] == [2.0, 3.0]


def test_runs_are_merged_and_nothing_is_forgotten(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        for number in range(RUNS):
            with home.chunks.writer() as writer:
                run = result_cache.write_run(home, writer, rows(range(number, number + 3), key(1000 + number)))
                writer.flush()
            assert run is not None
            with home.catalog.write() as tx:
                result_cache.record_run(tx, TRANSFORM, run, job_id=number, stored_bytes=1, now=float(number))
            result_cache.compact(home, TRANSFORM, now=float(number))
        with home.catalog.read() as tx:
            assert len(results.of_transform(tx, TRANSFORM.hex())) <= result_cache.RUNS_MAX
            assert sum(run.stored_bytes for run in results.of_transform(tx, TRANSFORM.hex())) == RUNS
        found = ResultFinder(home, TRANSFORM)([key(number) for number in range(RUNS + 3)])
    assert found.keys() == {key(number) for number in range(RUNS + 2)}
    assert all(ordinal == int.from_bytes(of, "big") for of, (_, ordinal, _) in found.items())
