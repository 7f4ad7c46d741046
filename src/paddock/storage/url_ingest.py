"""From a URL to stored chunks and tree rows. Parts are fetched by threads, in a bounded window, and stored in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pyarrow as pa

from paddock.model.errors import Conflict, NotFound
from paddock.model.ids import Digest
from paddock.model.services import OnTransfer
from paddock.storage.chunking import EMPTY_DIGEST, StoredFile, file_chunks
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.columnar import arrow_schema
from paddock.storage.ingest import Committed, Ingested
from paddock.storage.row_builder import RowBuilder
from paddock.storage.scan_cache import ScanCache
from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed, list_of
from paddock.storage.transfer_progress import TransferProgress
from paddock.storage.url_sources import UrlFile, UrlSource

URLS = TableKind(
    "urls",
    (
        Column("path", STRING),
        Column("size", INT64),
        Column("tag", STRING),
        Column("digest", fixed(32)),
        Column("chunks", list_of(fixed(32))),
    ),
)
"""What an earlier put from a URL stored: a file is not fetched again while size and tag are as they were."""

_ENTRIES_MAX = 1024
"""Looked ahead at most, parts and ends of files."""

_Known = dict[str, tuple[int, str, StoredFile]]
_Part = tuple[UrlFile, Callable[[], Iterator[bytes]] | None]


def add_url(
    store: ChunkStore,
    writer: ChunkWriter,
    source: UrlSource,
    target: str,
    *,
    concurrency: int,
    cache_dir: Path | None = None,
    on_transfer: OnTransfer | None = None,
) -> Ingested:
    """Store the files of a source below `target`, or the single one as `target`; nothing is in a tree yet, the chunks not flushed.

    Not fetched again: files with the size and tag of an earlier put, whose chunks are still stored. Holds `concurrency` parts of
    8 MiB. Unavailable after the source's own retries; Conflict: a file was replaced meanwhile. Nothing refers to what was stored then.
    """
    cache = None if cache_dir is None else ScanCache(cache_dir, source.url, store.index.epoch(), kind=URLS)
    known = _still_stored(store, {} if cache is None else _known(cache.load()))
    rows, tags = RowBuilder(target), dict[str, tuple[int, str]]()
    progress = TransferProgress(on_transfer, None, None)
    fetched = 0

    def files() -> Iterator[UrlFile]:
        nonlocal fetched
        for file in source.files():
            fault = rows.fault_of(file.path)
            if fault:
                raise Conflict(f"{source.url}{file.path}: {fault}")
            old = known.get(file.path)
            tags[file.path] = (file.size, file.tag)
            if old is not None and file.tag and old[:2] == (file.size, file.tag):
                rows.add(file.path, old[2], executable=False)
                progress.advance(1, file.size)
            else:
                fetched += 1
                yield file

    with ThreadPoolExecutor(concurrency, thread_name_prefix="paddock-fetch") as pool:
        parts = _Ahead(_parts(files()), pool, concurrency)
        try:
            for file in parts.files():
                stored = writer.put_stream(parts)
                if len(file.parts) > 1:
                    file.check()
                rows.add(file.path, stored, executable=False)
                progress.advance(1, stored.size)
        finally:
            parts.stop()
    if not rows.count:
        raise NotFound(f"nothing is at {source.url}; check the bucket and the path")

    def commit_cache(committed: Committed | None) -> None:
        if cache is not None:
            cache.save(_cache_rows(rows, tags))

    return Ingested(rows.table(), rows.count, rows.bytes, fetched, commit_cache)


def _parts(files: Iterator[UrlFile]) -> Iterator[_Part]:
    """The parts of all files in order; an end (None) after those of each."""
    for file in files:
        for part in file.parts:
            yield file, part
        yield file, None


class _Ahead:
    """Parts that threads fetch while earlier ones are stored. Reads like one file after the other."""

    def __init__(self, parts: Iterator[_Part], pool: ThreadPoolExecutor, window: int) -> None:
        self._parts = parts
        self._pool = pool
        self._window = window
        self._running: deque[tuple[UrlFile, Future[Iterator[bytes]] | None]] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")

    def files(self) -> Iterator[UrlFile]:
        """Each file in turn; what is read then are its bytes, to their end."""
        for _ in count():
            self._fill()
            if not self._running:
                return
            yield self._running[0][0]

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is not None:
                self._rest = memoryview(piece)
                continue
            self._fill()
            _, task = self._running.popleft()
            if task is None:
                return b""
            self._pieces = task.result()
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def stop(self) -> None:
        for _, task in self._running:
            if task is not None:
                task.cancel()

    def _fill(self) -> None:
        while len(self._running) < _ENTRIES_MAX and sum(task is not None for _, task in self._running) < self._window:
            found = next(self._parts, None)
            if found is None:
                return
            file, part = found
            self._running.append((file, None if part is None else self._pool.submit(part)))


def _known(cached: pa.Table) -> _Known:
    columns = (cached.column(name).to_pylist() for name in ("path", "size", "tag", "digest", "chunks"))
    return {
        path: (size, tag, StoredFile(size, Digest(digest), tuple(map(Digest, chunks))))
        for path, size, tag, digest, chunks in zip(*columns, strict=True)
    }


def _still_stored(store: ChunkStore, known: _Known) -> _Known:
    """Those of which the store has every chunk."""
    listed = {
        path: file_chunks(file.size, file.digest, file.chunks) for path, (_, _, file) in known.items() if file.size
    }
    stored = store.index.known(list({chunk for chunks in listed.values() for chunk in chunks}))
    return {path: found for path, found in known.items() if all(chunk in stored for chunk in listed.get(path, ()))}


def _cache_rows(rows: RowBuilder, tags: dict[str, tuple[int, str]]) -> pa.Table:
    names = [path for path, (_, tag) in tags.items() if tag]
    files = [rows.file(path) for path in names]
    columns = {
        "path": names,
        "size": [tags[path][0] for path in names],
        "tag": [tags[path][1] for path in names],
        "digest": [file.digest if file.size else EMPTY_DIGEST for file in files],
        "chunks": [list(file.chunks) for file in files],
    }
    return pa.table(columns, schema=arrow_schema(URLS))
