"""What follows from a commit: output commits, jobs, provenance; how outputs end; what can be read meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.catalog import branches, jobs, pipelines
from paddock.catalog.jobs import JobRow
from paddock.model.errors import Bug, Conflict, Unavailable
from paddock.model.records import CommitOrigin, CommitState, JobState
from paddock.testing.versions import add_pipeline, fail, succeed, waiting_jobs
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.lineage import downstream, inputs_of, upstream
from paddock.versions.outputs import finish_output
from paddock.versions.propagate import propagate
from paddock.versions.repos import RepoService


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open(tmp_path / "home", create=True) as opened:
        RepoService(opened).create("images")
        RepoService(opened).create("labels")
        yield opened


def _put(home: Home, target: str, data: bytes = b"x") -> str:
    commit = FileService(home).put(target, data).commit
    assert commit is not None
    return commit


def _names(found: list[JobRow]) -> list[str]:
    return [job.pipeline for job in found]


def _inputs(home: Home, job: JobRow) -> dict[str, str | None]:
    with home.catalog.read() as tx:
        found = inputs_of(tx, job.commit_id)
    return {f"{item.repo}@{item.branch}": None if item.commit is None else item.commit.set_id for item in found}


def test_one_put_makes_one_set_with_a_job_for_every_pipeline_it_reaches(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges", "labels"])
    add_pipeline(home, "words", ["labels"])
    commit_set = CommitService(home).inspect_set(_put(home, "images:/a"))
    assert [commit.repo for commit in commit_set.commits] == ["images", "edges", "montage"]
    assert [job.pipeline for job in commit_set.jobs] == ["edges", "montage"]
    assert {commit.id for commit in commit_set.commits} == {commit_set.id}
    montage = commit_set.commits[2]
    assert (montage.origin, montage.state) == (CommitOrigin.AUTO, CommitState.OPEN)
    assert montage.provenance == (f"default/edges@{commit_set.id}",)
    assert _inputs(home, waiting_jobs(home)[1]) == {"edges@main": commit_set.id, "labels@main": None}


def test_a_diamond_gets_one_commit_for_each_repo_upstream_first(home: Home) -> None:
    add_pipeline(home, "left", ["images"])
    add_pipeline(home, "right", ["images"])
    add_pipeline(home, "join", ["left", "right"])
    add_pipeline(home, "late", ["join", "images"])
    _put(home, "images:/a")
    assert _names(waiting_jobs(home)) == ["left", "right", "join", "late"]


def test_only_the_branch_that_is_read_triggers(home: Home) -> None:
    add_pipeline(home, "edges", ["images@release"])
    _put(home, "images:/a")
    assert waiting_jobs(home) == []
    head = BranchService(home).create("images@release", head="main").head
    (job,) = waiting_jobs(home)
    assert _inputs(home, job) == {"images@release": head}
    assert job.set_id != head
    BranchService(home).create("images@release", head="main")
    assert waiting_jobs(home) == [job]


def test_an_open_commit_propagates_when_it_is_finished(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    CommitService(home).start("images")
    _put(home, "images:/a")
    assert waiting_jobs(home) == []
    finished = CommitService(home).finish("images")
    assert [job.set_id for job in waiting_jobs(home)] == [finished.id]


def test_a_persons_open_commit_is_not_waited_for(home: Home) -> None:
    add_pipeline(home, "montage", ["images", "labels"])
    good = _put(home, "labels:/a")
    CommitService(home).start("labels")
    _put(home, "images:/a")
    assert _inputs(home, waiting_jobs(home)[-1])["labels@main"] == good


def test_a_stopped_pipeline_gets_no_job_nor_what_only_it_leads_to(home: Home) -> None:
    stopped = add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges"])
    with home.catalog.write() as tx:
        pipelines.set_state(tx, stopped.id, "stopped", updated=1.0)
    _put(home, "images:/a")
    assert waiting_jobs(home) == []


def test_a_rerun_reaches_what_reads_the_pipeline_and_is_made_once(home: Home) -> None:
    edges = add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges"])
    with home.catalog.write() as tx:
        made = propagate(tx, [], set_id="f" * 32, now=1.0, pipeline_ids=[edges.id], no_cache=True)
        assert [(jobs.get(tx, job).pipeline, jobs.get(tx, job).no_cache) for job in made] == [
            ("edges", True),
            ("montage", False),
        ]
        assert propagate(tx, [], set_id="f" * 32, now=1.0, pipeline_ids=[edges.id]) == []


def test_output_repos_refuse_users_and_name_the_inputs(home: Home) -> None:
    add_pipeline(home, "montage", ["labels", "images"])
    for act in (
        lambda: _put(home, "montage:/a"),
        lambda: FileService(home).delete("montage:/", recursive=True),
        lambda: CommitService(home).start("montage"),
        lambda: FileService(home).copy("images:/", "montage@other:/"),
    ):
        with pytest.raises(
            Conflict, match=r"output of pipeline default/montage.*inputs \(default/images, default/labels\)"
        ):
            act()
    _put(home, "images:/a")
    succeed(home, waiting_jobs(home)[0])
    with pytest.raises(Conflict, match="only its jobs move it"):
        BranchService(home).create("montage@main", head="main")


def test_an_output_is_read_when_its_job_is_done_and_the_old_one_stays_until_then(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    _put(home, "images:/a")
    tree = CommitService(home).inspect("images").tree
    (job,) = waiting_jobs(home)
    assert list(FileService(home).list("edges:/")) == []
    with pytest.raises(Unavailable, match="has not finished; branch default/edges@main has no good commit yet"):
        FileService(home).read(f"edges@{job.set_id}:/a")
    succeed(home, job, tree=tree)
    assert b"".join(FileService(home).read("edges:/a")) == b"x"
    second = _put(home, "images:/a", b"y")
    assert b"".join(FileService(home).read("edges:/a")) == b"x"
    with pytest.raises(Unavailable, match=f"last good commit of branch default/edges@main is {job.set_id}"):
        FileService(home).read(f"edges@{second}:/a")
    with pytest.raises(Conflict, match="belongs to a job, which finishes it"):
        CommitService(home).finish(f"edges@{second}")
    waited = CommitService(home).inspect("edges@main", wait_seconds=0.001)
    assert (waited.id, waited.state) == (second, CommitState.OPEN)


def test_a_failed_output_is_a_leaf_and_the_next_one_builds_on_the_last_good(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    for data in (b"1", b"2", b"3"):
        _put(home, "images:/a", data)
    good, bad, next_good = waiting_jobs(home)
    succeed(home, good)
    fail(home, bad, "datum d1 failed: exit code 1")
    succeed(home, next_good)
    service = CommitService(home)
    assert [commit.id for commit in service.list("edges@main")] == [next_good.set_id, good.set_id]
    failed = service.inspect(f"edges@{bad.set_id}")
    assert (failed.state, failed.parent, failed.error) == (
        CommitState.FAILED,
        good.set_id,
        "datum d1 failed: exit code 1",
    )
    with pytest.raises(
        Conflict, match=f"failed: datum d1 failed: exit code 1; the last good commit of .* is {next_good.set_id}"
    ):
        FileService(home).list(f"edges@{bad.set_id}:/")


def test_jobs_may_end_in_any_order_and_the_head_never_goes_back(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    for data in (b"1", b"2", b"3"):
        _put(home, "images:/a", data)
    first, second, third = waiting_jobs(home)
    succeed(home, third)
    succeed(home, first)
    fail(home, second)
    service = CommitService(home)
    assert service.inspect("edges").id == third.set_id
    assert service.inspect(f"edges@{first.set_id}").parent is None
    assert service.inspect(f"edges@{second.set_id}").parent is None


def test_a_failure_makes_the_jobs_below_it_unrunnable_with_its_name(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges"])
    add_pipeline(home, "poster", ["montage"])
    add_pipeline(home, "count", ["images"])
    _put(home, "images:/a")
    edges = waiting_jobs(home)[0]
    assert [job.pipeline for job in fail(home, edges)] == ["montage", "poster"]
    assert _names(waiting_jobs(home)) == ["count"]
    commit_set = CommitService(home).inspect_set(edges.set_id)
    states = {job.pipeline: (job.state, job.reason) for job in commit_set.jobs}
    reason = "unrunnable because the following upstream pipelines failed: edges"
    assert states["montage"] == states["poster"] == (JobState.UNRUNNABLE, reason)
    assert {commit.repo: commit.error for commit in commit_set.commits if commit.state is CommitState.FAILED} == {
        "edges": "datum d1 failed",
        "montage": reason,
        "poster": reason,
    }


def test_all_failed_pipelines_above_are_named(home: Home) -> None:
    add_pipeline(home, "left", ["images"])
    add_pipeline(home, "right", ["images"])
    add_pipeline(home, "join", ["left", "right"])
    _put(home, "images:/a")
    left, right, _ = waiting_jobs(home)
    with home.catalog.write() as tx:
        jobs.update(tx, right.id, state=JobState.KILLED)
    (join,) = fail(home, left)
    with home.catalog.read() as tx:
        assert jobs.get(tx, join.id).reason.endswith("failed: left, right")


def test_after_a_failure_the_next_set_reads_the_last_good_output(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges", "labels"])
    _put(home, "images:/a", b"1")
    edges, montage = waiting_jobs(home)
    succeed(home, edges)
    succeed(home, montage)
    _put(home, "images:/a", b"2")
    fail(home, waiting_jobs(home)[0])
    _put(home, "labels:/a")
    (waiting,) = waiting_jobs(home)
    assert _inputs(home, waiting)["edges@main"] == edges.set_id


def test_a_job_of_another_set_that_waits_for_a_failed_output_reads_the_last_good_one(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges", "labels"])
    _put(home, "images:/a", b"1")
    good, montage = waiting_jobs(home)
    succeed(home, good)
    succeed(home, montage)
    _put(home, "images:/a", b"2")
    bad, below = waiting_jobs(home)
    _put(home, "labels:/a")
    other = waiting_jobs(home)[-1]
    assert _inputs(home, other)["edges@main"] == bad.set_id
    assert [job.id for job in fail(home, bad)] == [below.id]
    assert waiting_jobs(home) == [other]
    assert _inputs(home, other)["edges@main"] == good.set_id


def test_without_a_good_output_a_job_of_another_set_cannot_run_either(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges", "labels"])
    add_pipeline(home, "poster", ["montage"])
    _put(home, "images:/a")
    _put(home, "labels:/a")
    edges, montage, poster, later_montage, later_poster = waiting_jobs(home)
    ended = fail(home, edges)
    assert [job.id for job in ended] == [montage.id, poster.id, later_montage.id, later_poster.id]
    assert waiting_jobs(home) == []
    with home.catalog.read() as tx:
        assert jobs.get(tx, later_poster.id).reason.endswith("upstream pipelines failed: edges")
    assert list(FileService(home).list("poster:/")) == []


def test_a_job_on_an_input_that_was_never_good_is_unrunnable_at_once(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    _put(home, "images:/a")
    fail(home, waiting_jobs(home)[0])
    add_pipeline(home, "montage", ["edges", "labels"])
    add_pipeline(home, "poster", ["montage"])
    made = CommitService(home).inspect_set(_put(home, "labels:/a"))
    assert waiting_jobs(home) == []
    reason = "unrunnable because the following upstream pipelines failed: edges"
    assert [(job.pipeline, job.state, job.reason) for job in made.jobs] == [
        ("montage", JobState.UNRUNNABLE, reason),
        ("poster", JobState.UNRUNNABLE, reason),
    ]
    later = CommitService(home).inspect_set(_put(home, "images:/a", b"2"))
    assert [(job.pipeline, job.state) for job in later.jobs] == [
        ("edges", JobState.CREATED),
        ("montage", JobState.CREATED),
        ("poster", JobState.CREATED),
    ]


def test_an_output_ends_once(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    _put(home, "images:/a")
    (job,) = waiting_jobs(home)
    succeed(home, job)
    with home.catalog.write() as tx, pytest.raises(Bug, match="finished already"):
        finish_output(tx, job.commit_id, tree="", files=0, size_bytes=0, now=1.0)


def test_a_set_names_the_commit_that_it_saw_of_an_unchanged_repo(home: Home) -> None:
    add_pipeline(home, "montage", ["images", "labels"])
    seen = _put(home, "labels:/a", b"seen")
    changed = _put(home, "images:/a")
    _put(home, "labels:/a", b"later")
    assert CommitService(home).inspect(f"labels@{changed}").id == seen


def test_a_repo_that_a_waiting_job_reads_is_not_deleted(home: Home) -> None:
    pipeline = add_pipeline(home, "edges", ["images"])
    images = _put(home, "images:/a")
    with home.catalog.write() as tx:
        branches.set_provenance(tx, pipeline.branch_id, [])
    with pytest.raises(Conflict, match=f"still to be read by the job of default/edges@{images}"):
        RepoService(home).delete("images")
    succeed(home, waiting_jobs(home)[0])
    RepoService(home).delete("images")
    assert CommitService(home).inspect("edges").provenance == ()


def test_lineage_walks_both_ways(home: Home) -> None:
    add_pipeline(home, "edges", ["images"])
    add_pipeline(home, "montage", ["edges", "labels"])
    labels = _put(home, "labels:/a")
    images = _put(home, "images:/a")
    montage = waiting_jobs(home)[-1]
    with home.catalog.read() as tx:
        above = upstream(tx, montage.commit_id)
        assert [(row.repo, row.set_id) for row in above] == [("labels", labels), ("edges", images), ("images", images)]
        assert [row.repo for row in downstream(tx, above[2].id)] == ["edges", "montage"]
