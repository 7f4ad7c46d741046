"""A server's chunks as a chunk store, so that files are cut, compared and written by the same code on either side of the wire."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from paddock.client.http_transfers import HttpTransfers
from paddock.model.addresses import target_path
from paddock.model.dataclass import dataclass
from paddock.model.errors import Bug, NotFound, PaddockError, Unavailable
from paddock.model.ids import Digest
from paddock.model.records import Location, PackRecord, PutReport
from paddock.model.store_records import Transfer
from paddock.storage.chunk_frames import frame
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.columnar import encode_table
from paddock.storage.compression import Compressor
from paddock.storage.ingest import Ingested
from paddock.storage.objects import LOCAL_READING, Bytes, ObjectInfo, ObjectWriter
from paddock.storage.tree_kinds import TREE

BODY_BYTES = 16 << 20
"""Sent in one request: what is lost, at most three times, where a put is cut off. Each request costs the server a sync."""
_IN_FLIGHT = 2
_FETCHED_AT_ONCE = 1024
_ASKED_AT_ONCE = 1 << 15
ATTEMPTS = 6
"""With pauses that double from 0.2 s: some 6 s of a server or network that is away."""

T = TypeVar("T")


def retried(call: Callable[[], T]) -> T:
    """Call until it does not raise Unavailable, ATTEMPTS times at most. For what may be done twice."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except Unavailable:
            time.sleep(0.2 * 2**attempt * random.uniform(0.8, 1.2))
    return call()


class RemoteChunks(ChunkStore):
    """The chunks that a server has, within one transfer."""

    def __init__(self, transfers: HttpTransfers, transfer: Transfer) -> None:
        sizes = (transfer.chunk_bytes_min, transfer.chunk_bytes_average, transfer.chunk_bytes_max)
        index = _RemoteIndex(transfers, transfer)
        super().__init__(_OutOfReach(), index, chunking=ChunkingParameters(*sizes))
        self._transfers = transfers
        self._transfer = transfer.id

    def read_views(self, digests: Iterable[Digest]) -> Iterator[Bytes]:
        """As the store does; `read_many` too goes through here. Where the connection breaks, the rest is asked for again."""
        remaining = iter(digests)
        while wanted := list(islice(remaining, _FETCHED_AT_ONCE)):
            failures = 0
            while wanted:
                done = 0
                try:
                    for data in self._transfers.fetch(self._transfer, wanted):
                        done += 1
                        yield data
                except Unavailable:
                    failures = 0 if done else failures + 1
                    if failures >= ATTEMPTS:
                        raise
                    time.sleep(0.2 * 2**failures * random.uniform(0.8, 1.2))
                wanted = wanted[done:]

    def writer(self) -> ChunkWriter:
        """Chunks of any size are held back, so that one question is about many."""
        return ChunkWriter(self, RemoteSink(self._send), large_bytes=1 << 32)

    def _send(self, body: bytes) -> int:
        with _transfer_kept():
            return retried(lambda: self._transfers.send(self._transfer, body))


class RemoteSink:
    """Sends chunks in bodies of some 16 MiB, two at a time, while the next one is filled. Holds some 64 MiB."""

    def __init__(self, send: Callable[[bytes], int]) -> None:
        self._send = send
        self._compressor = Compressor()
        self._frames: list[bytes] = []
        self._bytes = 0
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="paddock-send")
        self._running: deque[Future[int]] = deque()
        self.stored_bytes = 0

    def add(self, digest: Digest, data: Bytes) -> None:
        stored, codec = self._compressor.encode(data)
        framed = frame(digest, stored, size=len(data), codec=codec)
        self._frames.append(framed)
        self._bytes += len(framed)
        if self._bytes >= BODY_BYTES:
            self._ship()
            self._await(_IN_FLIGHT)

    def take_finished(self) -> tuple[PackRecord, ...]:
        """None: the server enters what it is sent into its index itself."""
        return ()

    def finish(self) -> tuple[PackRecord, ...]:
        if self._frames:
            self._ship()
        self._await(0)
        return ()

    def abort(self) -> None:
        for task in self._running:
            task.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ship(self) -> None:
        self._running.append(self._pool.submit(self._send, b"".join(self._frames)))
        self._frames, self._bytes = [], 0

    def _await(self, running_max: int) -> None:
        while len(self._running) > running_max:
            self.stored_bytes += self._running.popleft().result()


class _RemoteIndex:
    """What of a server's chunk index a client needs."""

    def __init__(self, transfers: HttpTransfers, transfer: Transfer) -> None:
        self._transfers = transfers
        self._transfer = transfer

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        raise Bug("where a server keeps chunks is its own business; please report this")

    def known(self, digests: Sequence[Digest]) -> set[Digest]:
        found: set[Digest] = set()
        for start in range(0, len(digests), _ASKED_AT_ONCE):
            asked = digests[start : start + _ASKED_AT_ONCE]
            with _transfer_kept():
                flags = retried(lambda asked=asked: self._transfers.missing(self._transfer.id, asked))  # type: ignore[misc]
            found.update(digest for digest, missing in zip(asked, flags, strict=True) if not missing)
        return found

    def epoch(self) -> str:
        return f"{self._transfer.home}:{self._transfer.epoch}"

    def register(self, packs: Sequence[PackRecord]) -> None:
        assert not packs, "a server registers its packs itself"


class _OutOfReach:
    """The object store of a server, which only the server reaches."""

    reading = LOCAL_READING

    def create(self, key: str) -> ObjectWriter:
        raise _bug(key)

    def read(self, key: str) -> bytes:
        raise _bug(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        raise _bug(key)

    def exists(self, key: str) -> bool:
        raise _bug(key)

    def info(self, key: str) -> ObjectInfo:
        raise _bug(key)

    def delete(self, key: str) -> None:
        raise _bug(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        raise _bug(prefix)


def _bug(key: str) -> Bug:
    return Bug(f"object {key} is out of reach of a client; please report this")


@contextmanager
def _transfer_kept() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Unavailable(error.message) from None


@dataclass(frozen=True, slots=True)
class Door:
    """One transfer under way."""

    transfers: HttpTransfers
    transfer: Transfer
    store: RemoteChunks

    def caches(self, environment: Mapping[str, str]) -> Path:
        """Where what is remembered of this home lies; it can be lost at any time."""
        top = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(top) / "paddock" / self.transfer.home


@contextmanager
def opened(transfers: HttpTransfers, target: str | None = None) -> Iterator[Door]:
    """A transfer, ended at the end."""
    transfer = retried(lambda: transfers.begin(target))
    try:
        yield Door(transfers, transfer, RemoteChunks(transfers, transfer))
    finally:
        try:
            transfers.end(transfer.id)
        except PaddockError:
            pass  # it ends by itself


def put_filled(
    transfers: HttpTransfers,
    target: str,
    fill: Callable[[Door, ChunkWriter, str], Ingested],
    *,
    name: str | None = None,
    append: bool = False,
    mirror: bool = False,
) -> PutReport:
    """Put files as one commit: their missing chunks, then their table. `name`: of the source, where that is a single file."""
    started = time.monotonic()
    path = target_path(target, name)
    with opened(transfers, target) as door:
        with door.store.writer() as writer:
            found = fill(door, writer, path)
            writer.flush()
            sent = writer.sink.stored_bytes if isinstance(writer.sink, RemoteSink) else 0
        whole = f"{target.partition(':')[0]}:{path}"
        table = encode_table(TREE, found.table.combine_chunks())
        report = transfers.put(door.transfer.id, whole, table, append=append, mirror=mirror)
    found.commit_cache(None)
    return replace(report, stored_bytes=report.stored_bytes + sent, seconds=time.monotonic() - started)
