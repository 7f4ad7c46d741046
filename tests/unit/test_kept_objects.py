"""Packs that a machine keeps beside the store it wrote them to."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.model.errors import Unavailable
from paddock.storage.kept_objects import KeptObjects
from paddock.storage.objects import ObjectStore
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


def test_what_others_wrote_comes_from_the_store(store: MemoryObjects, tmp_path: Path) -> None:
    write(store, "packs/aa/one", b"0123456789")
    kept = KeptObjects(store, tmp_path, bytes_max=100)
    assert kept.read_range("packs/aa/one", 2, 3) == b"234"
    assert list(tmp_path.iterdir()) == []


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
