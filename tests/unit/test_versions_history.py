"""Squash, drop, forget and tags: what goes, what stays, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.catalog import jobs as jobs_sql
from paddock.model.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from paddock.model.ids import CommitId
from paddock.model.records import CommitState
from paddock.storage.trees import TreeRow, tree_table
from paddock.testing.versions import add_pipeline, fail, succeed, waiting_jobs
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.history import drop, forget, squash
from paddock.versions.home import Home
from paddock.versions.repos import RepoService
from paddock.versions.tags import TagService


class Tools:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.branches = BranchService(home)
        self.commits = CommitService(home)
        self.files = FileService(home)
        self.tags = TagService(home)

    def put(self, target: str, data: bytes = b"x") -> CommitId:
        commit = self.files.put(target, data).commit
        assert commit is not None
        return commit

    def compute(self) -> None:
        """End all waiting jobs well, each with one file that names its commit set."""
        while waiting := waiting_jobs(self.home):
            with self.home.chunks.writer() as writer:
                digest = writer.put(waiting[0].set_id.encode())
                table = tree_table([TreeRow("/out", b"", 32, digest, False, ())])
                tree = self.home.trees.merge(self.home.trees.empty(), table, [], [], writer)
                writer.flush()
            succeed(self.home, waiting[0], tree=tree.hex())

    def text(self, source: str) -> str:
        return b"".join(self.files.read(source)).decode()

    def ids(self, repo: str) -> list[str]:
        return [commit.id for commit in self.commits.list(repo)]

    def head(self, branch: str) -> str | None:
        return self.branches.inspect(branch).head


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Tools]:
    with Home.open(tmp_path / "home", create=True) as home:
        RepoService(home).create("data")
        yield Tools(home)


# ---- squash ------------------------------------------------------------------------------------------------


def test_squash_takes_a_commit_out_of_the_middle_and_nothing_else_changes(on: Tools) -> None:
    first, second, third = on.put("data:/a", b"1"), on.put("data:/b", b"2"), on.put("data:/c", b"3")
    removed = squash(on.home, f"data@{second}")
    assert [commit.id for commit in removed] == [second]
    assert on.ids("data@main") == [third, first]
    assert on.commits.inspect("data@main").parent == first
    assert [diff.path for diff in on.files.diff("data@main")] == ["/b", "/c"]
    assert [commit.id for commit, _ in on.files.find("data@main:/b")] == [third]
    with pytest.raises(NotFound, match=second):
        on.commits.inspect(f"data@{second}")
    assert squash(on.home, "data@main^")[0].id == first
    assert on.commits.inspect("data@main").parent is None
    assert {info.path for info in on.files.list("data")} == {"/a", "/b", "/c"}


def test_squash_refuses_what_no_later_commit_holds(on: Tools) -> None:
    first, second = on.put("data:/a"), on.put("data:/b")
    with pytest.raises(Conflict, match=f"{second} can't be squashed: it is the head of branch default/data@main"):
        squash(on.home, f"data@{second}")
    on.branches.create("data@main", head=first)
    with pytest.raises(Conflict, match="no later commit holds its files"):
        squash(on.home, f"data@{second}")
    on.branches.create("data@old", head=first)
    on.branches.create("data@main", head=second)
    with pytest.raises(Conflict, match=f"{first}.* head of branch default/data@old"):
        squash(on.home, f"data@{first}")
    assert len(on.ids("data")) == 2


def test_squash_waits_for_children_and_for_the_commit_itself(on: Tools) -> None:
    first = on.put("data:/a")
    on.put("data:/b")
    on.branches.create("data@side", head=first)
    child = on.commits.start("data@side").id
    on.branches.create("data@side2", head="main")
    with pytest.raises(Conflict, match=f"until its child commit default/data@{child} is finished"):
        squash(on.home, f"data@{first}")
    with pytest.raises(Conflict, match=f"{child} can't be squashed: it is open"):
        squash(on.home, f"data@{child}")


def test_squash_of_an_input_takes_along_what_was_computed_from_it(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    first = on.put("data:/a", b"1")
    on.compute()
    second = on.put("data:/a", b"2")
    on.compute()
    with pytest.raises(Conflict, match=f"data@{first} can't be squashed: commit default/p@{first} was computed from"):
        squash(on.home, f"data@{first}")
    removed = squash(on.home, f"data@{first}", recursive=True)
    assert [f"{commit.repo}@{commit.id}" for commit in removed] == [f"data@{first}", f"p@{first}"]
    assert (on.ids("data"), on.ids("p")) == ([second], [second])
    assert on.text("p:/out") == second
    with on.home.catalog.read() as tx:
        assert [job.set_id for job in jobs_sql.newest_first(tx)] == [second]


def test_a_set_is_squashed_as_a_whole_unless_another_set_read_it(on: Tools) -> None:
    RepoService(on.home).create("other")
    add_pipeline(on.home, "p", ["data@main", "other@main"])
    first = on.put("data:/a", b"1")
    on.compute()
    second = on.put("other:/b", b"2")
    on.compute()
    third = on.put("data:/a", b"3")
    on.compute()
    with pytest.raises(Conflict, match=f"data@{first} can't be squashed: commit default/p@{second} was computed"):
        squash(on.home, first)
    with pytest.raises(Conflict, match=f"other@{second} can't be squashed: commit default/p@{third} was computed"):
        squash(on.home, second)
    assert {commit.id for commit in squash(on.home, first, recursive=True)} == {first, second}
    assert on.ids("p") == [third]
    assert on.ids("data") == [third]


def test_a_failed_output_is_squashed_with_its_input_and_its_branch_forgets_it(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    on.put("data:/a", b"1")
    on.compute()
    bad = on.put("data:/a", b"2")
    fail(on.home, waiting_jobs(on.home)[0])
    on.branches.create("data@main", head="main^")
    on.compute()
    with pytest.raises(Conflict, match="no later commit"):
        squash(on.home, bad)
    assert {commit.repo for commit in drop(on.home, bad)} == {"data", "p"}
    last = on.put("data:/b", b"3")
    on.compute()
    assert on.text("p:/out") == last


# ---- drop --------------------------------------------------------------------------------------------------


def test_drop_takes_the_newest_commit_and_the_branch_moves_back(on: Tools) -> None:
    first, second = on.put("data:/a", b"1"), on.put("data:/a", b"2")
    with pytest.raises(Conflict, match=f"{first} can't be dropped: commit default/data@{second}"):
        drop(on.home, f"data@{first}")
    assert [commit.id for commit in drop(on.home, "data@main")] == [second]
    assert on.head("data@main") == first
    assert on.text("data:/a") == "1"
    drop(on.home, "data@main")
    assert on.head("data@main") is None
    assert list(on.files.list("data")) == []
    third = on.put("data:/b")
    assert on.ids("data@main") == [third]


def test_drop_of_a_set_takes_outputs_back_to_the_set_before(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    add_pipeline(on.home, "q", ["p@main"])
    first = on.put("data:/a", b"1")
    on.compute()
    second = on.put("data:/a", b"2")
    on.compute()
    with pytest.raises(Conflict, match=f"p@{second} was computed from it"):
        drop(on.home, f"data@{second}")
    assert [commit.repo for commit in drop(on.home, second)] == ["data", "p", "q"]
    assert {on.head("data@main"), on.head("p@main"), on.head("q@main")} == {first}
    assert on.text("q:/out") == first
    assert waiting_jobs(on.home) == []


def test_what_other_sets_computed_from_inputs_that_stay_is_computed_again(on: Tools) -> None:
    RepoService(on.home).create("other")
    add_pipeline(on.home, "p", ["data@main", "other@main"])
    on.put("other:/b", b"1")
    first = on.put("data:/a", b"1")
    on.compute()
    second = on.put("data:/a", b"2")
    on.compute()
    newest = on.put("other:/b", b"2")
    on.compute()
    drop(on.home, f"data@{second}", recursive=True)
    assert (on.head("data@main"), on.head("other@main")) == (first, newest)
    (job,) = waiting_jobs(on.home)
    record = on.commits.inspect(f"p@{job.set_id}")
    assert set(record.provenance) == {f"default/data@{first}", f"default/other@{newest}"}


def test_drop_of_a_failed_output_leaves_the_head(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    good = on.put("data:/a", b"1")
    on.compute()
    bad = on.put("data:/a", b"2")
    fail(on.home, waiting_jobs(on.home)[0])
    assert [commit.state for commit in drop(on.home, f"p@{bad}")] == [CommitState.FAILED]
    assert (on.head("p@main"), on.ids("p")) == (good, [good])


def test_a_commit_whose_job_is_waiting_stays(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    first = on.put("data:/a", b"1")
    with pytest.raises(
        Conflict, match=f"p@{first} can't be dropped: it is open; wait for job default/p@{first}, or stop"
    ):
        drop(on.home, first)
    assert on.head("data@main") == first


# ---- forget ------------------------------------------------------------------------------------------------


def test_a_forgotten_output_keeps_its_record_but_no_files(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    first = on.put("data:/a", b"1")
    on.compute()
    second = on.put("data:/a", b"2")
    on.compute()
    (forgotten,) = forget(on.home, f"p@{first}")
    assert (forgotten.state, forgotten.files, forgotten.tree) == (CommitState.FORGOTTEN, 0, "")
    with pytest.raises(
        Conflict, match=f"p@{first} is forgotten.*last good commit of branch default/p@main is {second}"
    ):
        on.files.list(f"p@{first}")
    with pytest.raises(Conflict, match="is forgotten"):
        list(on.files.diff("p@main"))
    assert [commit.id for commit, _ in on.files.find("p@main:/out")] == [second]
    assert on.ids("p@main") == [second, first]
    assert forget(on.home, f"p@{first}")[0].state == CommitState.FORGOTTEN
    assert on.text("p:/out") == second
    with pytest.raises(Conflict, match="must be a good finished commit"):
        on.branches.create("p@again", head=first)


def test_forget_refuses_users_commits_heads_and_what_is_still_to_be_read(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    add_pipeline(on.home, "q", ["p@main"])
    first = on.put("data:/a", b"1")
    with pytest.raises(Conflict, match=f"p@{first} can't be forgotten: it is open"):
        forget(on.home, f"p@{first}")
    succeed(on.home, waiting_jobs(on.home)[0])
    on.put("data:/a", b"2")
    with pytest.raises(Conflict, match="a user made it"):
        forget(on.home, f"data@{first}")
    with pytest.raises(Conflict, match=f"p@{first} can't be forgotten: branch default/p@main reads it"):
        forget(on.home, f"p@{first}")
    on.compute()
    assert {commit.repo for commit in forget(on.home, first)} == {"p", "q"}


def test_dropping_down_to_a_forgotten_commit_skips_it(on: Tools) -> None:
    add_pipeline(on.home, "p", ["data@main"])
    sets = []
    for data in (b"1", b"2", b"3"):
        sets.append(on.put("data:/a", data))
        on.compute()
    forget(on.home, sets[1])
    drop(on.home, sets[2])
    assert (on.head("p@main"), on.text("p:/out")) == (sets[0], sets[0])


# ---- tags --------------------------------------------------------------------------------------------------


def test_a_tag_names_a_commit_wherever_a_commit_is_named(on: Tools) -> None:
    first = on.put("data:/a", b"1")
    tag = on.tags.create("data@v1", "main", description="as published")
    on.put("data:/a", b"2")
    assert (tag.name, tag.commit, tag.description) == ("v1", first, "as published")
    assert on.text("data@v1:/a") == "1"
    assert on.commits.inspect("data@v1").id == first
    assert [diff.path for diff in on.files.diff("data@main", "data@v1")] == ["/a"]
    assert on.tags.list("data") == [tag]
    assert on.tags.inspect("data@v1") == tag
    on.tags.create("data@v0", f"data@{first}")
    assert [found.name for found in on.tags.list("data")] == ["v0", "v1"]


def test_a_tag_never_moves_and_keeps_its_commit(on: Tools) -> None:
    first = on.put("data:/a", b"1")
    on.tags.create("data@v1", "main")
    second = on.put("data:/a", b"2")
    with pytest.raises(AlreadyExists, match=f"tag default/data@v1 exists already, for commit {first}"):
        on.tags.create("data@v1", "main")
    with pytest.raises(Conflict, match="finished and never changes again"):
        on.files.put("data@v1:/a", b"3")
    with pytest.raises(Conflict, match=f"{first} can't be squashed: tag default/data@v1 names it"):
        squash(on.home, "data@v1")
    on.tags.delete("data@v1")
    squash(on.home, f"data@{first}")
    assert on.ids("data") == [second]


def test_tags_and_branches_share_their_names(on: Tools) -> None:
    on.put("data:/a", b"1")
    with pytest.raises(AlreadyExists, match="a branch has that name"):
        on.tags.create("data@main", "main")
    on.tags.create("data@v1", "main")
    for make in (
        lambda: on.branches.create("data@v1"),
        lambda: on.commits.start("data@v1"),
    ):
        with pytest.raises(AlreadyExists, match="default/data@v1 is a tag"):
            make()


def test_what_can_not_be_a_tag(on: Tools) -> None:
    RepoService(on.home).create("other")
    on.put("other:/a")
    on.branches.create("data@main")
    with pytest.raises(NotFound, match="has no commits yet"):
        on.tags.create("data@v1", "main")
    on.put("data:/a")
    opened = on.commits.start("data").id
    with pytest.raises(Conflict, match="only a good finished commit"):
        on.tags.create("data@v1", opened)
    with pytest.raises(InvalidInput, match="are in one repo"):
        on.tags.create("data@v1", "other@main")
    with pytest.raises(InvalidInput, match="looks like a commit id"):
        on.tags.create(f"data@{opened}", "main")
    with pytest.raises(InvalidInput, match="is not a tag"):
        on.tags.create("data@v1^", "main")
    with pytest.raises(NotFound, match="has no tag v2; it has none"):
        on.tags.inspect("data@v2")
    with pytest.raises(NotFound, match="has no tag v2"):
        on.tags.delete("data@v2")
    on.commits.finish("data")
    on.tags.create("data@v1", "main")
    RepoService(on.home).delete("data")


def test_a_reader_goes_on_while_its_commit_is_squashed(on: Tools) -> None:
    content = bytes(range(256)) * 40_000
    on.put("data:/big", content)
    on.put("data:/big", b"small")
    pieces = on.files.read("data@main^:/big")
    listing = on.files.list("data@main^", recursive=True)
    first = next(pieces)
    squash(on.home, "data@main^")
    assert first + b"".join(pieces) == content
    assert [info.size_bytes for info in listing] == [len(content)]
