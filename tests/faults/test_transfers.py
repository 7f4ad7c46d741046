"""Transfers through a server that are cut off, at either end or between: nothing is lost, and the second time only the rest travels."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from paddock.client.connection import connect
from paddock.client.embedded import EmbeddedPaddock
from paddock.client.http import HttpPaddock
from paddock.model.errors import Conflict, Corrupt, InvalidInput, LimitExceeded, NotFound, Unavailable
from paddock.model.ids import Digest
from paddock.model.services import Paddock
from paddock.storage.chunk_frames import frame
from paddock.storage.chunking import EMPTY_DIGEST
from paddock.storage.columnar import encode_table
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import TreeRow, tree_table
from paddock.testing.relays import Relay, relay_to
from paddock.testing.servers import RunningServer, running_server
from paddock.versions import transfers as transfers_module
from paddock.versions.transfers import TransferService

MIB = 1 << 20
SMALL_FILES = 800
LARGE_BYTES = 36 * MIB
FOLDER_BYTES = SMALL_FILES * 20_000 + LARGE_BYTES
CUT = 40 * MIB
"""Bodies have 16 MiB and travel two at a time: by now the first one has been answered, so it is kept."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many small files and a large one, incompressible."""
    top = tmp_path_factory.mktemp("source")
    for number in range(SMALL_FILES):
        place = top / f"d{number % 10}" / f"f{number}"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(os.urandom(20_000))
    (top / "large").write_bytes(os.urandom(LARGE_BYTES))
    return top


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "home") as running, connect(url=running.url, environment={}) as paddock:
        paddock.repos.create("data")
        yield running


def put_command(url: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "paddock", "--url", url, "put", "data@main:/in", str(folder)]


def is_whole(home: Paddock, folder: Path) -> bool:
    files = list(home.files.list("data@main:/in", recursive=True))
    read = b"".join(home.files.read("data@main:/in/large"))
    return len(files) == SMALL_FILES + 1 and read == (folder / "large").read_bytes()


def put_until(relay: Relay, folder: Path) -> subprocess.Popen[str]:
    """A put through the relay that is under way, some 40 MiB far."""
    relay.notice_after = CUT
    command = put_command(relay.url, folder)
    put = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert relay.reached.wait(60)
    return put


def test_a_killed_client_sends_only_the_rest_again(server: RunningServer, folder: Path) -> None:
    with relay_to(server.url) as relay, connect(url=server.url, environment={}) as paddock:
        put = put_until(relay, folder)
        put.kill()
        put.communicate()
        assert not paddock.commits.list("data")
        with relay_to(server.url) as second:
            subprocess.run(put_command(second.url, folder), check=True, capture_output=True)
        assert second.sent < FOLDER_BYTES - 15 * MIB
        assert is_whole(paddock, folder)


def test_a_killed_server_is_sent_only_the_rest_again(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "home"
    with running_server(home) as first, relay_to(first.url) as relay:
        with connect(url=first.url, environment={}) as paddock:
            paddock.repos.create("data")
        put = put_until(relay, folder)
        first.process.kill()
        first.process.wait()
        _, said = put.communicate(timeout=60)
        assert put.returncode == Unavailable.exit_code, said
    with running_server(home) as again, relay_to(again.url) as second:
        subprocess.run(put_command(second.url, folder), check=True, capture_output=True)
        assert second.sent < FOLDER_BYTES - 15 * MIB
        with connect(url=again.url, environment={}) as paddock:
            assert is_whole(paddock, folder)


def test_a_cut_connection_is_taken_up_again(server: RunningServer, folder: Path, tmp_path: Path) -> None:
    with relay_to(server.url) as relay, HttpPaddock(relay.url) as paddock:
        relay.cut_after_sent = CUT
        report = paddock.files.put_tree("data@main:/in", folder)
        assert relay.cuts == 1
        assert report.files == SMALL_FILES + 1
        assert is_whole(paddock, folder)

        relay.cut_after_received = relay.received + CUT
        got = paddock.files.get_tree("data@main:/in", tmp_path / "out")
        assert relay.cuts == 2
        assert got.written == SMALL_FILES + 1
        assert (tmp_path / "out" / "large").read_bytes() == (folder / "large").read_bytes()

        relay.cut_after_received = relay.received + 4 * MIB
        assert b"".join(paddock.files.read("data@main:/in/large")) == (folder / "large").read_bytes()
        assert relay.cuts == 3


def test_a_get_that_is_run_again_fetches_only_what_differs(server: RunningServer, folder: Path, tmp_path: Path) -> None:
    with relay_to(server.url) as relay, HttpPaddock(relay.url) as paddock:
        paddock.files.put_tree("data@main:/in", folder)
        paddock.files.get_tree("data@main:/in", tmp_path / "out")
        (tmp_path / "out" / "d1" / "f1").unlink()
        (tmp_path / "out" / "d2" / "f2").write_bytes(b"changed")
        (tmp_path / "out" / "d3" / "f3").chmod(0o755)
        before = relay.received
        assert paddock.files.get_tree("data@main:/in", tmp_path / "out").written == 3
        assert relay.received - before < MIB
        assert (tmp_path / "out" / "d2" / "f2").read_bytes() == (folder / "d2" / "f2").read_bytes()

        # The client remembers what it sent, too, and reads no file again.
        before = relay.sent
        assert paddock.files.put_tree("data@other:/in", folder).stored_bytes < MIB
        assert relay.sent - before < MIB


def test_a_killed_embedded_put_stores_only_the_rest_again(home_path: Path, tmp_path: Path) -> None:
    size = 200 * MIB
    source = tmp_path / "large"
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    with EmbeddedPaddock.open(home_path) as paddock:
        paddock.repos.create("data")
    command = [sys.executable, "-m", "paddock", "--home", str(home_path), "put", "data@main:/large", str(source)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as put:
        # Packs have 64 MiB. Once the second one is there, the first is in the index.
        while put.poll() is None and len(list((home_path / "objects" / "packs").glob("*/*"))) < 2:
            os.sched_yield()
        put.send_signal(signal.SIGKILL)
    with EmbeddedPaddock.open(home_path) as paddock:
        assert not paddock.commits.list("data")
        report = paddock.files.put_tree("data@main:/large", source)
        assert report.stored_bytes < size - 60 * MIB
        assert paddock.store.check(data=True).sound


def damage_packs(home: Path, at: float) -> None:
    """Flip a bit in each pack, at a share of its length."""
    for pack in (home / "objects" / "packs").glob("*/*"):
        data = bytearray(pack.read_bytes())
        data[int(len(data) * at)] ^= 1
        pack.write_bytes(data)


def test_damage_that_is_met_in_mid_download_has_its_name(server: RunningServer, tmp_path: Path) -> None:
    with connect(url=server.url, environment={}) as paddock:
        paddock.files.put("data@main:/large", io.BytesIO(os.urandom(24 * MIB)))
        damage_packs(tmp_path / "home", 0.5)
        with pytest.raises(Corrupt, match="damaged"):
            for _ in paddock.files.read("data@main:/large"):
                pass
        with pytest.raises(Corrupt, match="damaged"):
            paddock.files.get_tree("data@main:/", tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())


# ---- one call at a time ------------------------------------------------------------------------------------------


@pytest.fixture
def data(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    paddock.repos.create("data")
    return paddock


def stored(paddock: EmbeddedPaddock, transfer: str, content: bytes) -> TreeRow:
    """Send a file of one chunk; its row."""
    digest = digest_of(content)
    paddock.transfers.send(transfer, io.BytesIO(frame(digest, content, size=len(content), codec=0)))
    return TreeRow("/file", b"", len(content), digest, False)


def digest_of(content: bytes) -> Digest:
    return Digest(blake3(content).digest())


def table_of(*rows: TreeRow) -> io.BytesIO:
    return io.BytesIO(encode_table(TREE, tree_table(rows)))


def test_what_was_sent_outlives_collections_until_the_transfer_ends(data: EmbeddedPaddock) -> None:
    transfers = data.transfers
    transfer = transfers.begin("data@main").id
    row = stored(data, transfer, b"kept")
    for _ in range(2):
        data.store.collect_garbage(grace_seconds=0)
    transfers.put(transfer, "data@main:/", table_of(row))
    transfers.end(transfer)
    data.store.collect_garbage(grace_seconds=0)
    assert b"".join(data.files.read("data@main:/file")) == b"kept"

    transfer = transfers.begin().id
    stored(data, transfer, b"never put")
    transfers.end(transfer)
    transfers.end(transfer)
    data.store.collect_garbage(grace_seconds=0)
    transfer = transfers.begin().id
    assert transfers.missing(transfer, [digest_of(b"never put"), digest_of(b"kept")]) == [True, False]
    with pytest.raises(NotFound):
        list(transfers.fetch(transfer, [digest_of(b"never put")]))


def test_a_transfer_that_is_forgotten_ends_by_itself(data: EmbeddedPaddock) -> None:
    now = [0.0]
    service = TransferService(data.home, clock=lambda: now[0])
    transfer = service.begin()
    now[0] = transfer.expires_seconds - 1
    service.missing(transfer.id, [EMPTY_DIGEST])
    now[0] += transfer.expires_seconds - 1
    service.sweep()
    service.missing(transfer.id, [EMPTY_DIGEST])
    now[0] += transfer.expires_seconds + 1
    service.sweep()
    with pytest.raises(NotFound, match="run the command again"):
        service.missing(transfer.id, [EMPTY_DIGEST])
    service.close()


def test_transfers_are_bounded(data: EmbeddedPaddock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_module, "TRANSFERS_MAX", 2)
    monkeypatch.setattr(transfers_module, "BODY_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(transfers_module, "TABLE_BYTES_MAX", 1 << 10)
    first, _ = data.transfers.begin(), data.transfers.begin()
    with pytest.raises(Unavailable, match="under way"):
        data.transfers.begin()
    piece = os.urandom(1 << 19)
    body = frame(digest_of(piece), piece, size=len(piece), codec=0)
    with pytest.raises(LimitExceeded, match="several"):
        data.transfers.send(first.id, io.BytesIO(body * 3))
    assert data.transfers.missing(first.id, [digest_of(piece)]) == [True]
    with pytest.raises(LimitExceeded, match="parts"):
        data.transfers.put(first.id, "data@main", io.BytesIO(bytes(1 << 11)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(frame(digest_of(b"one"), b"two", size=3, codec=0), "damaged on its way", id="digest"),
        pytest.param(frame(digest_of(b"one"), b"one", size=4, codec=0), "damaged on its way", id="size"),
        pytest.param(frame(digest_of(b"one"), b"one", size=3, codec=1), "damaged on its way", id="zstd"),
        pytest.param(frame(digest_of(b"one"), b"one", size=3, codec=9), "damaged on its way", id="codec"),
        pytest.param(frame(digest_of(b"one"), b"one", size=3, codec=255), "problem", id="problem"),
        pytest.param(frame(digest_of(b""), b"", size=0, codec=0), "0 bytes", id="empty"),
        pytest.param(frame(digest_of(b"one"), b"one", size=1 << 31, codec=1), "bytes", id="huge"),
        pytest.param(frame(digest_of(b"one"), b"one", size=3, codec=0)[:-1], "ends within", id="torn"),
        pytest.param(b"short", "ends within", id="torn header"),
    ],
)
def test_chunks_that_are_not_what_they_say_are_refused(data: EmbeddedPaddock, body: bytes, said: str) -> None:
    good = frame(digest_of(b"good"), b"good", size=4, codec=0)
    transfer = data.transfers.begin().id
    with pytest.raises(InvalidInput, match=re.escape(said)):
        data.transfers.send(transfer, io.BytesIO(good + body))
    assert data.transfers.missing(transfer, [digest_of(b"good")]) == [True]


ONE = digest_of(b"one")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        pytest.param(TreeRow("/file", b"", 4, ONE, False), InvalidInput, id="size"),
        pytest.param(TreeRow("/file", b"", 0, ONE, False), InvalidInput, id="no size"),
        pytest.param(TreeRow("/file", b"", -3, ONE, False), InvalidInput, id="negative"),
        pytest.param(TreeRow("/file", b"", 6, ONE, False, (ONE, ONE)), InvalidInput, id="sum"),
        pytest.param(TreeRow("/file", b"", 3, ONE, False, (ONE,)), InvalidInput, id="one in list"),
        pytest.param(TreeRow("/file", b"x" * 16, 3, ONE, False), InvalidInput, id="datum"),
        pytest.param(TreeRow("file", b"", 3, ONE, False), InvalidInput, id="no slash"),
        pytest.param(TreeRow("/a/../file", b"", 3, ONE, False), InvalidInput, id="dots"),
        pytest.param(TreeRow("/", b"", 3, ONE, False), InvalidInput, id="root"),
        pytest.param(TreeRow("/outside", b"", 3, ONE, False), InvalidInput, id="outside"),
        pytest.param(TreeRow("/in/file", b"", 3, digest_of(b"two"), False), Conflict, id="not stored"),
    ],
)
def test_tables_that_lie_change_nothing(data: EmbeddedPaddock, row: TreeRow, kind: type[Exception]) -> None:
    transfer = data.transfers.begin().id
    stored(data, transfer, b"one")
    target = "data@main:/in" if row.path == "/outside" else "data@main"
    with pytest.raises(kind):
        data.transfers.put(transfer, target, table_of(row))
    with pytest.raises(InvalidInput, match="no table"):
        data.transfers.put(transfer, target, io.BytesIO(b"nonsense"))
    assert not data.commits.list("data")


def peak_bytes(pid: int) -> int:
    """The most memory that a running process has had."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


@pytest.mark.slow
def test_both_sides_keep_their_memory_whatever_the_sizes(server: RunningServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(8_000):
        place = source / f"d{number % 20}" / f"f{number}"
        if number < 20:
            place.parent.mkdir(parents=True)
        place.write_bytes(number.to_bytes(4, "big") * 100)
    with (source / "large").open("wb") as file:
        for _ in range(400):
            file.write(os.urandom(MIB))
    put, get = (
        [sys.executable, "-c", PEAK, "--url", server.url, *words]
        for words in (("put", "data@main", str(source)), ("get", "data@main", "-o", str(tmp_path / "out")))
    )
    for command in (put, get):
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        assert int(said.split()[-1]) < 330 * MIB
    assert peak_bytes(server.process.pid) < 330 * MIB
    assert (tmp_path / "out" / "large").stat().st_size == 400 * MIB


PEAK = """
import sys
from pathlib import Path
from paddock.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
# Not ru_maxrss: a process takes the peak of the one that started it over.
(line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(line.split()[1]) << 10, file=sys.stderr)
"""
