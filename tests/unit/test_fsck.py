"""The check finds every kind of damage, names exactly the files that it hits, and the repair mends what can be mended."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.ids import Digest
from paddock.model.store_records import CheckReport, DamageKind
from paddock.runtime.damaged_files import FILES_NAMED_MAX
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage
from paddock.versions.home import Home


def noise(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(noise(ord(name)))
    (folder / "large").write_bytes(noise(1, 6 << 20))
    return folder


@pytest.fixture
def home(paddock: EmbeddedPaddock, source: Path) -> Home:
    """A home with one commit of four files in one pack, and a later commit that changes one of them."""
    paddock.repos.create("data")
    paddock.files.put_tree("data@main", source)
    paddock.files.put("data@main:/a", noise(9))
    return paddock.home


def check(home: Home, *, data: bool = False, repair: bool = False, source: Path | None = None) -> CheckReport:
    """In a fresh process's eyes: nothing is remembered of what was read before."""
    with Home.open(home.path) as fresh:
        return check_store(fresh, data=data, repair=repair, source=source)


def kinds(report: CheckReport) -> set[DamageKind]:
    return {damage.kind for damage in report.damages}


def address(paddock: EmbeddedPaddock, ref: str, path: str) -> str:
    return f"default/data@{paddock.commits.inspect(f'data@{ref}').id}:{path}"


def pack_of(home: Home, digest: str) -> Path:
    place = home.chunks.locate([Digest(bytes.fromhex(digest))])[Digest(bytes.fromhex(digest))]
    return home.path / "objects" / "packs" / place.pack[:2] / place.pack


def flip(home: Home, digest: str) -> None:
    """Flip a bit in the middle of a stored chunk."""
    key = Digest(bytes.fromhex(digest))
    place = home.chunks.locate([key])[key]
    file = pack_of(home, digest)
    content = bytearray(file.read_bytes())
    content[place.offset + place.stored // 2] ^= 4
    file.write_bytes(content)


def digest_of(paddock: EmbeddedPaddock, where: str) -> str:
    return str(paddock.files.inspect(where).digest)


def test_a_sound_home(home: Home) -> None:
    for data in (False, True):
        report = check(home, data=data)
        assert (report.sound, report.files, report.others) == (True, (), ())
    assert report.packs == 2
    assert report.chunks >= 10


def test_a_flipped_bit_in_a_file_is_found_by_data_and_names_the_commits_that_hold_it(
    paddock: EmbeddedPaddock, home: Home
) -> None:
    flip(home, digest_of(paddock, "data@main:/b"))
    assert check(home).sound, "references are whole"
    report = check(home, data=True)
    assert kinds(report) == {DamageKind.CHUNK_DAMAGED}
    assert set(report.files) == {address(paddock, "main", "/b"), address(paddock, "main^", "/b")}
    assert report.files_hit == 2


def test_a_flipped_bit_in_an_old_version_hits_only_the_old_commit(paddock: EmbeddedPaddock, home: Home) -> None:
    flip(home, digest_of(paddock, "data@main^:/a"))
    assert check(home, data=True).files == (address(paddock, "main^", "/a"),)


def test_one_damaged_chunk_of_a_large_file(paddock: EmbeddedPaddock, home: Home) -> None:
    row = home.trees.row(_tree(paddock, home, "main"), "/large")
    assert row is not None
    assert len(row.chunks) > 2
    flip(home, row.chunks[1].hex())
    assert set(check(home, data=True).files) == {address(paddock, ref, "/large") for ref in ("main", "main^")}


def _tree(paddock: EmbeddedPaddock, home: Home, ref: str) -> Digest:
    with home.catalog.read() as tx:
        row = tx.one("SELECT tree FROM commits WHERE set_id = ?", (paddock.commits.inspect(f"data@{ref}").id,))
    assert row is not None
    return Digest(bytes.fromhex(str(row[0])))


def test_a_lost_pack_names_every_file_that_it_held(paddock: EmbeddedPaddock, home: Home) -> None:
    pack_of(home, digest_of(paddock, "data@main:/a")).unlink()
    report = check(home)
    assert DamageKind.PACK_MISSING in kinds(report)
    # The pack also held the second commit's tree, so which of its files are hit can't be told one by one.
    assert report.others == (f"commit default/data@{paddock.commits.inspect('data@main').id}: all files",)


def test_of_many_files_that_are_hit_the_first_are_named_and_all_counted(
    paddock: EmbeddedPaddock, home: Home, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(FILES_NAMED_MAX + 5):
        (many / f"{number:05d}").write_bytes(b"%d" % number)
    for repo in ("first", "second"):  # of the second only the tree is stored, in a pack of its own
        paddock.repos.create(repo)
        paddock.files.put_tree(f"{repo}@main:/", many)
        (many / "empty").write_bytes(b"")  # or both would have one tree
    pack_of(home, digest_of(paddock, "first@main:/00000")).unlink()
    report = check(home)
    second = f"default/second@{paddock.commits.inspect('second@main').id}"
    assert report.files == tuple(f"{second}:/{number:05d}" for number in range(FILES_NAMED_MAX))
    assert report.files_hit == FILES_NAMED_MAX + 5
    assert report.others == (f"commit default/first@{paddock.commits.inspect('first@main').id}: all files",)


def test_after_a_repair_that_got_nothing_back_a_check_finds_what_it_said(paddock: EmbeddedPaddock, home: Home) -> None:
    pack_of(home, digest_of(paddock, "data@main:/b")).unlink()
    flip(home, digest_of(paddock, "data@main:/a"))
    repaired, again = check(home, data=True, repair=True), check(home, data=True)
    assert kinds(again) == {DamageKind.CHUNK_MISSING}
    assert (repaired.damages, repaired.files, repaired.files_hit, repaired.others, repaired.chunks) == (
        again.damages,
        again.files,
        again.files_hit,
        again.others,
        again.chunks,
    )


def test_a_chunk_that_another_pack_has_too_is_found_there(paddock: EmbeddedPaddock, home: Home) -> None:
    with home.pin(), home.chunks.writer() as one, home.chunks.writer() as other:
        one.put(noise(77))
        other.put(noise(77))
        (first,), (second,) = one.flush(), other.flush()
    assert first.chunks[0][0] == second.chunks[0][0]
    paddock.files.put("data@main:/twice", noise(77))
    pack_of(home, first.chunks[0][0].hex()).unlink()
    assert check(home).files == (address(paddock, "main", "/twice"),)
    assert check(home, repair=True).sound
    assert b"".join(paddock.files.read("data@main:/twice")) == noise(77)


@pytest.mark.parametrize("where", ["footer", "index"])
def test_a_damaged_pack_index_loses_no_file_and_is_mended(paddock: EmbeddedPaddock, home: Home, where: str) -> None:
    file = pack_of(home, digest_of(paddock, "data@main:/b"))
    content = bytearray(file.read_bytes())
    content[-1 if where == "footer" else -60] ^= 1
    file.write_bytes(content)
    report = check(home, data=True)
    assert (kinds(report), report.files) == ({DamageKind.PACK_DAMAGED}, ())
    assert check(home, data=True, repair=True).sound
    assert b"".join(paddock.files.read("data@main:/b")) == noise(ord("b"))
    collect_garbage(home, grace_seconds=0)
    assert not file.exists()
    assert check(home, data=True).sound


def test_a_flipped_bit_before_the_first_chunk_is_found_and_mended(paddock: EmbeddedPaddock, home: Home) -> None:
    file = pack_of(home, digest_of(paddock, "data@main:/b"))
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    report = check(home, data=True)
    assert (kinds(report), report.files_hit) == ({DamageKind.PACK_DAMAGED}, 0)
    assert check(home, data=True, repair=True).sound
    assert b"".join(paddock.files.read("data@main:/b")) == noise(ord("b"))


def test_a_torn_pack_is_named(paddock: EmbeddedPaddock, home: Home) -> None:
    file = pack_of(home, digest_of(paddock, "data@main:/b"))
    file.write_bytes(file.read_bytes()[:400_000])
    report = check(home)
    assert DamageKind.PACK_DAMAGED in kinds(report)
    assert report.files_hit + len(report.others) > 0


def test_a_lost_chunk_index_is_rebuilt_from_the_packs(paddock: EmbeddedPaddock, home: Home) -> None:
    before = _index(home)
    with home.catalog.write() as tx:
        tx.execute("DELETE FROM chunks")
        tx.execute("DELETE FROM packs")
    report = check(home)
    assert DamageKind.CHUNK_MISSING in kinds(report)
    report = check(home, repair=True)
    assert report.sound
    assert report.restored_chunks == len(before)
    assert _index(home) == before
    assert check(home, data=True).sound


def _index(home: Home) -> set[object]:
    with home.catalog.read() as tx:
        return set(
            tx.all("SELECT digest, name, position, stored, size, codec FROM chunks JOIN packs ON packs.id = pack_id")
        )


def test_a_wrong_index_is_found_and_rebuilt(paddock: EmbeddedPaddock, home: Home) -> None:
    digest = bytes.fromhex(digest_of(paddock, "data@main:/b"))
    with home.catalog.write() as tx:
        assert tx.execute("UPDATE chunks SET position = position + 1 WHERE digest = ?", (digest,)) == 1
    report = check(home)
    assert kinds(report) == {DamageKind.INDEX_WRONG}
    assert set(report.files) == {address(paddock, ref, "/b") for ref in ("main", "main^")}
    assert check(home, repair=True).sound
    assert b"".join(paddock.files.read("data@main:/b")) == noise(ord("b"))


def test_damage_is_repaired_from_the_source_tree(paddock: EmbeddedPaddock, home: Home, source: Path) -> None:
    row = home.trees.row(_tree(paddock, home, "main"), "/large")
    assert row is not None
    for digest in (digest_of(paddock, "data@main:/b"), row.chunks[1].hex()):
        flip(home, digest)
    report = check(home, data=True, repair=True, source=source)
    assert report.sound
    assert (report.restored_chunks, report.files) == (2, ())
    assert b"".join(paddock.files.read("data@main:/b")) == noise(ord("b"))
    assert b"".join(paddock.files.read("data@main:/large")) == noise(1, 6 << 20)


def test_lost_packs_are_repaired_from_another_home(paddock: EmbeddedPaddock, home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home.path, copy)
    shutil.rmtree(home.path / "objects" / "packs")
    assert not check(home).sound
    assert check(home, repair=True, source=copy).sound
    with EmbeddedPaddock.open(home.path) as again:
        assert b"".join(again.files.read("data@main^:/a")) == noise(ord("a"))
    assert check(home, data=True).sound


def test_without_a_copy_the_repair_says_what_is_lost_and_a_new_put_stores_it(
    paddock: EmbeddedPaddock, home: Home, source: Path
) -> None:
    flip(home, digest_of(paddock, "data@main:/b"))
    report = check(home, data=True, repair=True)
    assert set(report.files) == {address(paddock, ref, "/b") for ref in ("main", "main^")}
    assert kinds(report) == {DamageKind.CHUNK_MISSING}
    with EmbeddedPaddock.open(home.path) as again:
        again.files.put_tree("data@main", source)
    assert check(home, data=True).sound
