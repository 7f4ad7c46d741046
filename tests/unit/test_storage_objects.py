"""Object stores: one suite for those on disk and in memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from paddock.model.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Unavailable,
)
from paddock.storage.objects import LocalObjects, ObjectInfo, ObjectStore
from paddock.storage.os_errors import translate
from paddock.testing.objects import MemoryObjects


@pytest.fixture(params=["local", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalObjects(tmp_path / "objects") if request.param == "local" else MemoryObjects()


def put(objects: ObjectStore, key: str, *parts: bytes) -> None:
    writer = objects.create(key)
    for part in parts:
        writer.write(part)
    writer.finish()


def test_what_is_written_is_read(objects: ObjectStore) -> None:
    put(objects, "packs/ab/abc", b"one ", memoryview(b"two "), bytearray(b"three"))
    assert objects.read("packs/ab/abc") == b"one two three"
    assert objects.read_range("packs/ab/abc", 4, 3) == b"two"
    assert objects.exists("packs/ab/abc")


def test_an_object_is_invisible_until_it_is_finished(objects: ObjectStore) -> None:
    writer = objects.create("packs/ab/abc")
    writer.write(b"half")
    assert not objects.exists("packs/ab/abc")
    assert list(objects.list("")) == []
    writer.abort()
    writer.abort()
    assert not objects.exists("packs/ab/abc")


def test_an_aborted_object_leaves_no_file(tmp_path: Path) -> None:
    writer = LocalObjects(tmp_path).create("packs/ab/abc")
    writer.write(b"half")
    writer.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_abort_after_finish_does_nothing(objects: ObjectStore) -> None:
    writer = objects.create("a")
    writer.write(b"x")
    writer.finish()
    writer.abort()
    assert objects.read("a") == b"x"


def test_an_object_is_never_replaced(objects: ObjectStore) -> None:
    put(objects, "a", b"first")
    writer = objects.create("a")
    writer.write(b"second")
    with pytest.raises(AlreadyExists, match="a exists already"):
        writer.finish()
    writer.abort()
    assert objects.read("a") == b"first"


def test_list_is_by_prefix_and_knows_sizes(objects: ObjectStore) -> None:
    put(objects, "packs/ab/one", b"1")
    put(objects, "packs/cd/two", b"22")
    put(objects, "other", b"333")
    assert set(objects.list("packs/")) == {ObjectInfo("packs/ab/one", 1), ObjectInfo("packs/cd/two", 2)}
    assert {info.key for info in objects.list("")} == {"packs/ab/one", "packs/cd/two", "other"}
    assert list(objects.list("nothing/")) == []


def test_missing_objects_are_not_found(objects: ObjectStore) -> None:
    for call in (
        lambda: objects.read("x"),
        lambda: objects.read_range("x", 0, 1),
        lambda: objects.delete("x"),
    ):
        with pytest.raises(NotFound, match="object x does not exist"):
            call()


def test_a_range_past_the_end_is_a_torn_object(objects: ObjectStore) -> None:
    put(objects, "a", b"12345")
    with pytest.raises(Corrupt, match="object a is 2 bytes too short"):
        objects.read_range("a", 3, 4)


def test_what_is_deleted_is_gone_and_the_rest_stays(objects: ObjectStore) -> None:
    for key in ("a", "b", "c"):
        put(objects, key, b"1")
    objects.delete("a")
    objects.delete("b")
    assert {info.key for info in objects.list("")} == {"c"}


def test_unfinished_objects_are_listed_apart_and_can_be_deleted(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    put(objects, "a", b"1")
    writer = objects.create("b")
    writer.write(b"half")
    (found,) = objects.unfinished()
    assert (found.size, {info.key for info in objects.list("")}) == (4, {"a"})
    objects.delete(found.key)
    writer.abort()
    assert list(objects.unfinished()) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, LimitExceeded),
        (errno.EDQUOT, LimitExceeded),
        (errno.EACCES, PermissionDenied),
        (errno.EROFS, PermissionDenied),
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, Conflict),
        (errno.EMFILE, Unavailable),
        (errno.EIO, Unavailable),
    ],
)
def test_errors_of_the_system_are_told_by_what_to_do(number: int, expected: type[PaddockError]) -> None:
    error = translate(OSError(number, "why"), "write", "/data/x")
    assert type(error) is expected
    assert str(error).startswith("can't write /data/x: ")


def test_stored_bytes_that_the_disk_cannot_read_are_corrupt() -> None:
    assert type(translate(OSError(errno.EIO, "why"), "read", "/data/x", reading=True)) is Corrupt
