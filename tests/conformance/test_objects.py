"""One suite for every object store: on a local disk, over the network, in memory, and the tests' own fake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paddock.model.errors import AlreadyExists, Corrupt, NotFound
from paddock.model.ids import new_id
from paddock.storage.network_objects import NetworkObjects
from paddock.storage.object_urls import open_objects, parse_store_url
from paddock.storage.objects import LocalObjects, ObjectInfo, ObjectStore
from paddock.testing.objects import MemoryObjects

MIB = 1 << 20


MORE = os.environ.get("PADDOCK_TEST_STORES", "").split()
"""URLs of other stores to run the suite on: an emulator, or a bucket that may be filled. Their variables must be set."""


@pytest.fixture(params=["file", "s3", "memory", "fake", *MORE])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    match request.param:
        case "fake":
            return MemoryObjects()
        case "s3":
            url = request.getfixturevalue("s3_url")
        case "file":
            url = f"file://{tmp_path}/objects"
        case more if "://" in more:
            url = f"{more}/{new_id()}"
        case _:
            url = f"memory://{tmp_path}"
    return open_objects(parse_store_url(url))


@pytest.fixture
def network(s3_url: str) -> NetworkObjects:
    found = open_objects(parse_store_url(s3_url))
    assert isinstance(found, NetworkObjects)
    return found


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
        lambda: objects.info("x"),
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


def test_a_large_object_is_read_as_it_was_written(objects: ObjectStore) -> None:
    parts = [os.urandom(3 * MIB) for _ in range(7)]
    put(objects, "packs/ab/large", *parts)
    whole = b"".join(parts)
    assert objects.read("packs/ab/large") == whole
    assert objects.read_range("packs/ab/large", 8 * MIB - 10, 20) == whole[8 * MIB - 10 : 8 * MIB + 10]
    assert [info.size for info in objects.list("packs/")] == [len(whole)]
    assert objects.info("packs/ab/large").size == len(whole)


def test_a_large_object_is_never_replaced(objects: ObjectStore) -> None:
    put(objects, "a", bytes(9 * MIB))
    writer = objects.create("a")
    writer.write(os.urandom(9 * MIB))
    with pytest.raises(AlreadyExists, match="a exists already"):
        writer.finish()
    writer.abort()
    assert objects.read("a") == bytes(9 * MIB)


def test_an_empty_object_and_an_empty_range(objects: ObjectStore) -> None:
    put(objects, "empty")
    put(objects, "a", b"123")
    assert objects.read("empty") == b""
    assert objects.read_range("a", 3, 0) == b""


def test_a_listing_of_many_pages_has_each_key_once(network: NetworkObjects) -> None:
    keys = {f"packs/{number % 7:02x}/{number:04}" for number in range(1050)}
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: network.replace(key, [b"x"]), keys))
    found = [info.key for info in network.list("packs/")]
    assert (len(found), set(found)) == (len(keys), keys)


def test_writing_the_same_again_is_not_an_error_on_the_network(network: NetworkObjects) -> None:
    """It can't be told from an upload that was done although its answer was lost."""
    for size in (5, 9 * MIB):
        put(network, f"a{size}", b"x" * size)
        put(network, f"a{size}", b"x" * size)


def test_objects_are_copied_as_streams(network: NetworkObjects) -> None:
    parts = [os.urandom(MIB) for _ in range(20)]
    network.replace("copy", iter(parts))
    assert b"".join(network.stream("copy")) == b"".join(parts)
    network.replace("copy", [b"new"])
    assert b"".join(network.stream("copy")) == b"new"
    assert network.info("copy").size == 3


def test_a_stream_that_fails_leaves_what_was_there(network: NetworkObjects) -> None:
    network.replace("copy", [b"old"])

    def pieces() -> Iterator[bytes]:
        yield bytes(9 * MIB)
        raise KeyError("the source has gone")

    with pytest.raises(KeyError, match="the source has gone"):
        network.replace("copy", pieces())
    assert network.read("copy") == b"old"


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
