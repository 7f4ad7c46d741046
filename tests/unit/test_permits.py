"""Permits to read packs: good for what a batch of the pool's names while its job lasts, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.catalog import jobs as jobs_sql
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import PermissionDenied
from paddock.model.ids import CommitId, DatumId, DatumKey, Digest, PackId
from paddock.model.records import Location
from paddock.runtime.cluster import JOB_SECONDS, Cluster
from paddock.runtime.permits import Asked, Permits
from paddock.runtime.protocol import BatchTask, DatumTask, FileTask, Permit
from paddock.settings import Settings
from paddock.testing.workers import input_of

A, B, C = (PackId(name * 32) for name in "abc")
SET = CommitId("0123456789ab4def8123456789abcdef")
JOB = 7


def file(*places: tuple[PackId, int, int]) -> FileTask:
    chunks = tuple((Digest(bytes(32)), Location(pack, offset, stored, stored, 0)) for pack, offset, stored in places)
    return FileTask("/file", 1, False, chunks)


def batch(*files: FileTask, empty: bool = False) -> BatchTask:
    inputs = tuple(input_of("in", each.path, each, empty_files=empty) for each in files)
    return BatchTask("lease", SET, SET, "transform", (DatumTask(DatumId("d"), DatumKey(bytes(32)), inputs),))


def unfinished(job: int) -> str | None:
    return SET if job == JOB else None


@pytest.fixture
def permits() -> Permits:
    return Permits(bytes(range(32)))


def one(permits: Permits, task: BatchTask, *code: FileTask, pool: str = "lab") -> Permit:
    (permit,) = permits.of(task, code, pool=pool, job=JOB)
    return permit


def test_a_batch_gives_the_bytes_that_it_and_its_code_name(permits: Permits) -> None:
    task = batch(file((A, 100, 10), (B, 8, 5)), file((A, 50, 10)))
    given = dict(permits.of(task, [file((A, 200, 30), (C, 8, 1))], pool="lab", job=JOB))
    assert given.keys() == {A, B, C}
    for pack, first, end in ((A, 50, 230), (A, 60, 100), (B, 8, 13), (C, 8, 9)):
        permits.check(given[pack], Asked("lab", pack, first, end), unfinished)
    for pack, first, end in ((A, 49, 60), (A, 200, 231), (B, 0, 8), (C, 9, 10)):
        with pytest.raises(PermissionDenied, match=f"not for {first} to {end}"):
            permits.check(given[pack], Asked("lab", pack, first, end), unfinished)


def test_files_that_come_empty_give_nothing(permits: Permits) -> None:
    assert permits.of(batch(file((A, 8, 5)), empty=True), (), pool="lab", job=JOB) == ()


def test_a_permit_is_for_its_pool_and_pack_and_no_letter_of_it_can_be_changed(permits: Permits) -> None:
    text = one(permits, batch(file((A, 100, 10)))).text
    permits.check(text, Asked("lab", A, 100, 110), unfinished)
    for pool, pack in (("default", A), ("lab", B)):
        with pytest.raises(PermissionDenied, match="nothing else"):
            permits.check(text, Asked(pool, pack, 100, 110), unfinished)
    for place in range(len(text)):
        for letter in "0123456789abcdef-":
            if letter != text[place]:
                with pytest.raises(PermissionDenied):
                    permits.check(text[:place] + letter + text[place + 1 :], Asked("lab", A, 100, 110), unfinished)
    other = Permits(bytes(32))
    with pytest.raises(PermissionDenied, match="nothing else"):
        other.check(text, Asked("lab", A, 100, 110), unfinished)


@pytest.mark.parametrize("text", [None, "", "-", "7-1-2", "7-1-2-" + "x" * 32, "9" * 99, "7-1-2-" + "0" * 32 + "\n"])
def test_what_is_no_permit_is_refused(permits: Permits, text: str | None) -> None:
    with pytest.raises(PermissionDenied, match="permit"):
        permits.check(text, Asked("lab", A, 1, 2), lambda job: SET)


def test_a_permit_ends_with_its_job_and_is_none_for_a_later_one_of_the_same_number(permits: Permits) -> None:
    text = one(permits, batch(file((A, 100, 10)))).text
    with pytest.raises(PermissionDenied, match="has ended"):
        permits.check(text, Asked("lab", A, 100, 110), lambda job: None)
    with pytest.raises(PermissionDenied, match="nothing else"):
        permits.check(text, Asked("lab", A, 100, 110), lambda job: SET.replace("0", "1"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_servers_of_a_home_answer_to_each_others_permits_until_the_job_is_over(home_path: Path) -> None:
    clock = Clock()
    found = EmbeddedPaddock.find(home_path, catalog=None, storage=None, settings=Settings())
    with found as paddock:
        paddock.repos.create("data")
        spec = {
            "pipeline": {"name": "copy"},
            "transform": {"cmd": ["true"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
        }
        paddock.pipelines.apply(spec)
        paddock.files.put("data@main:/a", b"some text")
        home = paddock.home
        one, other = (Cluster(home, url=url, monotonic=clock) for url in ("http://one", "http://other"))
        with home.catalog.read() as tx:
            (job,) = jobs_sql.unfinished(tx)
        key = next(iter(home.objects.list("packs/"))).key
        pack = PackId(key.rpartition("/")[2])
        task = BatchTask("lease", CommitId(job.set_id), CommitId(job.set_id), "t", batch(file((pack, 8, 9))).datums)
        (permit,) = one.permits.of(task, (), pool="default", job=job.id)
        expected = home.objects.read_range(key, 8, 9)
        assert other.read_for("default", pack, 8, 17, permit=permit.text) == expected
        with pytest.raises(PermissionDenied, match="nothing else"):
            other.read_for("lab", pack, 8, 17, permit=permit.text)
        paddock.jobs.stop("copy@head", reason="enough")
        clock.now += JOB_SECONDS
        with pytest.raises(PermissionDenied, match="has ended"):
            other.read_for("default", pack, 8, 17, permit=permit.text)
