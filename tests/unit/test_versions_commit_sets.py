"""Commit sets that hold commits of several repos: seen all at once or not at all, and one downstream set follows."""

from __future__ import annotations

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict
from paddock.model.records import Commit, CommitState

PIPELINE = {
    "pipeline": {"name": "both"},
    "transform": {"cmd": ["true"]},
    "input": {
        "cross": [{"pfs": {"repo": "left", "glob": "/"}}, {"pfs": {"repo": "right", "glob": "/"}}],
    },
}


@pytest.fixture
def repos(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    for name in ("left", "right"):
        paddock.repos.create(name)
    paddock.pipelines.apply(PIPELINE)
    return paddock


def start_both(paddock: EmbeddedPaddock) -> tuple[Commit, Commit]:
    left = paddock.commits.start("left@main", detached=True)
    return left, paddock.commits.start("right@main", commit_set=left.id, detached=True)


def names(paddock: EmbeddedPaddock, ref: str) -> list[str]:
    return [file.path for file in paddock.files.list(ref)]


def test_both_are_seen_together_and_make_one_job(repos: EmbeddedPaddock) -> None:
    left, right = start_both(repos)
    assert left.id == right.id
    repos.files.put(f"left@{left.id}:/l", b"1")
    repos.files.put(f"right@{right.id}:/r", b"2")
    assert names(repos, "left@main") == []
    finished = repos.commits.finish_set(left.id)
    assert [(commit.repo, commit.state) for commit in finished] == [
        ("left", CommitState.FINISHED),
        ("right", CommitState.FINISHED),
    ]
    (job,) = repos.jobs.list()
    assert job.id == left.id
    assert repos.commits.inspect(f"both@{job.id}").provenance == (f"default/left@{job.id}", f"default/right@{job.id}")


def test_a_commit_that_changes_nothing_is_dropped(repos: EmbeddedPaddock) -> None:
    repos.files.put("left:/l", b"1")
    left, right = start_both(repos)
    repos.files.put(f"left@{left.id}:/l", b"1")
    repos.files.put(f"right@{right.id}:/r", b"2")
    (finished,) = repos.commits.finish_set(left.id)
    assert finished.repo == "right"
    assert len(repos.commits.list("left")) == 1


def test_a_detached_commit_applies_to_what_the_branch_holds_when_it_is_finished(repos: EmbeddedPaddock) -> None:
    left = repos.commits.start("left@main", detached=True)
    repos.files.put(f"left@{left.id}:/mine", b"1")
    assert names(repos, f"left@{left.id}") == ["/mine"]
    repos.files.put("left@main:/theirs", b"2")
    repos.commits.finish(f"left@{left.id}")
    assert names(repos, "left@main") == ["/mine", "/theirs"]


def test_what_cannot_join_or_finish_is_refused(repos: EmbeddedPaddock) -> None:
    left, right = start_both(repos)
    with pytest.raises(Conflict, match="2 open commits of its set"):
        repos.commits.finish(f"left@{left.id}")
    with pytest.raises(Conflict, match="has a commit in repo default/left already"):
        repos.commits.start("left@other", commit_set=left.id)
    repos.commits.abandon(f"right@{right.id}")
    repos.files.put(f"left@{left.id}:/l", b"1")
    repos.commits.finish_set(left.id)
    with pytest.raises(Conflict, match="no open commit"):
        repos.commits.finish_set(left.id)
    with pytest.raises(Conflict, match="finished"):
        repos.commits.start("right@main", commit_set=left.id)
