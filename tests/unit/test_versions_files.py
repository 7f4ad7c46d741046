"""Files in commits: put, read, copy, remove, compare, find; bad addresses and paths."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.records import Change, FileKind
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.repos import RepoService


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open(tmp_path / "home", create=True) as opened:
        RepoService(opened).create("data")
        RepoService(opened).create("other")
        yield opened


@pytest.fixture
def files(home: Home) -> FileService:
    return FileService(home)


def _text(files: FileService, source: str) -> str:
    return b"".join(files.read(source)).decode()


def _paths(files: FileService, address: str) -> list[str]:
    return [info.path for info in files.list(address, recursive=True)]


def _source(tmp_path: Path, content: dict[str, str]) -> Path:
    root = tmp_path / "source"
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# ---- put and read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 20_000])
def test_what_was_put_is_read(files: FileService, data: bytes) -> None:
    report = files.put("data:/f", io.BytesIO(data))
    assert (report.files, report.bytes, report.changed, report.removed) == (1, len(data), 1, 0)
    assert b"".join(files.read("data:/f")) == data
    assert b"".join(files.read("data:/f", offset=3)) == data[3:]
    assert b"".join(files.read("data:/f", offset=len(data) // 2, length=7)) == data[len(data) // 2 :][:7]
    assert b"".join(files.read("data:/f", offset=len(data) + 1)) == b""


def test_appending_gives_the_file_of_both_and_keeps_its_chunks(files: FileService) -> None:
    first, second = os.urandom(3_000_000), os.urandom(2_000_000)
    files.put("data:/f", first, append=True)
    report = files.put("data:/f", io.BytesIO(second), append=True)
    assert report.bytes == len(second)
    assert report.stored_bytes < 1_000_000 * 4 + len(second)
    assert b"".join(files.read("data:/f")) == first + second
    files.put("data:/fresh", first + second)
    assert files.inspect("data:/f").digest == files.inspect("data:/fresh").digest


def test_putting_the_same_again_is_a_commit_that_changes_nothing(files: FileService) -> None:
    first, second = files.put("data:/f", b"x"), files.put("data:/f", b"x")
    assert second.commit not in (None, first.commit)
    assert (second.changed, second.removed) == (0, 0)
    assert list(files.diff("data")) == []


def test_a_put_needs_a_path_that_names_a_file(files: FileService) -> None:
    for target in ("data", "data:/", "data:", "data:/a/"):
        with pytest.raises(InvalidInput, match="names a directory"):
            files.put(target, b"x")
    for path in ("/a/../b", "/a//b", "/.", "/a\0b", "/\ud800", "/" + "x" * 5000):
        with pytest.raises(InvalidInput):
            files.put(f"data:{path}", b"x")
    assert BranchService(files._home).list("data") == []


def test_unusual_names_are_names(files: FileService) -> None:
    names = ["/a b", "/[x]*?", "/ünïcode/日本", "/a:b", "/-", "/...", "/a'\"\n"]
    for name in names:
        files.put(f"data:{name}", name.encode())
    assert sorted(_paths(files, "data:/")) == sorted(names)
    for name in names:
        assert _text(files, f"data:{name}") == name


def test_a_file_cannot_be_a_directory_and_both_paths_are_named(files: FileService) -> None:
    files.put("data:/a", b"x")
    with pytest.raises(Conflict, match=r"/a can't be both.*/a/b"):
        files.put("data:/a/b", b"x")
    files.put("data:/d/e", b"x")
    with pytest.raises(Conflict, match=r"/d can't be both.*/d/e"):
        files.put("data:/d", b"x")
    assert _paths(files, "data:/") == ["/a", "/d/e"]


def test_reading_what_is_not_a_file(files: FileService) -> None:
    files.put("data:/d/f", b"x")
    for source, error in (
        ("data:/d", InvalidInput),
        ("data:/", InvalidInput),
        ("data:/nope", NotFound),
        ("data@nope:/f", NotFound),
        ("nope:/f", NotFound),
        ("data", InvalidInput),
    ):
        with pytest.raises(error):
            files.read(source)
    with pytest.raises(InvalidInput, match="negative"):
        files.read("data:/d/f", offset=-1)


def test_listing_inspecting_and_globbing(files: FileService) -> None:
    for path in ("/a/1.txt", "/a/2.png", "/b/c/3.txt", "/top"):
        files.put(f"data:{path}", path.encode())
    assert [(info.path, info.kind) for info in files.list("data")] == [
        ("/a", FileKind.DIRECTORY),
        ("/b", FileKind.DIRECTORY),
        ("/top", FileKind.FILE),
    ]
    assert [info.path for info in files.list("data:/a/")] == ["/a/1.txt", "/a/2.png"]
    assert [info.path for info in files.list("data:/top")] == ["/top"]
    assert [info.path for info in files.list("data:/top", recursive=True)] == ["/top"]
    assert _paths(files, "data:/b") == ["/b/c/3.txt"]
    directory = files.inspect("data:/a")
    assert (directory.kind, directory.files, directory.size_bytes) == (FileKind.DIRECTORY, 2, 16)
    assert files.inspect("data:/").files == 4
    assert [info.path for info in files.glob("data:/**.txt")] == ["/a/1.txt", "/b/c/3.txt"]
    assert [info.path for info in files.glob("data:/*")] == ["/a", "/b", "/top"]
    with pytest.raises(NotFound, match="paddock ls"):
        files.list("data:/nope")
    with pytest.raises(NotFound, match="/a/1"):
        files.inspect("data:/a/1")
    with pytest.raises(InvalidInput):
        files.glob("data:/[")


# ---- trees -------------------------------------------------------------------------------------------------


def test_a_tree_is_one_commit_with_modes_and_a_file_goes_where_its_target_says(
    files: FileService, tmp_path: Path
) -> None:
    source = _source(tmp_path, {"a.txt": "1", "d/b.sh": "22"})
    (source / "d/b.sh").chmod(0o755)
    report = files.put_tree("data:/in", source)
    assert (report.files, report.bytes, report.changed) == (2, 3, 2)
    assert [(info.path, info.executable) for info in files.list("data:/", recursive=True)] == [
        ("/in/a.txt", False),
        ("/in/d/b.sh", True),
    ]
    files.put_tree("data:/x", source / "a.txt")
    files.put_tree("data:/y/", source / "a.txt")
    files.put_tree("data", source / "a.txt")
    assert _paths(files, "data:/") == ["/a.txt", "/in/a.txt", "/in/d/b.sh", "/x", "/y/a.txt"]
    assert len(CommitService(files._home).list("data")) == 4


def test_mirroring_makes_no_commit_where_nothing_differs_and_removes_what_is_gone(
    files: FileService, tmp_path: Path
) -> None:
    source = _source(tmp_path, {"a": "1", "b": "2", "d/c": "3"})
    files.put("data:/outside", b"x")
    first = files.put_tree("data:/in", source, mirror=True)
    assert (first.changed, first.removed) == (3, 0)
    again = files.put_tree("data:/in", source, mirror=True)
    assert (again.commit, again.changed, again.removed) == (None, 0, 0)
    (source / "a").write_text("changed")
    (source / "b").unlink()
    (source / "new").write_text("4")
    report = files.put_tree("data:/in", source, mirror=True)
    assert (report.changed, report.removed) == (2, 1)
    assert _paths(files, "data:/") == ["/in/a", "/in/d/c", "/in/new", "/outside"]
    files.put_tree("data:/", source, mirror=True)
    assert _paths(files, "data:/") == ["/a", "/d/c", "/new"]
    with pytest.raises(InvalidInput, match="exclude each other"):
        files.put_tree("data", source, mirror=True, append=True)


def test_mirroring_an_empty_directory_empties_the_target(files: FileService, tmp_path: Path) -> None:
    files.put("data:/a", b"x")
    (tmp_path / "empty").mkdir()
    report = files.put_tree("data", tmp_path / "empty", mirror=True)
    assert (report.changed, report.removed) == (0, 1)
    assert _paths(files, "data:/") == []


def test_a_directory_may_take_the_place_of_a_file_when_mirrored(files: FileService, tmp_path: Path) -> None:
    files.put("data:/in", b"a file")
    source = _source(tmp_path, {"a": "1"})
    with pytest.raises(Conflict, match="/in/a"):
        files.put_tree("data:/in", source)
    files.put_tree("data:/in", source, mirror=True)
    assert _paths(files, "data:/") == ["/in/a"]


def test_appending_a_tree_appends_each_file(files: FileService, tmp_path: Path) -> None:
    files.put("data:/a", b"old ")
    files.put_tree("data", _source(tmp_path, {"a": "new", "b": "fresh"}), append=True)
    assert (_text(files, "data:/a"), _text(files, "data:/b")) == ("old new", "fresh")


def test_a_missing_source_is_not_found_and_makes_no_commit(files: FileService, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nope"):
        files.put_tree("data", tmp_path / "nope")
    assert BranchService(files._home).list("data") == []


def test_a_tree_put_into_an_open_commit_can_mirror(files: FileService, tmp_path: Path) -> None:
    files.put("data:/old", b"x")
    opened = CommitService(files._home).start("data")
    files.put("data:/later", b"x")
    files.put_tree("data", _source(tmp_path, {"a": "1"}), mirror=True)
    assert _paths(files, f"data@{opened.id}:/") == ["/a"]
    assert _paths(files, "data:/") == ["/old"]
    CommitService(files._home).finish("data")
    assert _paths(files, "data:/") == ["/a"]


def test_a_tree_is_written_to_disk_and_mirrored(files: FileService, tmp_path: Path) -> None:
    files.put("data:/d/a", b"1")
    files.put("data:/d/b", b"2")
    target = tmp_path / "out"
    assert files.get_tree("data:/d", target, mirror=True).written == 2
    files.delete("data:/d/a")
    files.put("data:/d/b", b"22")
    report = files.get_tree("data:/d", target, mirror=True)
    assert (report.written, report.removed) == (1, 1)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"b": "22"}
    with pytest.raises(NotFound, match="/nope"):
        files.get_tree("data:/nope", tmp_path / "other")
    BranchService(files._home).create("data@empty")
    assert files.get_tree("data@empty", tmp_path / "empty").files == 0


# ---- copy and delete ---------------------------------------------------------------------------------------


def test_copies_move_no_bytes_and_follow_the_rules_of_targets(files: FileService) -> None:
    files.put("data:/d/a", os.urandom(100_000))
    files.put("data:/d/e/b", b"2")
    report = files.copy("data:/d", "other@dev:/x")
    assert (report.files, report.bytes) == (2, 100_001)
    assert report.stored_bytes < 5_000
    files.copy("data:/d/a", "other@dev:/y/")
    files.copy("data:/d/a", "other@dev:/z")
    files.copy("data", "other@dev:/all")
    assert _paths(files, "other@dev:/") == ["/all/d/a", "/all/d/e/b", "/x/a", "/x/e/b", "/y/a", "/z"]
    assert files.inspect("other@dev:/z").digest == files.inspect("data:/d/a").digest
    files.copy("data@main^:/d/a", "data:/d/a", append=True)
    assert files.inspect("data:/d/a").size_bytes == 200_000
    with pytest.raises(NotFound, match="/nope"):
        files.copy("data:/nope", "other:/x")


def test_paths_are_copied_by_characters_not_bytes(files: FileService) -> None:
    files.put("data:/ü/ö/f", b"x")
    files.copy("data:/ü", "data:/日本")
    assert _paths(files, "data:/日本") == ["/日本/ö/f"]


def test_a_copy_too_deep_is_refused(files: FileService) -> None:
    long = "/" + "/".join(["x" * 100] * 20)
    files.put(f"data:{long}", b"x")
    with pytest.raises(InvalidInput, match="longer than 4096 bytes"):
        files.copy("data:/", f"data:{long}{long}/y")


def test_removing(files: FileService) -> None:
    for path in ("/d/a", "/d/b", "/f"):
        files.put(f"data:{path}", b"x")
    with pytest.raises(InvalidInput, match="--recursive"):
        files.delete("data:/d")
    with pytest.raises(InvalidInput, match="--recursive"):
        files.delete("data:/")
    with pytest.raises(NotFound, match="/nope"):
        files.delete("data:/nope", recursive=True)
    with pytest.raises(NotFound, match="branch"):
        files.delete("data@nope:/f")
    with pytest.raises(InvalidInput, match="names no path"):
        files.delete("data")
    assert files.delete("data:/d", recursive=True).removed == 2
    assert files.delete("data:/f").removed == 1
    assert _paths(files, "data:/") == []
    assert len(CommitService(files._home).list("data")) == 5


# ---- compare and find --------------------------------------------------------------------------------------


def test_differences_against_the_parent_or_any_other_commit(files: FileService) -> None:
    files.put("data:/a", b"1")
    files.put("data:/b", b"1")
    files.put("data:/a", b"2")
    files.delete("data:/b")
    assert [(item.path, item.change) for item in files.diff("data")] == [("/b", Change.REMOVED)]
    assert [(item.path, item.change) for item in files.diff("data@main^")] == [("/a", Change.CHANGED)]
    assert [(item.path, item.change) for item in files.diff("data@main.1")] == [("/a", Change.ADDED)]
    both = list(files.diff("data", "data@main.2"))
    assert [(item.path, item.change) for item in both] == [("/a", Change.CHANGED), ("/b", Change.REMOVED)]
    assert [item.path for item in files.diff("data:/a", "data@main.2")] == ["/a"]
    with pytest.raises(InvalidInput, match="different paths"):
        files.diff("data:/a", "data@main.2:/b")


def test_commits_that_touched_a_path_are_found_newest_first(files: FileService) -> None:
    files.put("data:/d/f", b"1")
    files.put("data:/d/other", b"1")
    files.put("data:/d/f", b"2")
    files.delete("data:/d/f")
    found = files.find("data:/d/f")
    assert [item.change for _, item in found] == [Change.REMOVED, Change.CHANGED, Change.ADDED]
    history = CommitService(files._home).list("data")
    assert [commit.id for commit, _ in found] == [history[0].id, history[1].id, history[3].id]
    assert [item.change for _, item in files.find("data@main^:/d/f", limit=1)] == [Change.CHANGED]
    assert files.find("data:/d") == []
    assert files.find("data:/nope") == []


# ---- large files that are put again ------------------------------------------------------------------------


def _put_large(files: FileService, target: str, source: Path, content: bytes) -> str:
    source.write_bytes(content)
    files.put_tree(target, source)
    return files.inspect(f"{target.partition('@')[0]}:/large").digest


def test_a_large_file_of_which_a_version_is_stored_is_cut_as_any_other(files: FileService, tmp_path: Path) -> None:
    old = random.Random(3).randbytes(40 << 20)
    new = old[: 20 << 20] + b"inserted" + old[20 << 20 :]
    source = tmp_path / "large"
    _put_large(files, "data@main", source, old)
    again = _put_large(files, "data@main", source, new)
    assert again == _put_large(files, "other@main", source, new)
    assert b"".join(files.read("data:/large")) == new


def test_a_large_file_whose_earlier_version_is_lost_is_stored_whole(
    home: Home, files: FileService, tmp_path: Path
) -> None:
    content = random.Random(4).randbytes(34 << 20)
    source = tmp_path / "large"
    _put_large(files, "data@main", source, content)
    with home.catalog.write() as tx:
        assert tx.execute("DELETE FROM chunks WHERE size > 500000") > 10
    os.utime(source, ns=(1, 1))
    files.put_tree("data@main", source)
    assert b"".join(files.read("data:/large")) == content
