"""Projects, repos, branches and commits; ancestry and refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from paddock.model.records import CommitState, RepoKind
from paddock.testing.versions import add_pipeline
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.projects import ProjectService
from paddock.versions.repos import RepoService


class Tools:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.projects = ProjectService(home)
        self.repos = RepoService(home)
        self.branches = BranchService(home)
        self.commits = CommitService(home)
        self.files = FileService(home)

    def put(self, target: str, data: bytes = b"x") -> str:
        commit = self.files.put(target, data).commit
        assert commit is not None
        return commit

    def text(self, source: str) -> str:
        return b"".join(self.files.read(source)).decode()


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Tools]:
    with Home.open(tmp_path / "home", create=True) as home:
        tools = Tools(home)
        tools.repos.create("data")
        yield tools


# ---- projects and repos ------------------------------------------------------------------------------------


def test_projects_hold_repos_and_are_deleted_only_when_empty(on: Tools) -> None:
    on.projects.create("vision", description="pictures")
    with pytest.raises(AlreadyExists, match="vision"):
        on.projects.create("vision")
    on.repos.create("vision/raw")
    with pytest.raises(Conflict, match="repo raw"):
        on.projects.delete("vision")
    on.repos.delete("vision/raw")
    on.projects.delete("vision")
    with pytest.raises(NotFound, match=r"did you mean default\?.*paddock project create defalt"):
        on.projects.inspect("defalt")
    with pytest.raises(Conflict, match="can't be deleted"):
        on.projects.delete("default")


def test_a_repo_lists_its_branches_and_the_size_of_its_default_one(on: Tools) -> None:
    on.put("data@dev:/a", b"12345")
    assert on.repos.inspect("data").size_bytes == 5
    on.put("data:/a", b"1")
    on.put("data:/b", b"2")
    repo = on.repos.inspect("data")
    assert (repo.branches, repo.files, repo.size_bytes, repo.kind) == (("dev", "main"), 2, 2, RepoKind.USER)
    on.projects.create("other")
    on.repos.create("other/raw")
    assert [f"{repo.project}/{repo.name}" for repo in on.repos.list()] == ["default/data", "other/raw"]
    assert [repo.name for repo in on.repos.list(project="other")] == ["raw"]
    with pytest.raises(NotFound, match="othr"):
        on.repos.list(project="othr")


def test_a_missing_repo_says_how_to_make_it(on: Tools) -> None:
    with pytest.raises(
        NotFound, match=r"repo default/dta does not exist \(did you mean data\?\).*`paddock repo create dta`"
    ):
        on.repos.inspect("dta")
    with pytest.raises(NotFound, match="`paddock repo create x`"):
        on.put("x:/a")
    with pytest.raises(NotFound, match="project nope"):
        on.repos.create("nope/x")
    with pytest.raises(AlreadyExists, match="default/data exists already"):
        on.repos.create("data")


def test_a_repo_that_is_read_is_not_deleted_and_the_readers_are_named(on: Tools) -> None:
    add_pipeline(on.home, "edges", ["data"])
    on.repos.create("labels")
    on.branches.create("labels@train", provenance=["data@main"])
    with pytest.raises(Conflict, match="pipeline default/edges, branch default/labels@train"):
        on.repos.delete("data")
    with pytest.raises(Conflict, match=r"output of pipeline default/edges.*pipeline delete"):
        on.repos.delete("edges")
    with pytest.raises(Conflict, match="pipeline default/edges, branch default/labels@train"):
        on.branches.delete("data@main")
    assert on.repos.inspect("edges").kind is RepoKind.PIPELINE


def test_a_deleted_repo_is_gone_with_all_it_had(on: Tools) -> None:
    on.put("data:/a")
    on.put("data:/b")
    on.commits.start("data@dev")
    on.put("data@dev:/c")
    on.repos.delete("data")
    assert on.repos.list() == []
    assert on.commits.list_sets() == []
    on.repos.create("data")
    assert on.commits.list("data") == []


# ---- branches ----------------------------------------------------------------------------------------------


def test_a_branch_points_at_a_commit_of_its_repo_and_moves(on: Tools) -> None:
    first, second = on.put("data:/a", b"1"), on.put("data:/a", b"2")
    assert on.branches.create("data@old", head="main^").head == first
    assert on.text("data@old:/a") == "1"
    assert on.branches.create("data@old", head=f"data@{second}").head == second
    assert on.text("data@old:/a") == "2"
    on.put("data@old:/a", b"3")
    assert on.text("data:/a") == "2"
    with pytest.raises(AlreadyExists, match="give a head"):
        on.branches.create("data@old")
    on.branches.delete("data@old")
    assert [branch.name for branch in on.branches.list("data")] == ["main"]
    assert len(on.commits.list("data")) == 3


def test_wrong_heads_and_names_are_refused(on: Tools) -> None:
    on.repos.create("other")
    commit = on.put("other:/a")
    with pytest.raises(InvalidInput, match="not in repo default/data"):
        on.branches.create("data@x", head="other@main")
    with pytest.raises(NotFound, match="does not exist"):
        on.branches.create("data@x", head=commit)
    with pytest.raises(InvalidInput, match="looks like a commit id"):
        on.branches.create("data@" + "a" * 32)
    with pytest.raises(InvalidInput, match="not a branch"):
        on.branches.create("data@main^")
    with pytest.raises(InvalidInput, match="name a branch"):
        on.branches.create("data")
    on.put("data:/a")
    with pytest.raises(NotFound, match=r"did you mean main\?"):
        on.branches.inspect("data@mian")
    opened = on.commits.start("data@dev")
    with pytest.raises(Conflict, match="good finished commit"):
        on.branches.create("data@x", head=opened.id)
    assert [branch.name for branch in on.branches.list("data")] == ["dev", "main"]


def test_provenance_is_recorded_and_circles_are_refused_with_their_way(on: Tools) -> None:
    on.repos.create("a")
    on.repos.create("b")
    assert on.branches.create("a@main", provenance=["data", "b@x"]).provenance == ("default/data@main", "default/b@x")
    with pytest.raises(Conflict, match=r"circle: default/b@x -> default/a@main -> default/b@y"):
        on.branches.create("b@y", provenance=["a@main"])
    with pytest.raises(Conflict, match=r"circle: default/data@main -> default/a@main -> default/data@main"):
        on.branches.create("data@main", provenance=["a@main"])
    assert on.branches.inspect("data@main").provenance == ()


def test_a_branch_with_an_open_commit_neither_moves_nor_goes(on: Tools) -> None:
    on.put("data:/a")
    opened = on.commits.start("data")
    for act in (
        lambda: on.branches.create("data@main", head="main"),
        lambda: on.branches.delete("data@main"),
        lambda: on.commits.start("data@main"),
    ):
        with pytest.raises(Conflict, match=f"open commit {opened.id}"):
            act()
    on.commits.abandon("data@main")
    on.branches.delete("data@main")


# ---- commits -----------------------------------------------------------------------------------------------


def test_every_put_on_a_branch_is_a_commit_with_a_parent(on: Tools) -> None:
    first, second = on.put("data:/a", b"1"), on.put("data:/b", b"22")
    newest, oldest = on.commits.list("data")
    assert (newest.id, newest.parent, newest.files, newest.size_bytes) == (second, first, 2, 3)
    assert (oldest.id, oldest.parent, oldest.state) == (first, None, CommitState.FINISHED)
    assert on.commits.list("data", limit=1) == [newest]
    assert on.commits.list("data@main^") == [oldest]
    assert on.commits.list("data@main", limit=1) == [newest]


def test_an_open_commit_is_unseen_until_it_is_finished(on: Tools) -> None:
    on.put("data:/kept", b"k")
    opened = on.commits.start("data", description="batch")
    assert on.put("data:/a", b"1") == opened.id
    assert on.put(f"data@{opened.id}:/b", b"2") == opened.id
    on.files.delete("data:/kept")
    assert [info.path for info in on.files.list("data:/")] == ["/kept"]
    assert [info.path for info in on.files.list(f"data@{opened.id}:/")] == ["/a", "/b"]
    finished = on.commits.finish("data")
    assert (finished.id, finished.state, finished.files, finished.description) == (
        opened.id,
        CommitState.FINISHED,
        2,
        "batch",
    )
    assert [info.path for info in on.files.list("data:/")] == ["/a", "/b"]
    assert on.branches.inspect("data@main").open_commit is None


def test_later_writes_of_an_open_commit_win(on: Tools) -> None:
    opened = on.commits.start("data")
    on.put("data:/d/a", b"1")
    on.put("data:/d/a", b"2")
    assert on.text(f"data@{opened.id}:/d/a") == "2"
    on.files.delete("data:/d", recursive=True)
    on.put("data:/d/b", b"3")
    on.files.put("data:/d/b", b"4", append=True)
    on.files.copy(f"data@{opened.id}:/d/b", "data:/c")
    on.commits.finish(f"data@{opened.id}", description="done")
    assert {info.path: on.text(f"data:{info.path}") for info in on.files.list("data:/", recursive=True)} == {
        "/c": "34",
        "/d/b": "34",
    }
    assert on.commits.inspect("data").description == "done"


def test_an_abandoned_commit_leaves_nothing(on: Tools) -> None:
    kept = on.put("data:/a", b"1")
    opened = on.commits.start("data")
    on.put("data:/b")
    on.commits.abandon(f"data@{opened.id}")
    assert [commit.id for commit in on.commits.list("data")] == [kept]
    with pytest.raises(NotFound, match=opened.id):
        on.commits.inspect(f"data@{opened.id}")
    with pytest.raises(NotFound, match="no open commit"):
        on.commits.abandon("data")


def test_a_finished_commit_never_changes(on: Tools) -> None:
    commit = on.put("data:/a", b"1")
    for act in (
        lambda: on.commits.finish(f"data@{commit}"),
        lambda: on.commits.abandon(f"data@{commit}"),
        lambda: on.put(f"data@{commit}:/b"),
        lambda: on.put(f"data@{commit[:10]}:/b"),
    ):
        with pytest.raises(Conflict, match="never changes"):
            act()
    with pytest.raises(InvalidInput, match="old commit"):
        on.put("data@main^:/b")
    assert len(on.commits.list("data")) == 1


def test_a_clash_in_an_open_commit_is_named_and_can_be_mended(on: Tools) -> None:
    opened = on.commits.start("data")
    on.put("data:/a", b"file")
    on.put("data:/a/b", b"below")
    with pytest.raises(Conflict, match=r"/a can't be both.*/a/b"):
        on.commits.finish("data")
    with pytest.raises(Conflict, match=r"/a/b"):
        list(on.files.list(f"data@{opened.id}:/"))
    on.files.delete("data:/a")
    on.commits.finish("data")
    assert on.text("data:/a/b") == "below"


@pytest.mark.parametrize(
    ("ref", "content"),
    [
        ("main", "4"),
        ("main^", "3"),
        ("main^^", "2"),
        ("main~3", "1"),
        ("main.1", "1"),
        ("main.4", "4"),
        ("main.2", "2"),
        ("main.4^2", "2"),
        ("main^-1", "1"),
    ],
)
def test_ancestry(on: Tools, ref: str, content: str) -> None:
    for number in "1234":
        on.put("data:/n", number.encode())
    assert on.text(f"data@{ref}:/n") == content


@pytest.mark.parametrize("ref", ["main^4", "main.5", "main.1^"])
def test_ancestry_past_the_root_says_how_many_there_are(on: Tools, ref: str) -> None:
    for number in "1234":
        on.put("data:/n", number.encode())
    with pytest.raises(NotFound, match=r"has (4 commits|1 commit) from the root"):
        on.text(f"data@{ref}:/n")


def test_commits_are_named_by_a_unique_prefix_unless_a_branch_has_that_name(on: Tools) -> None:
    commit = on.put("data:/a", b"1")
    on.put("data:/a", b"2")
    assert on.text(f"data@{commit[:8]}:/a") == "1"
    assert on.text(f"data@{commit}:/a") == "1"
    with pytest.raises(NotFound, match="branch"):
        on.text(f"data@{commit[:7]}:/a")
    on.branches.create(f"data@{commit[:8]}", head="main")
    assert on.text(f"data@{commit[:8]}:/a") == "2"
    assert on.commits.inspect_set(commit[:9]).id == commit
    with pytest.raises(NotFound, match="commit set 0000000000"):
        on.commits.inspect_set("0" * 10)
    with pytest.raises(InvalidInput, match="at least 8 digits"):
        on.commits.inspect_set("abc")


def test_a_branch_without_commits_reads_as_an_empty_tree(on: Tools) -> None:
    on.branches.create("data@empty")
    assert list(on.files.list("data@empty:/")) == []
    assert on.commits.list("data@empty") == []
    assert list(on.files.diff("data@empty")) == []
    with pytest.raises(NotFound, match="no file or directory /a"):
        on.text("data@empty:/a")
    with pytest.raises(NotFound, match="no commits yet"):
        on.commits.inspect("data@empty")
    with pytest.raises(NotFound, match="no commits yet"):
        on.text("data@empty^:/a")


def test_sets_are_listed_newest_first(on: Tools) -> None:
    first, second = on.put("data:/a"), on.put("data:/b")
    assert [commit_set.id for commit_set in on.commits.list_sets()] == [second, first]
    assert [commit_set.id for commit_set in on.commits.list_sets(limit=1)] == [second]
    assert on.commits.inspect_set("data@main").id == second


def test_waiting_for_a_commit_returns_when_it_is_finished(on: Tools) -> None:
    opened = on.commits.start("data")
    finisher = threading.Thread(target=lambda: on.commits.finish(f"data@{opened.id}"))
    finisher.start()
    seen = on.commits.inspect(f"data@{opened.id}", wait_seconds=30)
    finisher.join()
    assert seen.state is CommitState.FINISHED
    waiting = on.commits.start("data")
    assert on.commits.inspect(f"data@{waiting.id}", wait_seconds=0.01).state is CommitState.OPEN
