"""Trees: looking, listing, editing, comparing; and that a path is never a file and a directory at once."""

from __future__ import annotations

import pyarrow as pa
import pytest
from blake3 import blake3

from paddock.model.errors import Conflict
from paddock.model.ids import Digest
from paddock.model.records import Change, FileInfo, FileKind
from paddock.storage.chunks import ChunkStore
from paddock.storage.clashes import ancestors, clash_within, directories_above
from paddock.storage.path_columns import PathColumn
from paddock.storage.tables import Tables
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import EMPTY_DIRECTORY, TreeRow, Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects

PATHS = ("/a-b", "/a/x", "/a/y/z", "/b", "/c/d/e/f", "/c/d/g", "/é/ü")


def row(path: str, content: str = "", *, executable: bool = False, datum: bytes = b"") -> TreeRow:
    data = (content or path).encode()
    return TreeRow(path, datum, len(data), Digest(blake3(data).digest()), executable)


@pytest.fixture(params=[1, 14], ids=["many segments", "one segment"])
def trees(request: pytest.FixtureRequest) -> Trees:
    return Trees(Tables(ChunkStore(MemoryObjects(), MemoryIndex()), boundary_bits=request.param))


def edit(
    trees: Trees,
    root: Digest,
    upserts: list[TreeRow] | None = None,
    deletions: tuple[str, ...] = (),
    prefixes: tuple[str, ...] = (),
) -> Digest:
    with trees.tables.store.writer() as writer:
        root = trees.merge(root, tree_table(upserts or []), deletions, prefixes, writer)
        writer.flush()
    return root


@pytest.fixture
def root(trees: Trees) -> Digest:
    return edit(trees, trees.empty(), [row(path) for path in PATHS])


def paths_of(trees: Trees, root: Digest, path: str = "/") -> list[str]:
    return [info.path for info in trees.walk(root, path)]


def names(infos: list[FileInfo]) -> list[str]:
    return [info.path + ("/" if info.kind is FileKind.DIRECTORY else "") for info in infos]


def test_the_root_of_a_tree_never_changes() -> None:
    trees = Trees(Tables(ChunkStore(MemoryObjects(), MemoryIndex())))
    large = TreeRow("/big", bytes(16), 5 << 20, Digest(bytes(32)), True, (Digest(b"\1" * 32), Digest(b"\2" * 32)))
    root = edit(trees, trees.empty(), [row("/a/b"), large])
    assert root.hex() == "b9f9e6c4817f65c236c749790e467bb0eda67396ec42e2dc1ee6d0e606ffad7e"
    assert trees.empty().hex() == "0685ec01fb539cfb8912a19c0bd2f40fe3c6d1085ba39eda94611d83064166f9"


def test_rows_come_back_as_they_were(trees: Trees, root: Digest) -> None:
    special = TreeRow("/big", bytes(16), 9, Digest(bytes(32)), True, (Digest(b"\1" * 32), Digest(b"\2" * 32)))
    changed = edit(trees, root, [special])
    assert trees.row(changed, "/big") == special
    assert trees.row(changed, "/a/x") == row("/a/x")
    assert trees.row(changed, "/a") is None
    assert trees.row(changed, "/zzz") is None
    assert trees.row(trees.empty(), "/a") is None


def test_children_are_files_and_directories_sorted_by_path(trees: Trees, root: Digest) -> None:
    assert names(list(trees.children(root, "/"))) == ["/a/", "/a-b", "/b", "/c/", "/é/"]
    assert names(list(trees.children(root, "/c"))) == ["/c/d/"]
    assert names(list(trees.children(root, "/c/d"))) == ["/c/d/e/", "/c/d/g"]
    assert list(trees.children(root, "/b")) == []
    assert list(trees.children(root, "/nothing")) == []
    assert list(trees.children(trees.empty(), "/")) == []


def test_walk_gives_the_files_at_or_below(trees: Trees, root: Digest) -> None:
    assert paths_of(trees, root) == list(PATHS)
    assert paths_of(trees, root, "/a") == ["/a/x", "/a/y/z"]
    assert paths_of(trees, root, "/b") == ["/b"]
    assert paths_of(trees, root, "/a/") == []


def test_a_directory_is_described_by_what_is_below(trees: Trees, root: Digest) -> None:
    records = b"".join(
        name.encode() + b"\0" + blake3(path.encode()).digest() + b"\0"
        for name, path in (("x", "/a/x"), ("y/z", "/a/y/z"))
    )
    digest = blake3(b"paddock.directory.v1\0" + records).hexdigest()
    info = trees.info(root, "/a")
    assert info == FileInfo("/a", FileKind.DIRECTORY, len("/a/x/a/y/z"), digest, 2, False, "")
    assert trees.directory_digest(root, "/a").hex() == digest
    assert next(trees.children(root, "/")) == info


def test_the_root_is_a_directory_even_of_an_empty_tree(trees: Trees, root: Digest) -> None:
    info = trees.info(root, "/")
    assert info is not None
    assert (info.kind, info.files, info.size_bytes) == (FileKind.DIRECTORY, 7, sum(len(p.encode()) for p in PATHS))
    assert trees.totals(root) == (info.files, info.size_bytes)
    empty = trees.info(trees.empty(), "/")
    assert empty is not None
    assert (empty.files, empty.digest) == (0, EMPTY_DIRECTORY.hex())
    assert trees.info(root, "/nothing") is None


def test_equal_directories_have_equal_digests_wherever_they_lie(trees: Trees) -> None:
    root = edit(
        trees, trees.empty(), [row("/one/f", "1"), row("/two/deep/f", "1"), row("/three/f", "1", executable=True)]
    )
    one, deep = trees.directory_digest(root, "/one"), trees.directory_digest(root, "/two/deep")
    assert one == deep
    assert one != trees.directory_digest(root, "/three"), "the mode is content too"
    assert one != trees.directory_digest(root, "/two"), "so are the names"


def test_files_tell_their_mode_and_datum(trees: Trees) -> None:
    root = edit(trees, trees.empty(), [row("/tool", executable=True, datum=b"\xab" * 16)])
    info = trees.info(root, "/tool")
    assert info is not None
    assert (info.executable, info.datum) == (True, "ab" * 16)


def test_deletions_come_before_additions(trees: Trees, root: Digest) -> None:
    assert paths_of(trees, edit(trees, root, deletions=("/b", "/nothing", "/c"))) == [p for p in PATHS if p != "/b"]
    assert paths_of(trees, edit(trees, root, prefixes=("/a", "/b"))) == ["/a-b", "/c/d/e/f", "/c/d/g", "/é/ü"]
    assert edit(trees, root, prefixes=("/",)) == trees.empty()
    replaced = edit(trees, root, [row("/b", "new")], deletions=("/b",), prefixes=("/b",))
    assert trees.row(replaced, "/b") == row("/b", "new")
    assert edit(trees, edit(trees, root, [row("/n")]), deletions=("/n",)) == root


@pytest.mark.parametrize(
    ("new", "file", "inside"),
    [
        (("/b/q",), "/b", "/b/q"),
        (("/b/q/r/s",), "/b", "/b/q/r/s"),
        (("/c",), "/c", "/c/d/e/f"),
        (("/c/d",), "/c/d", "/c/d/e/f"),
        (("/n", "/n-1", "/n/m"), "/n", "/n/m"),
        (("/a/x/1", "/zz"), "/a/x", "/a/x/1"),
    ],
)
def test_a_file_cannot_be_a_directory_too(
    trees: Trees, root: Digest, new: tuple[str, ...], file: str, inside: str
) -> None:
    with pytest.raises(Conflict, match=f"{file} can't be both a file and a directory: {inside} lies below it"):
        edit(trees, root, [row(path) for path in new])


def test_a_file_may_take_the_place_of_a_directory_that_goes(trees: Trees, root: Digest) -> None:
    assert "/c" in paths_of(trees, edit(trees, root, [row("/c")], prefixes=("/c",)))
    assert "/c/d" in paths_of(trees, edit(trees, root, [row("/c/d")], deletions=("/c/d/e/f", "/c/d/g")))
    assert "/b/q" in paths_of(trees, edit(trees, root, [row("/b/q")], deletions=("/b",)))
    with pytest.raises(Conflict, match="/c/d/g lies below"):
        edit(trees, root, [row("/c/d")], deletions=("/c/d/e/f",))
    assert trees.find_clash(root, pa.array(["/a-b/c"])) == ("/a-b", "/a-b/c")
    assert trees.find_clash(root, pa.array(["/a-b/c"]), {"/a-b"}) is None
    assert trees.find_clash(trees.empty(), pa.array(["/a", "/b"])) is None


def test_one_path_cannot_be_put_twice_at_once(trees: Trees, root: Digest) -> None:
    with pytest.raises(Conflict, match="/x occurs twice"):
        edit(trees, root, [row("/x", "1"), row("/x", "2")])


def test_diffs_are_sorted_and_can_be_limited(trees: Trees, root: Digest) -> None:
    changed = edit(trees, root, [row("/a/x", "new"), row("/aa")], deletions=("/c/d/g",))
    found = [(diff.change, diff.path) for diff in trees.diff(root, changed)]
    assert found == [(Change.CHANGED, "/a/x"), (Change.ADDED, "/aa"), (Change.REMOVED, "/c/d/g")]
    (diff,) = trees.diff(root, changed, "/a")
    assert diff.old is not None
    assert diff.new is not None
    assert (diff.old.size_bytes, diff.new.size_bytes) == (4, 3)
    assert [diff.path for diff in trees.diff(root, changed, "/c/d/g")] == ["/c/d/g"]
    assert list(trees.diff(root, changed, "/b")) == []
    assert [diff.change for diff in trees.diff(changed, root)] == [Change.CHANGED, Change.REMOVED, Change.ADDED]
    assert len(list(trees.diff(trees.empty(), root))) == len(PATHS)


def test_rows_are_columns(trees: Trees, root: Digest) -> None:
    table = pa.concat_tables(trees.rows(root, "/c"))
    assert table.column_names == [column.name for column in TREE.columns]
    assert table.column("path").to_pylist() == ["/c/d/e/f", "/c/d/g"]


def test_ancestors_and_clashes_of_paths() -> None:
    paths = ["/a/b/c", "/a/d", "/e"]
    assert ancestors(paths) == directories_above(pa.array(paths)) == {"/a/b", "/a"}
    assert clash_within(pa.array(["/a", "/a-b", "/a/b"])) == ("/a", "/a/b")
    assert clash_within(pa.array(["/a", "/a-b", "/ab/c"])) is None


def test_a_file_is_found_that_ends_one_window_and_is_a_directory_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.storage.clashes._WINDOW_ROWS", 2)
    assert clash_within(pa.array(["/0", "/a", "/a-b", "/a/b"])) == ("/a", "/a/b")
    assert clash_within(pa.array(["/0", "/a", "/a-b", "/a-c", "/a-d", "/a-e", "/a/b"])) == ("/a", "/a/b")
    assert clash_within(pa.array(["/0", "/a-b", "/a-c/d", "/a/b"])) is None


@pytest.mark.parametrize(
    ("text", "found"), [("b", True), ("y", True), ("z", False), ("a", True), ("-b", False), ("", True)]
)
def test_directories_that_end_in_a_text_are_told_from_files(text: str, found: bool) -> None:
    column = PathColumn(pa.table({"path": ["/a/b/y/z", "/a-b", "/b/z"]}))
    assert column.directories_end_in(text) == found
    assert not PathColumn(pa.table({"path": ["/b", "/c"]})).directories_end_in("b")
