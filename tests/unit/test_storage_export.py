"""From a tree to local files; mirrors, and what they must never touch."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from paddock.model.errors import Conflict, Corrupt, NotFound, PaddockError
from paddock.model.ids import Digest
from paddock.model.records import GetReport
from paddock.model.services import Transferred
from paddock.storage.chunks import ChunkStore
from paddock.storage.export import write_tree
from paddock.storage.objects import LocalObjects
from paddock.storage.packs import pack_key
from paddock.storage.tables import Tables
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects

FILES = {"/a/x": b"1", "/a/y/z": b"", "/a-b": b"22", "/b": b"333", "/big": random.Random(1).randbytes(3 << 20)}


@dataclass
class Place:
    """A store, a target, and the wish to see files in the one appear in the other."""

    store: ChunkStore
    trees: Trees
    target: Path
    cache: Path

    def tree(self, files: dict[str, bytes], executable: frozenset[str] = frozenset()) -> Digest:
        rows = []
        with self.store.writer() as writer:
            for path, data in files.items():
                stored = writer.put_stream(Reader(data))
                rows.append(TreeRow(path, b"", stored.size, stored.digest, path in executable, stored.chunks))
            root = self.trees.merge(self.trees.empty(), tree_table(rows), [], [], writer)
            writer.flush()
        return root

    def get(self, root: Digest, path: str = "/", target: Path | None = None) -> GetReport:
        return write_tree(self.store, self.trees, root, path, target or self.target)

    def mirror(self, root: Digest, path: str = "/", *, force: bool = False) -> GetReport:
        return write_tree(
            self.store, self.trees, root, path, self.target, mirror=True, force=force, cache_dir=self.cache
        )

    def found(self) -> dict[str, bytes]:
        return {f"/{path.relative_to(self.target)}": path.read_bytes() for path in files_below(self.target)}


class Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def files_below(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if not path.is_dir() or path.is_symlink())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    store = ChunkStore(LocalObjects(tmp_path / "objects"), MemoryIndex())
    return Place(store, Trees(Tables(store)), tmp_path / "target", tmp_path / "cache")


# ---- get ---------------------------------------------------------------------------------------------------


def test_a_tree_is_written_as_it_is(place: Place) -> None:
    heard: list[Transferred] = []
    root = place.tree(FILES, frozenset({"/b"}))
    report = write_tree(place.store, place.trees, root, "/", place.target, on_transfer=heard.append)
    assert place.found() == FILES
    total = sum(map(len, FILES.values()))
    assert (report.files, report.bytes, report.written, report.removed) == (5, total, 5, 0)
    assert heard[-1] == Transferred(5, total, 5, total)
    assert {path.name for path in files_below(place.target) if os.access(path, os.X_OK)} == {"b"}


def test_many_files_in_many_directories_are_written(place: Place) -> None:
    files = {f"/d{number % 40:02d}/e{number % 3}/{number}": b"%d" % number for number in range(3000)}
    assert place.get(place.tree(files)).written == 3000
    assert place.found() == files


def test_part_of_a_tree_is_written_without_its_prefix(place: Place) -> None:
    root = place.tree(FILES)
    assert place.get(root, "/a").files == 2
    assert place.found() == {"/x": b"1", "/y/z": b""}


def test_one_file_goes_to_the_target_or_into_it(place: Place) -> None:
    root = place.tree(FILES)
    place.get(root, "/b")
    assert place.target.read_bytes() == b"333"
    directory = place.target.with_name("directory")
    directory.mkdir()
    place.get(root, "/a/x", directory)
    assert (directory / "x").read_bytes() == b"1"


def test_what_is_not_there_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound, match="/nothing"):
        place.get(place.tree(FILES), "/nothing")
    assert not place.target.exists()
    assert place.get(place.trees.empty()).files == 0


def test_get_replaces_files_and_leaves_others(place: Place) -> None:
    place.target.mkdir()
    (place.target / "b").write_bytes(b"old")
    (place.target / "mine").write_bytes(b"mine")
    place.get(place.tree(FILES))
    assert place.found() == FILES | {"/mine": b"mine"}


def test_no_write_follows_a_link_out_of_the_target(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    place.target.mkdir()
    (place.target / "a").symlink_to(outside)
    root = place.tree(FILES)
    with pytest.raises(Conflict, match="target/a is a symbolic link where a directory is needed"):
        place.get(root)
    (place.target / "a").unlink()
    (place.target / "b").symlink_to(outside / "precious")
    place.get(root)
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    assert place.found() == FILES


def test_the_target_itself_may_be_reached_through_a_link(place: Place, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    place.target.symlink_to(tmp_path / "real")
    place.get(place.tree(FILES))
    assert (tmp_path / "real" / "b").read_bytes() == b"333"


def test_a_file_or_directory_in_the_way_is_named(place: Place) -> None:
    root = place.tree(FILES)
    place.target.mkdir()
    (place.target / "a").write_bytes(b"file")
    with pytest.raises(Conflict, match="target/a is no directory where a directory is needed"):
        place.get(root)
    (place.target / "a").unlink()
    (place.target / "b" / "inner").mkdir(parents=True)
    with pytest.raises(Conflict, match="target/b is a directory where a file is to be written"):
        place.get(root)
    assert not [path for path in files_below(place.target) if path.name.startswith(".")]


def test_a_damaged_chunk_never_becomes_a_file(tmp_path: Path) -> None:
    objects = MemoryObjects()
    store = ChunkStore(objects, MemoryIndex())
    place = Place(store, Trees(Tables(store)), tmp_path / "target", tmp_path / "cache")
    root = place.tree({"/a": b"aaaa", "/b": b"bbbb"})
    digest = Digest(blake3(b"bbbb").digest())
    location = store.locate([digest])[digest]
    data = bytearray(objects.contents[pack_key(location.pack)])
    data[location.offset] ^= 1
    objects.contents[pack_key(location.pack)] = bytes(data)
    with pytest.raises(Corrupt, match=digest.hex()):
        place.get(root)
    assert "/b" not in place.found()


# ---- mirror ------------------------------------------------------------------------------------------------


def test_a_mirror_follows_the_tree(place: Place) -> None:
    assert place.mirror(place.tree(FILES)).written == 5
    assert place.found() == FILES
    again = place.mirror(place.tree(FILES))
    assert (again.files, again.written, again.removed) == (5, 0, 0)
    changed = {"/a/x": b"new", "/b": b"333", "/c/d": b"4"}
    report = place.mirror(place.tree(changed))
    assert (report.files, report.written, report.removed) == (3, 2, 3)
    assert place.found() == changed
    assert not (place.target / "a" / "y").exists(), "directories that empty are removed"
    assert place.mirror(place.trees.empty()).removed == 3
    assert list(place.target.iterdir()) == []


def test_a_mirror_restores_what_is_missing_or_modified(place: Place) -> None:
    root = place.tree(FILES)
    place.mirror(root)
    (place.target / "b").unlink()
    (place.target / "a" / "x").write_bytes(b"2")
    (place.target / "a-b").chmod(0o755)
    kept = (place.target / "big").stat().st_ino
    assert place.mirror(root).written == 3
    assert place.found() == FILES
    assert not os.access(place.target / "a-b", os.X_OK)
    assert (place.target / "big").stat().st_ino == kept


def test_a_mirror_leaves_alone_what_it_did_not_write(place: Place) -> None:
    place.mirror(place.tree(FILES))
    (place.target / "a" / "mine").write_bytes(b"mine")
    (place.target / "b").write_bytes(b"edited since")
    report = place.mirror(place.tree({"/a-b": b"22"}))
    assert report.removed == 3
    assert place.found() == {"/a-b": b"22", "/a/mine": b"mine", "/b": b"edited since"}
    assert place.mirror(place.tree({"/a-b": b"22"})).removed == 0


def test_a_mirror_refuses_to_overwrite_what_it_did_not_write(place: Place) -> None:
    place.target.mkdir()
    for name, data in (("b", b"mine"), ("a-b", b"22"), ("big", b"short")):
        (place.target / name).write_bytes(data)
    before = place.found()
    with pytest.raises(Conflict, match="has 2 files in the way") as caught:
        place.mirror(place.tree(FILES))
    assert {problem.place for problem in caught.value.problems} == {f"{place.target}/{name}" for name in ("b", "big")}
    assert place.found() == before, "nothing is changed"
    assert place.mirror(place.tree(FILES), force=True).written == 4
    assert place.found() == FILES
    assert place.mirror(place.trees.empty()).removed == 5, "a file taken over is ours"


def test_a_directory_in_the_way_is_refused_unless_it_empties(place: Place) -> None:
    place.mirror(place.tree({"/a/x": b"1"}))
    (place.target / "d").mkdir()
    with pytest.raises(Conflict, match="1 file in the way"):
        place.mirror(place.tree({"/a/x": b"1", "/d": b"2"}))
    assert place.mirror(place.tree({"/a": b"now a file"})).removed == 1
    assert place.mirror(place.tree({"/a/x": b"again"})).removed == 1
    assert place.found() == {"/a/x": b"again"}


def test_an_interrupted_mirror_still_knows_its_files(place: Place) -> None:
    def stop(told: Transferred) -> None:
        if told.files == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tree(
            place.store,
            place.trees,
            place.tree(FILES),
            "/",
            place.target,
            mirror=True,
            cache_dir=place.cache,
            on_transfer=stop,
        )
    assert len(place.found()) >= 3
    other = {"/a/x": b"another", "/a-b": b"another"}
    place.mirror(place.tree(other))
    assert place.found() == other


def test_a_mirror_that_lost_its_manifest_takes_equal_files_over(place: Place) -> None:
    root = place.tree(FILES)
    place.mirror(root)
    (manifest,) = place.cache.iterdir()
    for damage in (lambda: manifest.unlink(), lambda: manifest.write_bytes(manifest.read_bytes()[:-1])):
        damage()
        assert place.mirror(root).written == 0
    assert place.mirror(place.trees.empty()).removed == 5


def test_a_mirror_of_one_file(place: Place) -> None:
    place.mirror(place.tree({"/a": b"1"}), "/a")
    assert place.target.read_bytes() == b"1"
    place.mirror(place.tree({"/a": b"2"}), "/a")
    assert place.target.read_bytes() == b"2"
    place.target.write_bytes(b"mine")
    assert place.mirror(place.tree({"/a": b"3"}), "/a").written == 1, "a modified file is restored"


def test_a_removed_directory_that_became_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.mirror(place.tree({"/a/x": b"1", "/b": b"2"}))
    (place.target / "a").rename(tmp_path / "moved")
    (place.target / "a").symlink_to(tmp_path / "moved")
    place.mirror(place.tree({"/b": b"2"}))
    assert (tmp_path / "moved" / "x").read_bytes() == b"1"


def test_errors_name_what_is_wrong(place: Place) -> None:
    place.target.write_bytes(b"a file")
    with pytest.raises(PaddockError, match="target"):
        place.get(place.tree(FILES))
