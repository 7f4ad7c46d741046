"""Transfers: a client that can't reach the object store sends and fetches chunks by digest, then puts a table of files.

Implements `model.services.Transfers` (docs/design/014-transfers.md). A transfer is a pin of the home, held by this process while
the client keeps asking: whatever the client was told is stored, or sent, stays until its commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog import chunk_index, garbage
from paddock.model.addresses import Address, check_path, parse_address
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Corrupt, InvalidInput, LimitExceeded, NotFound, Unavailable
from paddock.model.ids import Digest, new_id
from paddock.model.records import PutReport
from paddock.model.store_records import Transfer
from paddock.storage.chunk_frames import PROBLEM, decoded, read_frame
from paddock.storage.chunking import EMPTY_DIGEST, file_digest
from paddock.storage.columnar import decode_segment, sort_by_key
from paddock.storage.ingest import Committed, Ingested
from paddock.storage.packs import PackWriter
from paddock.storage.tree_kinds import TREE
from paddock.versions.changes import check_target
from paddock.versions.home import Home
from paddock.versions.locks import Lock
from paddock.versions.open_commits import require_path, tree_of
from paddock.versions.puts import put_filled
from paddock.versions.resolve import check_readable, resolve

EXPIRES_SECONDS = 600.0
"""Longer than any pause of a client that is at work (it may read and hash a large file between two requests)."""
TRANSFERS_MAX = 64
BODY_BYTES_MAX = 128 << 20
TABLE_BYTES_MAX = 1 << 30
"""Some ten million files."""
_CHECKED_AT_ONCE = 50_000
_NAMED_MAX = 20


@dataclass(slots=True)
class _Open:
    pin: Lock
    generation: int
    """Garbage collection condemns, from now on, with this generation or a later one only."""
    used: float
    busy: int = 0


class TransferService:
    """Thread-safe. `close` ends all transfers."""

    def __init__(self, home: Home, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    def begin(self, target: str | None = None) -> Transfer:
        """Unavailable: too many transfers are under way."""
        if target is not None:
            check_target(self._home, parse_address(target))
        self.sweep()
        pin = self._home.pin()
        id = new_id()
        with self._home.catalog.read() as tx:
            generation, epoch = garbage.generation(tx), garbage.epoch(tx)
        with self._lock:
            if len(self._open) >= TRANSFERS_MAX:
                pin.release()
                raise Unavailable(f"{TRANSFERS_MAX} transfers are under way, as many as may be; try again in a while")
            self._open[id] = _Open(pin, generation, self._clock())
            self._arm()
        chunking = self._home.chunking
        sizes = (chunking.min_bytes, chunking.average_bytes, chunking.max_bytes)
        return Transfer(id, self._home.id, epoch, *sizes, EXPIRES_SECONDS)

    def missing(self, transfer: str, digests: Sequence[Digest]) -> Sequence[bool]:
        with self._using(transfer):
            known = self._home.chunks.index.known(list(digests))
            return [digest not in known for digest in digests]

    def send(self, transfer: str, frames: BinaryIO) -> int:
        with self._using(transfer):
            return _store(self._home, frames)

    def fetch(self, transfer: str, digests: Sequence[Digest]) -> Iterator[bytes]:
        with self._using(transfer):
            yield from self._home.chunks.read_many(digests)

    def tree(self, transfer: str, source: str) -> Digest:
        address = parse_address(source)
        with self._using(transfer):
            with self._home.catalog.read() as tx:
                commit = resolve(tx, address).commit
                if commit is not None:
                    check_readable(tx, commit)
            tree = tree_of(self._home, commit)
            require_path(self._home, tree, address, address.path or "/")
            return tree

    def put(
        self, transfer: str, target: str, table: BinaryIO, *, append: bool = False, mirror: bool = False
    ) -> PutReport:
        address = parse_address(target)
        path = address.path or "/"
        with self._using(transfer) as opened:
            files = _checked(_read_table(table), path)
            _check_stored(self._home, files, opened.generation)
            return self._put(address, path, files, append=append, mirror=mirror)

    def _put(self, address: Address, path: str, files: pa.Table, *, append: bool, mirror: bool) -> PutReport:
        size = pc.sum(files.column("size")).as_py() or 0
        filled = Ingested(files, files.num_rows, size, files.num_rows, _nothing)
        return put_filled(self._home, address, path, lambda writer: filled, append=append, mirror=mirror)

    def end(self, transfer: str) -> None:
        with self._lock:
            opened = self._open.pop(transfer, None)
        if opened is not None:
            opened.pin.release()

    def close(self) -> None:
        with self._lock:
            left, self._open = list(self._open.values()), {}
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        for opened in left:
            opened.pin.release()

    def sweep(self) -> None:
        """End the transfers that nobody has asked for anything for too long."""
        limit = self._clock() - EXPIRES_SECONDS
        with self._lock:
            idle = [id for id, opened in self._open.items() if not opened.busy and opened.used < limit]
        for id in idle:
            self.end(id)

    def _arm(self) -> None:
        """Sweep again in a while, as long as something is open. Under the lock."""
        if self._sweeper is None and self._open:
            self._sweeper = threading.Timer(EXPIRES_SECONDS / 4, self._tick)
            self._sweeper.daemon = True
            self._sweeper.start()

    def _tick(self) -> None:
        self.sweep()
        with self._lock:
            self._sweeper = None
            self._arm()

    @contextmanager
    def _using(self, transfer: str) -> Iterator[_Open]:
        with self._lock:
            opened = self._open.get(transfer)
            if opened is None:
                raise NotFound(
                    f"transfer {transfer} has ended, or the server was started anew; run the command again: "
                    "what was sent is not sent again"
                )
            opened.busy += 1
        try:
            yield opened
        finally:
            with self._lock:
                opened.busy -= 1
                opened.used = self._clock()


def _nothing(committed: Committed | None) -> None:
    """What is to be remembered once a table of a client is put."""


def _store(home: Home, frames: BinaryIO) -> int:
    """Store the chunks of one body as one pack; its bytes. Nothing is known of them after an error."""
    reader = _Bounded(frames, BODY_BYTES_MAX, "one request sends chunks")
    chunk_max = home.chunking.max_bytes
    writer: PackWriter | None = None
    seen: set[Digest] = set()
    try:
        while (found := read_frame(reader, stored_max=chunk_max)) is not None:
            digest, stored, size, codec = found
            if codec == PROBLEM:
                raise InvalidInput("the body holds a problem in place of a chunk; send chunks")
            decoded(digest, stored, size, codec)
            if digest not in seen:
                seen.add(digest)
                writer = writer or PackWriter(home.objects)
                writer.add(digest, stored, size, codec)
        if writer is None:
            return 0
        pack = writer.finish()
    except BaseException as error:
        if writer is not None:
            writer.abort()
        if isinstance(error, EOFError):
            raise InvalidInput("the body ends within a chunk; send it again, whole") from None
        if isinstance(error, Corrupt):
            raise InvalidInput(error.message) from None
        raise
    home.chunks.index.register([pack])
    return pack.bytes


class _Bounded:
    """A reader that refuses to read more than so many bytes in all."""

    def __init__(self, source: BinaryIO, bytes_max: int, what: str) -> None:
        self._source = source
        self._left = bytes_max
        self._message = f"{what} of more than {bytes_max >> 20} MiB; send them in several"

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise LimitExceeded(self._message)
        return data


def _read_table(source: BinaryIO) -> pa.Table:
    """The table of a body. InvalidInput where it is none."""
    data = source.read(TABLE_BYTES_MAX + 1)
    if len(data) > TABLE_BYTES_MAX:
        raise LimitExceeded(
            f"the table of files is larger than {TABLE_BYTES_MAX >> 20} MiB; put the folder in several parts into an open commit"
        )
    try:
        table = decode_segment(TREE, data)
        table.validate(full=True)
    except (Corrupt, pa.ArrowInvalid) as error:
        raise InvalidInput(f"the body is no table of files: {error}") from None
    return table


def _checked(table: pa.Table, path: str) -> pa.Table:
    """The table, sorted. InvalidInput names a row that can't be: wrong path, size or flag. Conflict: a path that is there twice."""
    inside = "/" if path == "/" else f"{path}/"
    for each in table.column("path").to_pylist():
        if check_path(each) != each or each == "/" or not (each == path or each.startswith(inside)):
            raise InvalidInput(f"the table has the path {each!r}; write whole paths at or below {path}")
    if table.num_rows:
        if pc.max(pc.binary_length(table.column("datum"))).as_py():
            raise InvalidInput("the table names datums; files that are put belong to none")
        if pc.min(table.column("size")).as_py() < 0 or pc.max(table.column("executable")).as_py() > 1:
            raise InvalidInput("the table has a negative size, or an executable flag that is neither 0 nor 1")
    return sort_by_key(TREE, table)


def _check_stored(home: Home, table: pa.Table, generation: int) -> None:
    """Conflict where a chunk of the files is not stored, and InvalidInput where size or digest of a file is not that of its chunks.

    A chunk that was condemned within the transfer counts as stored: the pin keeps it, and the commit brings it back into use.
    """
    columns = (table.column(name).to_pylist() for name in ("path", "size", "digest", "chunks"))
    rows = zip(*columns, strict=True)
    missing: list[str] = []
    while batch := list(islice(rows, _CHECKED_AT_ONCE)):
        wanted = {chunk for _, size, digest, chunks in batch if size for chunk in chunks or (digest,)}
        with home.catalog.read() as tx:
            sizes = chunk_index.sizes(tx, cast("list[Digest]", list(wanted)), condemned_from=generation)
        for path, size, digest, chunks in batch:
            listed = (chunks or (digest,)) if size else ()
            if any(chunk not in sizes for chunk in listed):
                missing.append(path)
            elif (
                sum(sizes[chunk] for chunk in listed) != size
                or (len(chunks) == 1)
                or (chunks and file_digest(chunks) != digest)
                or (not size and (chunks or digest != EMPTY_DIGEST))
            ):
                raise InvalidInput(f"size and digest of {path} are not those of its chunks; send it again")
    if missing:
        shown = ", ".join(missing[:_NAMED_MAX]) + (" …" if len(missing) > _NAMED_MAX else "")
        raise Conflict(f"{len(missing)} files have chunks that are not stored ({shown}); put them again")
