"""The SQL of chunk locations, jobs, batches, results and pipelines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.catalog import batches, branches, commits, jobs, pipelines, results
from paddock.catalog.chunk_index import CatalogChunkIndex
from paddock.catalog.database import Transaction
from paddock.model.ids import Digest, PackId
from paddock.model.records import DatumCounts, Location, PackRecord
from paddock.testing.versions import add_pipeline
from paddock.versions.home import Home
from paddock.versions.repos import RepoService


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open(tmp_path / "home", create=True, clock=lambda: 1000.0) as opened:
        RepoService(opened).create("data")
        yield opened


def _pack(name: str, numbers: range) -> PackRecord:
    pack = PackId(name * 32)
    chunks = tuple((Digest(number.to_bytes(32, "big")), Location(pack, number * 10, 10, 20, 1)) for number in numbers)
    return PackRecord(pack, 1000, chunks)


def test_chunks_are_located_in_bulk_and_unknown_ones_left_out(home: Home) -> None:
    index = CatalogChunkIndex(home.catalog)
    packs = [_pack("a", range(700)), _pack("b", range(700, 1500))]
    index.register(packs)
    everything = dict(packs[0].chunks) | dict(packs[1].chunks)
    assert index.locate([*everything, Digest(b"\xff" * 32)]) == everything
    assert index.locate([]) == {}


def test_registering_again_changes_nothing_and_a_chunk_keeps_its_first_place(home: Home) -> None:
    index = CatalogChunkIndex(home.catalog)
    first, second = _pack("a", range(3)), _pack("b", range(2, 5))
    index.register([first])
    index.register([first, second])
    index.register([])
    assert index.locate([Digest((2).to_bytes(32, "big"))]) == {Digest((2).to_bytes(32, "big")): first.chunks[2][1]}
    with home.catalog.read() as tx:
        assert tx.one("SELECT count(*) FROM packs") == (2,)
        assert tx.one("SELECT count(*) FROM chunks") == (5,)


def _job(home: Home, tx: Transaction, name: str = "edges", set_id: str = "a" * 32) -> int:
    pipeline = pipelines.find(tx, "default", name)
    assert pipeline is not None
    commit_id = commits.insert(
        tx, repo_id=pipeline.repo_id, set_id=set_id, branch="main", origin="auto", parent_id=None, created=1.0
    )
    return jobs.insert(tx, set_id=set_id, pipeline_id=pipeline.id, version=1, commit_id=commit_id, created=1.0)


def test_an_update_of_a_job_sets_only_what_is_given(home: Home) -> None:
    add_pipeline(home, "edges", ["data"])
    with home.catalog.write() as tx:
        job_id = _job(home, tx)
        before = jobs.get(tx, job_id)
        jobs.update(tx, job_id)
        assert jobs.get(tx, job_id) == before
        counts = DatumCounts(total=5, run=1, reused=2, recovered=1, failed=1)
        jobs.update(tx, job_id, state="running", started=7.0, counts=counts, datums_root="ab")
        expected = dataclasses.replace(before, state="running", started=7.0, counts=counts, datums_root="ab")
        assert jobs.get(tx, job_id) == expected
        jobs.update(tx, job_id, reason="")
        assert jobs.get(tx, job_id) == expected


def test_why_a_job_waits_is_said_until_it_ends(home: Home) -> None:
    add_pipeline(home, "edges", ["data"])
    with home.catalog.write() as tx:
        first, second = _job(home, tx, set_id="a" * 32), _job(home, tx, set_id="b" * 32)
        jobs.update(tx, first, state="killed", reason="stopped by the user")
        for job_id in (first, second):
            jobs.set_waiting_reason(tx, job_id, "no node is free")
        assert [jobs.get(tx, id).reason for id in (first, second)] == ["stopped by the user", "no node is free"]
        jobs.clear_waiting_reasons(tx)
        assert [jobs.get(tx, id).reason for id in (first, second)] == ["stopped by the user", ""]


def test_jobs_are_found_by_pipeline_set_prefix_commit_and_state(home: Home) -> None:
    pipeline = add_pipeline(home, "edges", ["data"])
    with home.catalog.write() as tx:
        first, second = _job(home, tx, set_id="a" * 32), _job(home, tx, set_id="ab" + "0" * 30)
        jobs.update(tx, first, state="success", finished=2.0)
        assert [job.id for job in jobs.unfinished(tx)] == [second]
        assert [job.id for job in jobs.newest_first(tx, pipeline_id=pipeline.id, limit=1)] == [second]
        assert [job.id for job in jobs.newest_first(tx)] == [second, first]
        assert [job.id for job in jobs.find_by_prefix(tx, pipeline.id, "ab")] == [second]
        assert len(jobs.find_by_prefix(tx, pipeline.id, "a")) == 2
        last = jobs.last_with_state(tx, pipeline.id, ["success", "failure"])
        assert last is not None
        assert last.id == first
        assert jobs.last_with_state(tx, pipeline.id, ["success"], before_id=first) is None
        found = jobs.find_by_commit(tx, jobs.get(tx, second).commit_id)
        assert found is not None
        assert str(found) == "default/edges@ab" + "0" * 30


def test_compaction_replaces_runs_only_while_all_are_there(home: Home) -> None:
    with home.catalog.write() as tx:
        old = [
            results.add(
                tx, transform="t", root=f"{number:02x}", entries=1, job_id=None, created=1.0, stored_bytes=1, used=1.0
            )
            for number in range(3)
        ]
        other = results.add(tx, transform="u", root="ff", entries=1, job_id=None, created=1.0, stored_bytes=1, used=1.0)
        new = results.replace(tx, old[:2], transform="t", root="aa", entries=2, created=2.0, stored_bytes=2, used=2.0)
        assert [row.id for row in results.of_transform(tx, "t")] == [new, old[2]]
        assert (
            results.replace(tx, old[:2], transform="t", root="bb", entries=2, created=2.0, stored_bytes=2, used=2.0)
            is None
        )
        assert [row.id for row in results.of_transform(tx, "u")] == [other]


def test_deleting_a_pipeline_takes_its_jobs_and_leaves_its_commits(home: Home) -> None:
    pipeline = add_pipeline(home, "edges", ["data"])
    with home.catalog.write() as tx:
        job = _job(home, tx)
        batches.record(tx, job, [batches.Accepted("aa", run=1, recovered=0, failed=0, stored_bytes=1)])
        assert pipelines.add_version(tx, pipeline.id, spec="{}", transform="11", code="", created=2.0) == 2
        assert [row.version for row in pipelines.versions(tx, pipeline.id)] == [1, 2]
        pipelines.delete(tx, pipeline.id)
        assert pipelines.get_all(tx) == []
        assert jobs.newest_first(tx) == []
        assert [row.set_id for row in commits.of_repo(tx, pipeline.repo_id)] == ["a" * 32]
        assert branches.get(tx, pipeline.branch_id).name == "main"
