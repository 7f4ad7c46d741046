"""From a local directory to tree rows: what is read, what is refused, what is not read again."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from paddock.model.errors import InvalidInput, NotFound
from paddock.model.services import Transferred
from paddock.storage.chunks import EMPTY_DIGEST, ChunkStore
from paddock.storage.file_reading import SMALL_BYTES
from paddock.storage.ingest import HELPER_FILES_MIN, Ingested, add_tree
from paddock.storage.objects import LocalObjects
from paddock.storage.scan import scan_source
from paddock.testing.objects import MemoryIndex, MemoryObjects


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return ChunkStore(LocalObjects(tmp_path / "objects"), MemoryIndex())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def put(store: ChunkStore, source: Path, target: str = "/", *, cache: Path | None = None) -> Ingested:
    with store.writer() as writer:
        found = add_tree(store, writer, source, target, cache_dir=cache)
        writer.flush()
    found.commit_cache(None)
    return found


def contents(store: ChunkStore, found: Ingested) -> dict[str, bytes]:
    return {
        row["path"]: b"".join(store.read_file(row["size"], row["digest"], row["chunks"]))
        for row in found.table.to_pylist()
    }


def refused(source: Path) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        scan_source(source)
    return {problem.place: problem.message for problem in caught.value.problems}


# ---- what is put -------------------------------------------------------------------------------------------


def test_a_directory_becomes_rows_sorted_by_path(store: ChunkStore, source: Path) -> None:
    files = {"a/x": b"1", "a-b": b"22", "a/y/z": b"", "é ü": b"4444", "big": random.Random(1).randbytes(3 << 20)}
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "empty directory").mkdir()
    found = put(store, source, "/data")
    expected = {f"/data/{name}": data for name, data in files.items()}
    assert contents(store, found) == expected
    rows = found.table.to_pylist()
    assert [row["path"] for row in rows] == sorted(expected)
    assert {row["datum"] for row in rows} == {b""}
    by_path = {row["path"]: row for row in rows}
    assert by_path["/data/a/y/z"]["digest"] == EMPTY_DIGEST
    assert by_path["/data/a/x"]["digest"] == blake3(b"1").digest()
    assert len(by_path["/data/big"]["chunks"]) > 1
    assert (found.files, found.bytes, found.read_files) == (5, sum(map(len, files.values())), 5)


def test_one_file_becomes_the_target(store: ChunkStore, source: Path) -> None:
    (source / "f").write_bytes(b"data")
    found = put(store, source / "f", "/there/g")
    assert contents(store, found) == {"/there/g": b"data"}


def test_an_empty_directory_is_no_rows(store: ChunkStore, source: Path, cache: Path) -> None:
    found = put(store, source, cache=cache)
    assert (found.files, found.bytes, found.table.num_rows) == (0, 0, 0)
    assert put(store, source, cache=cache).table.num_rows == 0


def test_a_source_that_is_not_there(store: ChunkStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        put(store, tmp_path / "nowhere")


def test_the_executable_bit_is_kept(store: ChunkStore, source: Path) -> None:
    (source / "tool").write_bytes(b"#!")
    (source / "tool").chmod(0o755)
    (source / "text").write_bytes(b"#!")
    rows = put(store, source).table.to_pylist()
    assert {row["path"]: row["executable"] for row in rows} == {"/text": 0, "/tool": 1}


def test_links_are_followed_and_homes_skipped(store: ChunkStore, source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "f").write_bytes(b"far")
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "file").symlink_to(tmp_path / "elsewhere" / "deep" / "f")
    (source / "sub" / ".paddock").mkdir(parents=True)
    (source / "sub" / ".paddock" / "home.json").write_bytes(b"{}")
    assert contents(store, put(store, source)) == {"/file": b"far", "/link/deep/f": b"far"}
    (tmp_path / "door").symlink_to(source)
    assert contents(store, put(store, tmp_path / "door")) == {"/file": b"far", "/link/deep/f": b"far"}


def test_many_small_files_are_read_by_helpers(store: ChunkStore, source: Path) -> None:
    expected = {}
    for number in range(HELPER_FILES_MIN + 50):
        name, data = f"d{number % 7}/f{number:05d}", b"%d " % (number // 2) * 20
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(data)
        expected[f"/{name}"] = data
    (source / "empty").write_bytes(b"")
    (source / "large").write_bytes(b"large" * SMALL_BYTES)
    (source / "d0" / "f00000").chmod(0o700)
    expected |= {"/empty": b"", "/large": b"large" * SMALL_BYTES}
    heard: list[Transferred] = []
    with store.writer() as writer:
        found = add_tree(store, writer, source, "/", on_transfer=heard.append)
        packs = writer.flush()
    assert contents(store, found) == expected
    assert found.read_files == len(expected)
    executable = {row["path"] for row in found.table.to_pylist() if row["executable"]}
    assert executable == {"/d0/f00000"}
    stored = [digest for pack in packs for digest, _ in pack.chunks]
    assert len(stored) == len(set(stored)), "equal files are stored once, whichever helper reads them"
    assert (heard[-1].files, heard[-1].bytes) == (len(expected), found.bytes)
    assert [told.files for told in heard] == sorted(told.files for told in heard)
    again = put(store, source)
    assert again.table.equals(found.table)


def test_files_in_a_store_without_a_disk_are_read_here(source: Path) -> None:
    store = ChunkStore(MemoryObjects(), MemoryIndex())
    for number in range(HELPER_FILES_MIN):
        (source / f"{number}").write_bytes(b"x")
    assert put(store, source).files == HELPER_FILES_MIN


# ---- what is refused ---------------------------------------------------------------------------------------


def test_everything_that_cannot_be_stored_is_listed(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(source / "socket"))
    (source / "dangling").symlink_to("nowhere")
    (source / "circle").symlink_to("circle")
    (source / "device").symlink_to("/dev/null")
    (source / "dir").mkdir()
    (source / "dir" / "up").symlink_to("..")
    Path(os.fsdecode(os.fsencode(source) + b"/bad\xff")).write_bytes(b"")
    (source / "good").write_bytes(b"")
    problems = refused(source)
    assert {place: message.partition(";")[0] for place, message in problems.items()} == {
        "/fifo": "is a FIFO",
        "/socket": "is a socket",
        "/dangling": "is a link that leads nowhere",
        "/circle": "is a link that leads in a circle",
        "/device": "is a link to a device",
        "/dir/up": f"is a link to {source}, which it lies in: the tree would have no end",
        "/bad\\xff": "has a name that is not valid UTF-8",
    }


def test_links_that_lead_into_each_other_end(source: Path, tmp_path: Path) -> None:
    (source / "a").mkdir()
    (source / "b").mkdir()
    (source / "a" / "to-b").symlink_to(source / "b")
    (source / "b" / "to-a").symlink_to(source / "a")
    assert set(refused(source)) == {"/a/to-b/to-a", "/b/to-a/to-b"}


def test_long_lists_of_problems_are_cut_and_counted(source: Path) -> None:
    for number in range(25):
        os.mkfifo(source / f"fifo{number:02d}")
    with pytest.raises(InvalidInput, match="has 25 entries") as caught:
        scan_source(source)
    assert len(caught.value.problems) == 21
    assert str(caught.value.problems[-1]) == "… and 5 more"


def test_paths_that_would_be_too_long_are_refused(store: ChunkStore, source: Path) -> None:
    deep = source
    for _ in range(3):
        deep /= "x" * 200
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"")
    assert put(store, source, "/" + "t/" * 1000 + "t").files == 1
    with pytest.raises(InvalidInput) as caught:
        put(store, source, "/" + "t/" * 1800 + "t")
    assert "has a path of" in caught.value.problems[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_listed(store: ChunkStore, source: Path) -> None:
    (source / "secret").write_bytes(b"")
    (source / "secret").chmod(0)
    with pytest.raises(InvalidInput) as caught:
        put(store, source)
    assert caught.value.problems[0].message == "may not be read; check its owner and mode"


def test_a_file_that_vanishes_after_the_scan_is_named(store: ChunkStore, source: Path) -> None:
    doomed = [source / "small", source / "large"]
    doomed[0].write_bytes(b"x")
    doomed[1].write_bytes(bytes(SMALL_BYTES + 1))
    (source / "first").write_bytes(b"")

    def remove(told: Transferred) -> None:
        for path in doomed:
            path.unlink(missing_ok=True)

    with store.writer() as writer, pytest.raises(InvalidInput) as caught:
        add_tree(store, writer, source, "/", on_transfer=remove)
    assert {problem.place for problem in caught.value.problems} == {"/small", "/large"}


def test_a_file_that_grows_after_the_scan_is_put_as_it_is_read(store: ChunkStore, source: Path) -> None:
    (source / "a").write_bytes(b"x")
    (source / "b").write_bytes(b"small")
    grown = random.Random(2).randbytes(SMALL_BYTES * 3)
    with store.writer() as writer:
        found = add_tree(store, writer, source, "/", on_transfer=lambda told: replace(source / "b", grown))
        writer.flush()
    assert contents(store, found)["/b"] == grown
    assert found.bytes == 1 + len(grown)


def replace(path: Path, data: bytes) -> None:
    if path.stat().st_size != len(data):
        path.write_bytes(data)


# ---- what is not read again --------------------------------------------------------------------------------


def settled_put(store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Ingested:
    """A put whose clock is an hour ahead, so that fresh files count as old."""
    with monkeypatch.context() as patch:
        now = time.time_ns
        patch.setattr("time.time_ns", lambda: now() + 3_600_000_000_000)
        return put(store, source, cache=cache)


def test_unchanged_files_are_not_read_again(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(b"1")
    (source / "empty").write_bytes(b"")
    (source / "big").write_bytes(random.Random(3).randbytes(3 << 20))
    first = settled_put(store, source, cache, monkeypatch)
    again = settled_put(store, source, cache, monkeypatch)
    assert (first.read_files, again.read_files) == (3, 0)
    assert again.table.equals(first.table)
    elsewhere = put(store, source, "/other", cache=cache)
    assert elsewhere.read_files == 0
    assert elsewhere.table.column("path").to_pylist() == ["/other/a", "/other/big", "/other/empty"]


def test_fresh_files_are_not_trusted(store: ChunkStore, source: Path, cache: Path) -> None:
    (source / "a").write_bytes(b"1")
    put(store, source, cache=cache)
    assert put(store, source, cache=cache).read_files == 1


def rewrite_in_place(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap_in(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"2")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite_in_place, swap_in, lambda path: path.write_bytes(b"2")])
def test_changed_files_are_read_again_even_with_their_old_mtime(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    (source / "a").write_bytes(b"1")
    (source / "b").write_bytes(b"b")
    settled_put(store, source, cache, monkeypatch)
    change(source / "a")
    found = put(store, source, cache=cache)
    assert found.read_files == 1
    assert contents(store, found) == {"/a": b"2", "/b": b"b"}


def test_added_and_removed_files_are_seen(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (source / name).write_bytes(name.encode())
    settled_put(store, source, cache, monkeypatch)
    (source / "b").unlink()
    (source / "aa").write_bytes(b"aa")
    found = put(store, source, cache=cache)
    assert found.read_files == 1
    assert contents(store, found) == {"/a": b"a", "/aa": b"aa", "/c": b"c"}


def test_a_changed_mode_is_seen(store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "a").write_bytes(b"1")
    settled_put(store, source, cache, monkeypatch)
    (source / "a").chmod(0o755)
    assert put(store, source, cache=cache).table.column("executable").to_pylist() == [1]


def test_after_anything_was_removed_from_the_store_all_is_read_again(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(b"1")
    settled_put(store, source, cache, monkeypatch)
    for info in list(store.objects.list("packs/")):
        store.objects.delete(info.key)
    emptied = ChunkStore(store.objects, MemoryIndex())
    found = put(emptied, source, cache=cache)
    assert found.read_files == 1
    assert contents(emptied, found) == {"/a": b"1"}


def test_an_index_that_was_restored_from_an_older_copy_is_noticed(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(b"1")
    settled_put(store, source, cache, monkeypatch)
    older = ChunkStore(store.objects, MemoryIndex())
    assert contents(older, put(older, source, cache=cache)) == {"/a": b"1"}


def test_a_damaged_cache_only_costs_time(
    store: ChunkStore, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(b"1")
    settled_put(store, source, cache, monkeypatch)
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    for damaged in (b"", sound[:50], sound[:-1], sound[:-8] + b"\1" * 8):
        file.write_bytes(damaged)
        assert contents(store, put(store, source, cache=cache)) == {"/a": b"1"}
    file.write_bytes(sound)
    assert put(store, source, cache=cache).read_files == 0
