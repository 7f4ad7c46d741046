"""Damaged and badly answering storage: a flipped bit in each kind of object is found and named, and never returned as data."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Corrupt, PaddockError
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location
from paddock.runtime.batch_results import read_batch_header
from paddock.runtime.job_tables import CACHE, DATUMS
from paddock.settings import Settings
from paddock.storage.chunks import ChunkStore
from paddock.storage.objects import LocalObjects, ObjectInfo, ObjectWriter
from paddock.storage.packs import FOOTER, MAGIC, pack_key, read_pack_index
from paddock.storage.segments import TableKind
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

BIG = b"".join(b"%07d\n" % (number % 4096) for number in range(600_000))
UPPER = "echo seen; for f in /pfs/data/texts/*; do tr a-z A-Z < $f > /pfs/out/${f##*/}; done"
SPEC = {
    "pipeline": {"name": "upper"},
    "input": {"pfs": {"repo": "data", "glob": "/texts/*"}},
    "transform": {"cmd": ["sh"], "stdin": [UPPER]},
}
Reading = Callable[[EmbeddedPaddock], object]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "home"
    with EmbeddedPaddock.open(path, settings=Settings(workers=1)) as paddock:
        paddock.repos.create("data")
        paddock.commits.start("data")
        for number in range(8):
            paddock.files.put(f"data:/texts/{number}", f"text {number} ".encode() * 100)
        paddock.files.put("data:/big", BIG)
        paddock.commits.finish("data")
        paddock.pipelines.apply(SPEC)
        (job,) = paddock.process()
        assert job.state == "success", job.reason
    return path


@pytest.fixture
def damaged(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "home"))


def read_all(paddock: EmbeddedPaddock, repo: str) -> dict[str, bytes]:
    files = paddock.files.list(repo, recursive=True)
    return {info.path: b"".join(paddock.files.read(f"{repo}:{info.path}")) for info in files}


def root_of(home: Home, column: str, table: str) -> Digest:
    with home.catalog.read() as tx:
        row: Any = tx.one(f"SELECT {column} FROM {table} WHERE {column} <> '' ORDER BY id LIMIT 1")
    return Digest(bytes.fromhex(row[0]))


def segment_of(home: Home, kind: TableKind, root: Digest) -> Digest:
    return home.tables.root(kind, root).segments[0].digest


def batch_of(home: Home) -> Digest:
    root = root_of(home, "root", "result_runs")
    (table,) = home.tables.scan(CACHE, root)
    return Digest(table.column("batch")[0].as_py())


def kinds() -> dict[str, tuple[Callable[[Home], Digest], Reading]]:
    """Each kind of chunk: where to find one, and what reads it."""

    def files(paddock: EmbeddedPaddock) -> object:
        return read_all(paddock, "data")

    def datums(paddock: EmbeddedPaddock) -> object:
        return list(paddock.datums.list("upper@head"))

    def logs(paddock: EmbeddedPaddock) -> object:
        return list(paddock.jobs.logs("upper@head"))

    def reuse(paddock: EmbeddedPaddock) -> object:
        paddock.files.put("data:/texts/new", b"one more")
        paddock.pipelines.rerun("upper")
        jobs = paddock.process(workers=1)
        assert {job.state for job in jobs} != {"success"}, "a damaged table must not be taken for an empty one"
        raise Corrupt(" ".join(job.reason for job in jobs))

    def tree(home: Home) -> Digest:
        return root_of(home, "tree", "commits")

    def file(home: Home) -> Digest:
        row = home.trees.row(tree(home), "/big")
        assert row is not None
        return row.chunks[0]

    return {
        "file": (file, files),
        "tree root": (tree, files),
        "tree segment": (lambda home: segment_of(home, TREE, tree(home)), files),
        "datums root": (lambda home: root_of(home, "datums_root", "jobs"), datums),
        "datums segment": (lambda home: segment_of(home, DATUMS, root_of(home, "datums_root", "jobs")), datums),
        "batch result": (batch_of, datums),
        "results": (lambda home: read_batch_header(home.chunks, batch_of(home)).results[0], datums),
        "log": (lambda home: read_batch_header(home.chunks, batch_of(home)).log[0][0], logs),
        "cache root": (lambda home: root_of(home, "root", "result_runs"), reuse),
    }


def flip(home: Path, location: Location, position: int) -> None:
    path = home / "objects" / pack_key(location.pack)
    data = bytearray(path.read_bytes())
    data[location.offset + position] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("kind", kinds())
def test_a_flipped_bit_is_found_and_named(damaged: Path, kind: str) -> None:
    find, read = kinds()[kind]
    with Home.open(damaged) as home:
        digest = find(home)
        location = home.chunks.locate([digest])[digest]
    flip(damaged, location, location.stored // 2)
    with EmbeddedPaddock.open(damaged, settings=Settings(workers=1)) as paddock:
        with pytest.raises(PaddockError) as caught:
            read(paddock)
        assert caught.type is Corrupt
        assert digest.hex() in str(caught.value)
        assert location.pack in str(caught.value)


def test_a_flipped_bit_anywhere_in_the_index_of_a_pack_is_found(damaged: Path) -> None:
    objects = LocalObjects(damaged / "objects")
    info = min(objects.list("packs/"), key=lambda each: each.size)
    pack, path = PackId(info.key.rpartition("/")[2]), damaged / "objects" / info.key
    data = path.read_bytes()
    index_offset = FOOTER.unpack(data[-FOOTER.size :])[0]
    found = 0
    for position in range(index_offset, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(Corrupt, match=pack):
            read_pack_index(objects, pack)
        found += 1
    assert found > FOOTER.size + len(MAGIC)
    for length in range(0, len(data), max(1, len(data) // 50)):
        path.write_bytes(data[:length])
        with pytest.raises(Corrupt, match=pack):
            read_pack_index(objects, pack)


@pytest.mark.parametrize("name", ["home.json", "catalog.db"])
def test_a_damaged_home_file_is_named(damaged: Path, name: str) -> None:
    path = damaged / name
    data = bytearray(path.read_bytes())
    data[3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=name):
        Home.open(damaged)


def test_a_missing_pack_is_named_with_the_chunk(damaged: Path) -> None:
    for pack in (damaged / "objects" / "packs").glob("??/*"):
        pack.unlink()
    with (
        EmbeddedPaddock.open(damaged) as paddock,
        pytest.raises(Corrupt, match=r"chunk [0-9a-f]{64}.* its pack [0-9a-f]{32}"),
    ):
        read_all(paddock, "data")


# ---- a store that answers badly ----------------------------------------------------------------------------


class BadObjects:
    """A store whose reads are cut short, or whose listings don't know what was written lately."""

    def __init__(self, inner: LocalObjects, *, truncate: int | None = None, stale: bool = False) -> None:
        self.inner = inner
        self.reading = inner.reading
        self.truncate = truncate
        self.listed = list(inner.list("")) if stale else None
        self.slow: threading.Event | None = None

    def create(self, key: str) -> ObjectWriter:
        return self.inner.create(key)

    def read(self, key: str) -> bytes:
        return self.inner.read(key)[: self.truncate]

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        if self.slow is not None:
            self.slow.wait(60)
        return self.inner.read_range(key, offset, length)[: self.truncate]

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def info(self, key: str) -> ObjectInfo:
        return self.inner.info(key)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        listed = self.inner.list(prefix) if self.listed is None else iter(self.listed)
        return (info for info in listed if info.key.startswith(prefix))


def open_with(path: Path, objects: BadObjects) -> EmbeddedPaddock:
    paddock = EmbeddedPaddock.open(path)
    home = paddock.home
    home.chunks = ChunkStore(objects, home.chunks.index, chunking=home.chunking)
    return paddock


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_truncated_body_is_never_returned(damaged: Path, length: int) -> None:
    objects = BadObjects(LocalObjects(damaged / "objects"), truncate=length)
    with open_with(damaged, objects) as paddock:
        with pytest.raises(Corrupt):
            read_all(paddock, "data")
        objects.truncate = None
        assert read_all(paddock, "data")["/big"] == BIG


def test_a_stale_listing_hides_nothing_that_was_written(damaged: Path) -> None:
    with open_with(damaged, BadObjects(LocalObjects(damaged / "objects"), stale=True)) as paddock:
        paddock.files.put("data:/new", b"written after the listing")
        assert read_all(paddock, "data")["/new"] == b"written after the listing"
        assert paddock.files.inspect("data").files == 10


def test_a_slow_store_holds_up_its_reader_only(damaged: Path) -> None:
    objects = BadObjects(LocalObjects(damaged / "objects"))
    objects.slow = threading.Event()
    found: list[dict[str, bytes]] = []
    with open_with(damaged, objects) as paddock, EmbeddedPaddock.open(damaged) as other:
        reader = threading.Thread(target=lambda: found.append(read_all(paddock, "data@main")))
        reader.start()
        other.files.put("data:/beside", b"meanwhile")
        assert read_all(other, "data")["/beside"] == b"meanwhile"
        assert found == []
        objects.slow.set()
        reader.join(60)
        assert found[0]["/big"] == BIG
