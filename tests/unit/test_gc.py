"""Garbage collection: exactly what nothing refers to goes, and only when nobody may still count on it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from paddock.catalog import chunk_index, commits, file_cuts
from paddock.catalog.chunk_index import CatalogChunkIndex
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict, Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.model.records import Location
from paddock.model.store_records import GarbageReport, PackFate
from paddock.runtime import garbage, pack_census
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage
from paddock.storage import pack_rewriting
from paddock.storage.chunks import DetachedWriter
from paddock.storage.splitting.kinds import CUT_FILES
from paddock.storage.trees import TreeRow, tree_table
from paddock.versions.home import Home

HOUR = 3600.0


@pytest.fixture
def home(paddock: EmbeddedPaddock) -> Home:
    paddock.repos.create("data")
    return paddock.home


def noise(seed: int, size: int = 100_000) -> bytes:
    """Bytes that neither compress nor repeat."""
    return random.Random(seed).randbytes(size)


def gc(home: Home, *, grace_seconds: float = 0, dry_run: bool = False) -> GarbageReport:
    return collect_garbage(home, grace_seconds=grace_seconds, dry_run=dry_run, wait_seconds=0)


def stored_bytes(home: Home) -> int:
    return sum(info.size for info in home.objects.list("packs/"))


def fates(report: GarbageReport) -> list[PackFate]:
    return sorted(each.fate for each in report.garbage)


def read(paddock: EmbeddedPaddock, address: str) -> bytes:
    return b"".join(paddock.files.read(address))


def test_an_empty_home_has_no_garbage(home: Home) -> None:
    report = gc(home)
    assert (report.garbage, report.freed_bytes, report.live_chunks) == ((), 0, 0)


def test_what_commits_hold_stays_and_what_a_deleted_repo_held_goes(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.files.put("data@main:/kept", noise(1))
    before = stored_bytes(home)
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    paddock.repos.delete("gone")
    report = gc(home)
    assert fates(report) == [PackFate.UNUSED]
    assert stored_bytes(home) == before
    assert report.freed_bytes > 100_000
    assert read(paddock, "data@main:/kept") == noise(1)
    assert gc(home).garbage == ()


def test_a_dry_run_says_the_same_and_changes_nothing(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    paddock.repos.delete("gone")
    before = stored_bytes(home)
    said = gc(home, dry_run=True)
    assert stored_bytes(home) == before
    assert gc(home, dry_run=True).garbage == said.garbage
    done = gc(home)
    assert (done.garbage, done.freed_bytes, done.removed_packs) == (
        said.garbage,
        said.freed_bytes,
        said.removed_packs,
    )


def test_every_older_version_is_kept(paddock: EmbeddedPaddock, home: Home) -> None:
    for seed in range(5):
        paddock.files.put("data@main:/file", noise(seed, 1000))
    gc(home)
    assert [read(paddock, f"data@main{'^' * (4 - seed)}:/file") for seed in range(5)] == [
        noise(seed, 1000) for seed in range(5)
    ]


def test_garbage_younger_than_the_grace_period_is_kept(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    paddock.repos.delete("gone")
    report = gc(home, grace_seconds=HOUR)
    assert (fates(report), report.removed_packs, report.freed_bytes) == ([PackFate.YOUNG], 0, 0)
    for file in (home.path / "objects" / "packs").rglob("*"):
        if file.is_file():
            os.utime(file, (home.now() - 2 * HOUR,) * 2)
    assert fates(gc(home, grace_seconds=HOUR)) == [PackFate.UNUSED]


@pytest.mark.parametrize("many", [False, True], ids=["few chunks", "many chunks"])
def test_a_sparse_pack_is_rewritten(
    paddock: EmbeddedPaddock, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """many: as where a pass over the index is less work than to look chunks up, and packs are rewritten in rounds."""
    if many:
        for module in (garbage, pack_census):
            monkeypatch.setattr(module, "LOOK_UP_CHUNKS", 0)
        monkeypatch.setattr(garbage, "_ROUND_CHUNKS", 1)
        monkeypatch.setattr(garbage, "_SLICE_CHUNKS", 1)
        monkeypatch.setattr(pack_rewriting, "_PACK_CHUNKS", 1)
    source = tmp_path / "source"
    source.mkdir()
    for name in range(10):
        (source / str(name)).write_bytes(noise(name))
    paddock.repos.create("old")
    paddock.files.put_tree("old@main", source)
    paddock.files.copy("old@main:/3", "data@main:/3")
    paddock.repos.delete("old")
    before = stored_bytes(home)
    report = gc(home)
    assert PackFate.SPARSE in fates(report)
    assert 100_000 <= report.rewritten_bytes < 110_000
    assert report.freed_bytes == before - stored_bytes(home) + _overhead(report, home)
    assert read(paddock, "data@main:/3") == noise(3)
    assert gc(home).garbage == ()


def test_a_pack_that_is_mostly_in_use_stays(paddock: EmbeddedPaddock, home: Home, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in range(10):
        (source / str(name)).write_bytes(noise(name))
    paddock.repos.create("old")
    paddock.files.put_tree("old@main", source)
    for name in range(7):
        paddock.files.copy(f"old@main:/{name}", f"data@main:/{name}")
    paddock.repos.delete("old")
    report = gc(home)
    assert fates(report) == [PackFate.PARTLY_USED]
    assert (report.rewritten_bytes, report.freed_bytes, report.removed_packs) == (0, 0, 0)
    assert 300_000 < report.garbage_bytes(PackFate.PARTLY_USED) < 310_000


def _overhead(report: GarbageReport, home: Home) -> int:
    """What the new pack costs besides the chunks copied into it."""
    return stored_bytes(home) - (report.bytes - report.freed_bytes)


def test_what_an_open_commit_wrote_is_in_use_until_it_is_abandoned(paddock: EmbeddedPaddock, home: Home) -> None:
    commit = paddock.commits.start("data@main")
    paddock.files.put("data@main:/file", noise(1))
    assert gc(home).removed_packs == 0
    assert read(paddock, f"data@{commit.id}:/file") == noise(1)
    paddock.commits.abandon("data@main")
    assert gc(home).freed_bytes > 100_000
    assert home.chunks.index.locate([]) == {}


def test_a_pack_that_no_commit_came_to_name_goes(paddock: EmbeddedPaddock, home: Home) -> None:
    with home.chunks.writer() as writer:
        registered = writer.put(noise(1))
        writer.flush()
    with DetachedWriter(home.objects) as detached:
        detached.put(noise(2))
        detached.flush()  # durable, but nobody registers it
    report = gc(home)
    assert fates(report) == [PackFate.ORPHAN, PackFate.UNUSED]
    assert stored_bytes(home) == 0
    with pytest.raises(NotFound):
        home.chunks.read(registered)


def test_what_a_writer_left_unfinished_goes(home: Home) -> None:
    writer = home.objects.create("packs/aa/aa")
    writer.write(b"half")
    assert gc(home, grace_seconds=HOUR).removed_packs == 0
    assert fates(gc(home)) == [PackFate.UNFINISHED]
    assert list(home.objects.unfinished()) == []


def test_only_one_collection_at_a_time(home: Home) -> None:
    lock = home.try_lock("gc")
    assert lock is not None
    with lock, pytest.raises(Conflict, match="by another process"):
        gc(home)
    gc(home)


def test_damage_stops_the_collection_before_anything_is_removed(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.files.put("data@main:/file", b"small")
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    paddock.repos.delete("gone")
    (tree,) = [bytes.fromhex(commit) for commit in _trees(home)]
    place = home.chunks.locate([tree])[tree]  # type: ignore[list-item,index]
    file = home.path / "objects" / "packs" / place.pack[:2] / place.pack
    content = bytearray(file.read_bytes())
    content[place.offset] ^= 1
    file.write_bytes(content)
    before = stored_bytes(home)
    with Home.open(home.path) as fresh, pytest.raises(Corrupt, match=place.pack):
        gc(fresh)
    assert stored_bytes(home) == before


def _trees(home: Home) -> Iterator[str]:
    with home.catalog.read() as tx:
        yield from (str(row[0]) for row in tx.all("SELECT tree FROM commits WHERE tree <> ''"))


# ---- beside writers and readers ----------------------------------------------------------------------------


def test_a_put_that_counts_on_condemned_chunks_gets_them(paddock: EmbeddedPaddock, home: Home) -> None:
    """A writer found a chunk stored already; before it commits, all that referred to the chunk goes."""
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    with home.pin():
        paddock.repos.delete("gone")
        assert [gc(home).removed_packs for _ in range(3)] == [0, 0, 0]
        paddock.repos.create("new")
        paddock.files.put("new@main:/file", noise(2))
    assert read(paddock, "new@main:/file") == noise(2)
    gc(home)
    assert read(paddock, "new@main:/file") == noise(2)
    paddock.repos.delete("new")
    assert gc(home).freed_bytes > 100_000
    assert stored_bytes(home) == 0


def test_a_writer_that_dedupes_before_and_commits_after_the_condemnation(paddock: EmbeddedPaddock, home: Home) -> None:
    with home.chunks.writer() as writer:
        digest = writer.put(noise(5))
        writer.flush()
    pin = home.pin()
    assert home.chunks.index.known([digest]) == {digest}
    report = gc(home)
    assert fates(report) == [PackFate.HELD]
    assert home.chunks.index.known([digest]) == set(), "later writers store it again"
    assert home.chunks.read(digest) == noise(5), "who found it before still reads it"
    # The writer commits what it counted on: a tree that names the chunk, which it did not store.
    with home.catalog.write() as tx:
        repo = tx.one("SELECT id FROM repos")
        assert repo is not None
        with home.chunks.writer() as tree_writer:
            table = tree_table([TreeRow("/file", b"", 100_000, digest, False)])
            root = home.trees.merge(home.trees.empty(), table, [], [], tree_writer)
            tree_writer._settle()
            packs = tree_writer.sink.finish()
        chunk_index.register(tx, packs)
        commit = commits.insert(
            tx,
            repo_id=int(repo[0] or 0),
            set_id="ab" * 16,
            branch="main",
            origin="user",
            parent_id=None,
            created=0.0,
            description="",
        )
        commits.finish(tx, commit, tree=root.hex(), size_bytes=0, files=1, finished=0.0)
    pin.release()
    assert fates(gc(home)) == [PackFate.PARTLY_USED]
    assert home.chunks.index.known([digest]) == {digest}
    assert home.chunks.read(digest) == noise(5)


def test_a_reader_of_a_deleted_repo_reads_to_the_end(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.repos.create("gone")
    content = noise(1, 20 << 20)
    paddock.files.put("gone@main:/file", content)
    pieces = paddock.files.read("gone@main:/file")
    head = next(pieces)
    paddock.repos.delete("gone")
    for _ in range(2):
        gc(home)
    assert head + b"".join(pieces) == content
    gc(home)
    assert stored_bytes(home) == 0


def test_a_put_again_by_scan_notices_that_its_chunks_are_gone(
    paddock: EmbeddedPaddock, home: Home, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(noise(1))
    os.utime(source / "a", (1, 1))
    paddock.repos.create("gone")
    paddock.files.put_tree("gone@main", source)
    paddock.repos.delete("gone")
    gc(home)
    paddock.files.put_tree("data@main", source)
    assert read(paddock, "data@main:/a") == noise(1)


def test_cuts_of_split_files_stay_until_they_are_long_unused(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.files.put("data@main:/a.txt", b"".join(b"%d\n" % number for number in range(5000)))
    node = {"pfs": {"repo": "data", "glob": "/*", "split": "lines:10"}}
    assert paddock.datums.preview(node).total == 500
    gc(home)
    assert fates(gc(home)) == []
    with home.catalog.read() as tx:
        root = file_cuts.root(tx, "v1 lines records=10 header=0 by=position")
    assert root
    home.tables.root(CUT_FILES, Digest(bytes.fromhex(root)))
    gc(home, grace_seconds=-40 * 24 * HOUR)
    with home.catalog.read() as tx:
        assert file_cuts.root(tx, "v1 lines records=10 header=0 by=position") == ""
    gc(home)
    assert paddock.datums.preview(node).total == 500


# ---- what is remembered between collections ----------------------------------------------------------------


def memory_files(home: Home) -> list[Path]:
    return sorted(home.cache.glob("gc-*"))


class WatchedIndex(CatalogChunkIndex):
    """The chunk index, which notes what is looked up in it to be read."""

    def __init__(self, home: Home) -> None:
        super().__init__(home.catalog)
        self.located: set[Digest] = set()
        home.chunks.index = self

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        self.located.update(digests)
        return super().locate(digests)


def test_a_second_collection_reads_only_what_changed(paddock: EmbeddedPaddock, home: Home) -> None:
    for number in range(20):
        paddock.files.put(f"data@main:/{number}", noise(number, 1000))
    first = gc(home)
    asked = WatchedIndex(home)
    again = gc(home)
    assert asked.located == set()
    assert (again.live_chunks, again.live_bytes) == (first.live_chunks, first.live_bytes)
    paddock.files.put("data@main:/more", b"more")
    asked.located.clear()
    assert gc(home).live_chunks == first.live_chunks + 3, "a root, a segment, and the bytes"
    assert len(asked.located) <= 1 + 1 + 21 + 3, "root, segment, and what they name; the pack that came"


@pytest.mark.parametrize("which", [0, 1], ids=["base", "marks"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_memory_is_not_believed(paddock: EmbeddedPaddock, home: Home, which: int, damage: str) -> None:
    paddock.files.put("data@main:/file", noise(1))
    paddock.repos.create("gone")
    paddock.files.put("gone@main:/file", noise(2))
    gc(home)
    file = memory_files(home)[which]
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    paddock.repos.delete("gone")
    report = gc(home)
    assert fates(report) == [PackFate.UNUSED]
    assert read(paddock, "data@main:/file") == noise(1)
    asked = WatchedIndex(home)
    gc(home)
    assert asked.located == set(), "it is remembered anew"


def test_what_went_out_of_use_need_not_be_readable(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.files.put("data@main:/file", noise(1))
    paddock.repos.create("gone")
    before = stored_bytes(home)
    paddock.files.put("gone@main:/file", noise(2))
    gc(home)
    root = Digest(bytes.fromhex(list(_trees(home))[-1]))
    place = home.chunks.locate([root])[root]
    file = home.path / "objects" / "packs" / place.pack[:2] / place.pack
    content = bytearray(file.read_bytes())
    content[place.offset] ^= 1
    file.write_bytes(content)
    paddock.repos.delete("gone")
    with Home.open(home.path) as fresh:
        assert fates(gc(fresh)) == [PackFate.UNUSED]
    assert stored_bytes(home) == before
    assert read(paddock, "data@main:/file") == noise(1)


def test_a_repair_voids_what_is_remembered_of_packs(paddock: EmbeddedPaddock, home: Home) -> None:
    """A repair enters chunks into the index that a pack has and the index had lost."""
    paddock.files.put("data@main:/file", noise(1))
    with home.catalog.write() as tx:
        tx.execute("DELETE FROM chunks WHERE size = ?", (len(noise(1)),))
    few = gc(home, dry_run=True).live_chunks
    assert check_store(home, repair=True).repaired
    assert gc(home).live_chunks == few + 1


def test_a_memory_that_cannot_be_kept_only_costs_time(paddock: EmbeddedPaddock, home: Home) -> None:
    paddock.files.put("data@main:/file", noise(1))
    home.cache.rmdir()
    home.cache.write_bytes(b"in the way")
    assert [gc(home).garbage for _ in range(2)] == [(), ()]
