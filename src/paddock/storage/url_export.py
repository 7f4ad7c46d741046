"""From a tree to objects below a URL. Small files are written by threads, large ones in parts at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa

from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.records import GetReport
from paddock.model.services import OnTransfer
from paddock.storage.chunks import ChunkStore
from paddock.storage.columnar import arrow_schema
from paddock.storage.export import Selected
from paddock.storage.network_objects import NetworkObjects
from paddock.storage.objects import ObjectInfo
from paddock.storage.output_files import OutputFile
from paddock.storage.scan_cache import ScanCache
from paddock.storage.segments import STRING, Column, TableKind, fixed
from paddock.storage.transfer_progress import TransferProgress
from paddock.storage.url_sources import OBJECT_SCHEMES, PART_BYTES, bucket_of

EXPORTS = TableKind("exports", (Column("key", STRING), Column("tag", STRING), Column("digest", fixed(32))))
"""What an earlier get to a URL wrote: an object is not written again while it has that tag and the file that digest."""
_GROUP_FILES = 1024


def check_target_url(url: str) -> None:
    """InvalidInput where nothing can be written to a URL. Asks nothing of the network."""
    if urlsplit(url).scheme not in OBJECT_SCHEMES:
        names = ", ".join(f"{each}://" for each in (*OBJECT_SCHEMES, "file"))
        raise InvalidInput(f"{url} can't be written to; name a place in an object store: one of {names}")
    bucket_of(url)


def write_url(
    store: ChunkStore,
    selected: Selected,
    url: str,
    *,
    concurrency: int,
    cache_dir: Path | None = None,
    on_transfer: OnTransfer | None = None,
) -> GetReport:
    """Write one file as the object at the URL (below it, where that ends in `/` or is a bucket), or files below it.

    An object appears whole or not at all, and replaces what has its key; other objects are left alone. Those that an earlier
    call wrote, and nobody replaced since, are not written again. The executable bit has no place there. After an error, what was
    written stays, and is known the next time. Holds some `concurrency` × 8 MiB.
    """
    started = time.monotonic()
    objects, key = bucket_of(url)
    into = not key or url.endswith("/") or not selected.single
    prefix = (f"{key}/" if key else "") if into else ""
    cache = None if cache_dir is None else ScanCache(cache_dir, url, "", kind=EXPORTS)
    known = {} if cache is None else _known(cache.load())
    present = _tags(objects, prefix if into else key)
    progress = TransferProgress(on_transfer, selected.count, selected.bytes)
    digests: dict[str, Digest] = {}
    kept: dict[str, str] = {}

    def wanted() -> Iterator[tuple[str, OutputFile]]:
        for file in selected.files:
            target = prefix + file.path if into else key
            tag = present.get(target, "")
            digests[target] = file.digest
            if tag and known.get(target) == (tag, file.digest):
                kept[target] = tag
                progress.advance(1, file.size)
            else:
                yield target, file

    written = 0
    try:
        for _ in _written(store, objects, wanted(), progress, concurrency):
            written += 1
    finally:
        if cache is not None and written:
            now = _tags(objects, prefix if into else key)
            cache.save(_rows({each: now[each] for each in digests if now.get(each)}, digests))
    return GetReport(progress.files, progress.bytes, written, 0, time.monotonic() - started)


def _written(
    store: ChunkStore,
    objects: NetworkObjects,
    wanted: Iterator[tuple[str, OutputFile]],
    progress: TransferProgress,
    concurrency: int,
) -> Iterator[str]:
    """Write objects; the key of each that is done."""
    running: deque[tuple[str, OutputFile, Future[None]]] = deque()

    def done(running_max: int) -> Iterator[str]:
        while len(running) > running_max:
            target, file, task = running.popleft()
            task.result()
            progress.advance(1, file.size)
            yield target

    with ThreadPoolExecutor(concurrency, thread_name_prefix="paddock-store") as pool:
        try:
            while group := list(islice(wanted, _GROUP_FILES)):
                pieces = store.read_many(chunk for _, file in group for chunk in file.chunks)
                for target, file in group:
                    content = islice(pieces, len(file.chunks))
                    if file.size > PART_BYTES:
                        objects.replace(target, content)
                        progress.advance(1, file.size)
                        yield target
                    else:
                        data = b"".join(content)
                        running.append((target, file, pool.submit(objects.replace, target, [data])))
                        yield from done(2 * concurrency)
            yield from done(0)
        finally:
            for _, _, task in running:
                task.cancel()


def _tags(objects: NetworkObjects, prefix: str) -> dict[str, str]:
    found: list[ObjectInfo] = (
        list(objects.list(prefix)) if prefix == "" or prefix.endswith("/") else _one(objects, prefix)
    )
    return {each.key: each.tag for each in found}


def _one(objects: NetworkObjects, key: str) -> list[ObjectInfo]:
    return [objects.info(key)] if objects.exists(key) else []


def _known(cached: pa.Table) -> dict[str, tuple[str, Digest]]:
    columns = (cached.column(name).to_pylist() for name in ("key", "tag", "digest"))
    return {key: (tag, Digest(digest)) for key, tag, digest in zip(*columns, strict=True)}


def _rows(tags: dict[str, str], digests: dict[str, Digest]) -> pa.Table:
    columns = {
        "key": list(tags),
        "tag": list(tags.values()),
        "digest": [digests[key] for key in tags],
    }
    return pa.table(columns, schema=arrow_schema(EXPORTS))
