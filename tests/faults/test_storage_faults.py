"""Faults while storing: whatever operation fails, what was committed stays, and a second try succeeds."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.model.errors import LimitExceeded, NotFound, PaddockError, Unavailable
from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.ingest import HELPER_FILES_MIN, add_tree
from paddock.storage.ingest_helpers import Helpers
from paddock.storage.ingest_worker import FRAME, RECORD
from paddock.storage.objects import LocalObjects
from paddock.storage.packs import read_pack_index
from paddock.storage.tables import Tables
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.testing.objects import FaultObjects, MemoryIndex, MemoryObjects

LARGE = os.urandom(700_000)


def put(store: ChunkStore, root: Digest, files: dict[str, bytes]) -> Digest:
    """One put, as a commit does it: bytes, segments and root, then the flush."""
    trees = Trees(Tables(store))
    with store.writer() as writer:
        rows = []
        for path, data in files.items():
            stored = writer.put_stream(io.BytesIO(data))
            rows.append(TreeRow(path, b"", stored.size, stored.digest, False, stored.chunks))
        changed = trees.merge(root, tree_table(rows), [], [], writer)
        writer.flush()
    return changed


def contents(store: ChunkStore, root: Digest) -> dict[str, bytes]:
    trees = Trees(Tables(store))
    found = {}
    for info in trees.walk(root):
        row = trees.row(root, info.path)
        assert row is not None
        found[row.path] = b"".join(store.read_file(row.size, row.digest, row.chunks))
    return found


def scenario(objects: FaultObjects, index: MemoryIndex, before: Digest) -> Digest:
    return put(ChunkStore(objects, index), before, {"/new": b"new", "/large": LARGE})


def prepared() -> tuple[MemoryObjects, MemoryIndex, Digest]:
    objects, index = MemoryObjects(), MemoryIndex()
    store = ChunkStore(objects, index)
    return objects, index, put(store, Trees(Tables(store)).empty(), {"/old": b"old"})


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_any_failing_operation_leaves_the_store_sound(after: bool) -> None:
    objects, index, before = prepared()
    counting = FaultObjects(objects)
    expected = scenario(counting, index, before)
    assert counting.count > 4
    for number in range(1, counting.count + 1):
        objects, index, before = prepared()
        with pytest.raises(Unavailable, match="injected"):
            scenario(FaultObjects(objects, fail_at=number, after=after), index, before)
        store = ChunkStore(objects, index)
        assert contents(store, before) == {"/old": b"old"}
        with pytest.raises(NotFound):
            contents(store, expected)
        for info in objects.list("packs/"):
            read_pack_index(objects, info.key.rpartition("/")[2])  # type: ignore[arg-type]
        assert scenario(FaultObjects(objects), index, before) == expected
        assert contents(store, expected) == {"/old": b"old", "/new": b"new", "/large": LARGE}


def put_last(writer: ChunkWriter, chunk: bytes) -> None:
    """The put already tells of a pack that has failed by then; the flush tells in any case."""
    writer.put(chunk)
    writer.flush()


def test_a_pack_that_fails_in_the_background_fails_the_flush() -> None:
    objects = FaultObjects(MemoryObjects())
    store = ChunkStore(objects, MemoryIndex())
    chunks = [os.urandom(1) + bytes(2) + os.urandom((8 << 20) - 3) for _ in range(9)]
    with store.writer() as writer:
        for chunk in chunks[:7]:
            writer.put(chunk)
        # The eighth fills the pack: after its bytes come the index, then the finish that fails.
        objects.fail_at = objects.count + 3
        with pytest.raises(Unavailable, match="injected"):
            put_last(writer, chunks[7])
    assert list(objects.list("")) == []


def test_a_full_disk_is_a_limit_and_leaves_no_file(tmp_path: Path) -> None:
    # `ulimit -f` is the full disk that needs no privileges: in a process of its own.
    code = f"""
import io, signal
from paddock.model.errors import LimitExceeded
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.objects import LocalObjects
from paddock.testing.objects import MemoryIndex
import os, pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = ChunkStore(LocalObjects(pathlib.Path({str(tmp_path)!r})), MemoryIndex())
with store.writer() as writer:
    try:
        writer.put_stream(io.BytesIO(os.urandom(3 << 20)))
        writer.flush()
    except LimitExceeded as error:
        print(error)
"""
    limit = 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert "packs/" in done.stdout
    assert done.stderr == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# ---- helper processes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for number in range(HELPER_FILES_MIN):
        (source / f"{number:05d}").write_bytes(b"%d" % number)
    return source


def test_a_helper_that_dies_fails_the_put_and_nothing_is_left(many: Path, tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    store = ChunkStore(objects, MemoryIndex())
    with store.writer() as writer, Helpers(store, objects, writer) as helpers:
        os.kill(helpers.pids[0], signal.SIGKILL)
        helpers.start(str(many), [f"/{number:05d}" for number in range(HELPER_FILES_MIN)], range(HELPER_FILES_MIN))
        with pytest.raises(Unavailable, match="helper process"):
            list(helpers.results(wait=True))
        pids = helpers.pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with store.writer() as writer:
        assert add_tree(store, writer, many, "/").files == HELPER_FILES_MIN


def test_a_helper_tells_what_went_wrong(many: Path, tmp_path: Path) -> None:
    # `incoming` can't be made: what a helper raises is raised here.
    root = tmp_path / "objects"
    root.write_bytes(b"not a directory")
    store = ChunkStore(LocalObjects(root), MemoryIndex())
    with store.writer() as writer, pytest.raises(PaddockError) as caught:
        add_tree(store, writer, many, "/")
    assert not isinstance(caught.value, Unavailable)
    assert "objects" in str(caught.value)


def test_a_helper_whose_driver_dies_cleans_up(many: Path, tmp_path: Path) -> None:
    root = tmp_path / "objects"
    paths = b"\0".join(os.fsencode(many / f"{number:05d}") for number in range(10))
    helper = subprocess.Popen(
        [sys.executable, "-m", "paddock.storage.ingest_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        for letter, payload in ((b"O", os.fsencode(root)), (b"B", paths), (b"U", b"\1" * 10)):
            helper.stdin.write(FRAME.pack(len(payload), letter) + payload)
        helper.stdin.close()
        answer = helper.stdout.read()
        assert helper.wait(timeout=60) == 0
    assert len(answer) == FRAME.size + 10 * RECORD.size
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_leaving_helpers_early_ends_them(many: Path, tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    store = ChunkStore(objects, MemoryIndex())
    with store.writer() as writer:
        with Helpers(store, objects, writer) as helpers:
            pids = helpers.pids
            helpers.start(str(many), [f"/{number:05d}" for number in range(HELPER_FILES_MIN)], range(HELPER_FILES_MIN))
            assert len(next(helpers.results(wait=True)).positions) > 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    assert [path for path in objects.root.rglob("*") if path.is_file() and path.parent.name == "incoming"] == []


def test_a_full_store_is_told_as_such() -> None:
    objects = FaultObjects(MemoryObjects(), fail_at=3, error=lambda: LimitExceeded("the disk is full"))
    store = ChunkStore(objects, MemoryIndex())
    with pytest.raises(LimitExceeded, match="disk is full"):
        put(store, Trees(Tables(store)).empty(), {"/large": LARGE})
