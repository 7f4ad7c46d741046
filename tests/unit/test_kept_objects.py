"""Packs that a machine keeps beside the store it wrote them to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.errors import NotFound, Unavailable
from paddock.storage.kept_objects import KeptObjects
from paddock.storage.kept_parts import Coverage
from paddock.storage.objects import LocalObjects, ObjectStore
from paddock.testing.objects import FaultObjects, MemoryObjects


def write(objects: ObjectStore, key: str, data: bytes) -> None:
    writer = objects.create(key)
    writer.write(data[:3])
    writer.write(data[3:])
    writer.finish()


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_what_was_written_is_read_here_by_every_process_of_the_machine(store: MemoryObjects, tmp_path: Path) -> None:
    write(KeptObjects(store, tmp_path / "kept", bytes_max=100), "packs/aa/one", b"0123456789")
    assert store.contents == {"packs/aa/one": b"0123456789"}
    store.contents.clear()
    other = KeptObjects(store, tmp_path / "kept", bytes_max=100)
    assert other.read_range("packs/aa/one", 2, 3) == b"234"


def test_what_others_wrote_comes_from_the_store_once_for_all_processes(store: MemoryObjects, tmp_path: Path) -> None:
    write(store, "packs/aa/one", b"0123456789")
    here, there = (KeptObjects(store, tmp_path, bytes_max=1 << 20) for _ in range(2))
    assert here.read_range("packs/aa/one", 2, 3) == b"234"
    assert here.read_range("packs/aa/one", 6, 2) == b"67"
    assert there.read_range("packs/aa/one", 5, 1) == b"5"
    assert here.read_range("packs/aa/one", 9, 1) == b"9"
    store.contents.clear()
    for kept in (here, there):
        assert kept.read_range("packs/aa/one", 2, 6) == b"234567"
        assert kept.read_range("packs/aa/one", 3, 2) == b"34"
        with pytest.raises(NotFound):
            kept.read_range("packs/aa/one", 7, 2)


def test_parts_of_a_store_on_the_same_disk_are_not_kept(tmp_path: Path) -> None:
    write(LocalObjects(tmp_path / "store"), "packs/aa/one", b"0123456789")
    kept = KeptObjects(LocalObjects(tmp_path / "store"), tmp_path / "kept", bytes_max=1 << 20)
    assert kept.read_range("packs/aa/one", 2, 3) == b"234"
    assert list((tmp_path / "kept").iterdir()) == []


def test_parts_make_room_for_newer_ones(store: MemoryObjects, tmp_path: Path) -> None:
    block = 16 << 10
    for number in range(8):
        write(store, f"packs/aa/{number}", bytes([number]) * block)
    kept = KeptObjects(store, tmp_path, bytes_max=4 * block)
    for number in range(8):
        assert kept.read_range(f"packs/aa/{number}", 0, block) == bytes([number]) * block
        os.utime(tmp_path / f"packs-aa-{number}.part", (number, number))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert "packs-aa-7.part" in left
    assert "packs-aa-0.part" not in left
    assert len(left) <= 2 * 4
    assert {name.partition(".")[0] for name in left if name.endswith("map")} == {
        name.partition(".")[0] for name in left if name.endswith("part")
    }


def test_a_part_that_is_damaged_or_half_gone_is_read_from_the_store(store: MemoryObjects, tmp_path: Path) -> None:
    write(store, "packs/aa/one", b"0123456789")
    kept = KeptObjects(store, tmp_path, bytes_max=1 << 20)
    for harm in (
        lambda: (tmp_path / "packs-aa-one.part").unlink(),
        lambda: (tmp_path / "packs-aa-one.part").write_bytes(b"01"),
        lambda: (tmp_path / "packs-aa-one.map").write_bytes(b"torn"),
        lambda: (tmp_path / "packs-aa-one.map").unlink(),
    ):
        kept.read_range("packs/aa/one", 2, 3)
        harm()
        assert kept.read_range("packs/aa/one", 2, 3) == b"234"
    (tmp_path / "packs-aa-one.part").write_bytes(b"damaged!!!")
    assert kept.read_range("packs/aa/one", 2, 3) == b"mag"
    assert kept.drop("packs/aa/one")
    assert kept.read_range("packs/aa/one", 2, 3) == b"234"


parts = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12)


@given(parts, st.integers(0, 60), st.integers(1, 20))
def test_what_is_covered_is_just_what_was_kept(kept: list[tuple[int, int]], first: int, length: int) -> None:
    known, model = Coverage(), set[int]()
    for offset, size in kept:
        known.add(offset, offset + size)
        model |= set(range(offset, offset + size))
    assert known.covers(first, first + length) == (set(range(first, first + length)) <= model)
    assert all(end < after for end, after in zip(known.ends, known.firsts[1:], strict=False))


def test_the_longest_unused_goes_first_and_the_folder_stays_small(store: MemoryObjects, tmp_path: Path) -> None:
    kept = KeptObjects(store, tmp_path, bytes_max=25)
    for name in ("one", "two"):
        write(kept, f"packs/aa/{name}", b"0123456789")
    kept.read_range("packs/aa/one", 0, 1)
    write(kept, "packs/aa/three", b"0123456789")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packs-aa-one", "packs-aa-three"]
    write(kept, "packs/aa/huge", b"x" * 26)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packs-aa-one", "packs-aa-three"]
    assert kept.read_range("packs/aa/two", 0, 3) == b"012"


def test_a_dropped_or_torn_copy_is_read_from_the_store(store: MemoryObjects, tmp_path: Path) -> None:
    kept = KeptObjects(store, tmp_path, bytes_max=100)
    for name in ("one", "two"):
        write(kept, f"packs/aa/{name}", b"0123456789")
    Path(kept.path("packs/aa/one")).write_bytes(b"01")
    Path(kept.path("packs/aa/two")).write_bytes(b"damaged!!!")
    assert kept.read_range("packs/aa/one", 2, 3) == b"234"
    assert kept.drop("packs/aa/two")
    assert not kept.drop("packs/aa/two")
    assert kept.read_range("packs/aa/two", 2, 3) == b"234"


def test_nothing_is_kept_of_a_write_that_failed_or_was_given_up(store: MemoryObjects, tmp_path: Path) -> None:
    failing = FaultObjects(store, fail_at=4, after=False)
    kept = KeptObjects(failing, tmp_path, bytes_max=100)
    writer = kept.create("packs/aa/one")
    writer.write(b"012")
    writer.write(b"345")
    with pytest.raises(Unavailable):
        writer.finish()
    writer.abort()
    assert list(tmp_path.iterdir()) == []
