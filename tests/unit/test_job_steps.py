"""Steps of a job beside what users do to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import NotFound
from paddock.model.records import JobState
from paddock.runtime import job_steps


@pytest.fixture
def row(paddock: EmbeddedPaddock, tmp_path: Path) -> JobRow:
    """A job of one datum, as a scheduler reads it before it plans."""
    (tmp_path / "a").write_text("1")
    paddock.repos.create("data")
    paddock.files.put_tree("data@main", tmp_path / "a")
    paddock.pipelines.apply(
        {"pipeline": "copy", "transform": {"cmd": ["true"]}, "input": {"pfs": {"repo": "data", "glob": "/*"}}}
    )
    with paddock.home.catalog.read() as tx:
        (found,) = jobs_sql.unfinished(tx)
    return found


def test_a_job_that_is_stopped_while_it_is_planned_stays_stopped(paddock: EmbeddedPaddock, row: JobRow) -> None:
    paddock.jobs.stop("copy@head", reason="enough")
    job_steps.start(paddock.home, row, workers=1, clock=time.time).pin.release()
    assert paddock.jobs.inspect("copy@head").state is JobState.KILLED
    paddock.pipelines.delete("copy")


def test_a_job_that_is_deleted_before_it_is_planned_is_no_bug(paddock: EmbeddedPaddock, row: JobRow) -> None:
    paddock.pipelines.delete("copy")
    with pytest.raises(NotFound, match="deleted with its pipeline"):
        job_steps.start(paddock.home, row, workers=1, clock=time.time)


def test_what_is_lost_of_a_deleted_job_is_no_bug(paddock: EmbeddedPaddock, row: JobRow) -> None:
    active = job_steps.start(paddock.home, row, workers=1, clock=time.time)
    paddock.pipelines.delete("copy")
    job_steps.record_lost(paddock.home, active, 0, "its worker died")
    active.pin.release()
    with pytest.raises(NotFound):
        paddock.jobs.inspect(f"copy@{row.set_id}")
