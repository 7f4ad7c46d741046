"""What a command caused is reported whoever worked it off, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.client.working import newest_jobs, work_off
from paddock.model.records import JobState


def spec(name: str, script: str, repo: str = "data") -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-c", script]},
        "input": {"pfs": {"repo": repo, "name": "in", "glob": "/*"}},
        "datum_tries": 1,
    }


COPY = "cp /pfs/in/* /pfs/out/"


@pytest.fixture
def chain(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    for repo in ("data", "beside"):
        paddock.repos.create(repo)
    paddock.pipelines.apply(spec("first", COPY))
    paddock.pipelines.apply(spec("second", COPY, repo="first"))
    paddock.pipelines.apply(spec("other", COPY, repo="beside"))
    return paddock


def test_jobs_that_another_process_ended_are_reported(chain: EmbeddedPaddock) -> None:
    before = newest_jobs(chain, ["default/first", "default/none"])
    assert before == {"default/first": None, "default/none": None}
    del before["default/none"]
    commit = chain.files.put("data@main:/a", b"1").commit
    assert commit is not None
    chain.process(workers=1)
    jobs = work_off(chain, before, workers=1)
    assert [(job.pipeline, job.id, job.state) for job in jobs] == [
        ("first", commit, JobState.SUCCESS),
        ("second", commit, JobState.SUCCESS),
    ]
    assert work_off(chain, newest_jobs(chain, ["default/first"])) == ()


def test_what_others_caused_is_left_alone_and_leftovers_are_not(chain: EmbeddedPaddock) -> None:
    chain.files.put("data@main:/a", b"1")
    chain.files.put("beside@main:/a", b"1")
    jobs = work_off(chain, newest_jobs(chain, ["default/second"]), workers=1)
    assert [job.pipeline for job in jobs] == ["first", "second"]
    assert "other" not in [job.pipeline for job in jobs]


def test_a_replaced_job_is_not_a_failure(chain: EmbeddedPaddock) -> None:
    before = newest_jobs(chain, ["default/first"])
    chain.files.put("data@main:/a", b"1")
    chain.pipelines.apply(spec("first", COPY + "; true"))
    jobs = work_off(chain, before, workers=1)
    assert {job.state for job in jobs} == {JobState.SUCCESS}
    assert [job.pipeline for job in jobs] == ["first", "second"]


def test_a_failure_is_reported_with_what_it_stopped(chain: EmbeddedPaddock, tmp_path: Path) -> None:
    before = newest_jobs(chain, ["default/first"])
    chain.pipelines.apply(spec("first", "false"))
    chain.files.put("data@main:/a", b"1")
    jobs = work_off(chain, before, workers=1)
    assert [(job.pipeline, job.state) for job in jobs] == [
        ("first", JobState.FAILURE),
        ("second", JobState.UNRUNNABLE),
    ]
