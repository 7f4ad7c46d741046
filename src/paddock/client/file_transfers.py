"""Files to and from a server, chunk by chunk: only what the other side lacks travels, and what was cut off goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from paddock.client.http_transfers import HttpTransfers
from paddock.client.remote_chunks import Door, opened, put_filled, retried
from paddock.client.transport import Transport
from paddock.model.addresses import parse_address
from paddock.model.errors import InvalidInput
from paddock.model.records import GetReport, PutReport
from paddock.model.services import OnTransfer
from paddock.storage.archive_ingest import add_archive
from paddock.storage.archive_writing import archive_of, check_format
from paddock.storage.chunks import ChunkWriter
from paddock.storage.export import selected_files, write_tree
from paddock.storage.ingest import Ingested, add_stream, add_tree
from paddock.storage.tables import Tables
from paddock.storage.trees import Trees
from paddock.storage.urls import check_concurrency, local_path


def put_tree(
    transport: Transport, target: str, source: Path, *, append: bool, mirror: bool, on_transfer: OnTransfer | None
) -> PutReport:
    _refuse_both(append=append, mirror=mirror)

    def fill(door: Door, writer: ChunkWriter, path: str) -> Ingested:
        cache = door.caches(os.environ)
        return add_tree(door.store, writer, source, path, cache_dir=cache, on_transfer=on_transfer)

    name = source.name if source.is_file() else None
    return put_filled(HttpTransfers(transport), target, fill, name=name, append=append, mirror=mirror)


def put_stream(transport: Transport, target: str, head: bytes, source: BinaryIO) -> PutReport:
    """One file, whose first bytes are read already."""
    address = parse_address(target)
    if address.path in (None, "/") or target.endswith("/"):
        raise InvalidInput(
            f"{target!r} names a directory; name the file to write, as in {address.repo}@{address.ref}:/file"
        )

    def fill(door: Door, writer: ChunkWriter, path: str) -> Ingested:
        return add_stream(writer, path, source, first=head)

    return put_filled(HttpTransfers(transport), target, fill)


def put_archive(
    transport: Transport, target: str, source: BinaryIO, *, append: bool, mirror: bool, on_transfer: OnTransfer | None
) -> PutReport:
    _refuse_both(append=append, mirror=mirror)

    def fill(door: Door, writer: ChunkWriter, path: str) -> Ingested:
        return add_archive(writer, source, path, on_transfer=on_transfer)

    return put_filled(HttpTransfers(transport), target, fill, append=append, mirror=mirror)


def get_archive(transport: Transport, source: str, format: str) -> Iterator[bytes]:
    """Made here, of chunks, so that a fault in the middle has its name."""
    name = check_format(format)
    transfers = HttpTransfers(transport)
    with opened(transfers) as door:
        root = retried(lambda: transfers.tree(door.transfer.id, source))
        files = selected_files(Trees(Tables(door.store)), root, parse_address(source).path or "/").files
        yield from archive_of(door.store, files, name)


def put_url(
    transport: Transport,
    target: str,
    url: str,
    *,
    append: bool,
    mirror: bool,
    concurrency: int,
    on_transfer: OnTransfer | None,
) -> PutReport:
    """This process fetches, and sends what the server lacks."""
    _refuse_both(append=append, mirror=mirror)
    check_concurrency(concurrency)
    local = local_path(url)
    if local is not None:
        return put_tree(transport, target, local, append=append, mirror=mirror, on_transfer=on_transfer)
    # They bring in the clients of object stores or of HTTP, which other puts need not load.
    from paddock.storage.url_ingest import add_url
    from paddock.storage.url_sources import open_source

    source = open_source(url)

    def fill(door: Door, writer: ChunkWriter, path: str) -> Ingested:
        return add_url(
            door.store,
            writer,
            source,
            path,
            concurrency=concurrency,
            cache_dir=door.caches(os.environ),
            on_transfer=on_transfer,
        )

    return put_filled(HttpTransfers(transport), target, fill, name=source.name, append=append, mirror=mirror)


def get_url(
    transport: Transport, source: str, url: str, *, concurrency: int, on_transfer: OnTransfer | None
) -> GetReport:
    check_concurrency(concurrency)
    local = local_path(url)
    if local is not None:
        return get_tree(transport, source, local, mirror=False, on_transfer=on_transfer)
    from paddock.storage.url_export import check_target_url, write_url

    check_target_url(url)
    transfers = HttpTransfers(transport)
    with opened(transfers) as door:
        root = retried(lambda: transfers.tree(door.transfer.id, source))
        return write_url(
            door.store,
            selected_files(Trees(Tables(door.store)), root, parse_address(source).path or "/"),
            url,
            concurrency=concurrency,
            cache_dir=door.caches(os.environ),
            on_transfer=on_transfer,
        )


def _refuse_both(*, append: bool, mirror: bool) -> None:
    if append and mirror:
        raise InvalidInput("append and mirror exclude each other; mirroring makes the target equal to the source")


def get_tree(
    transport: Transport, source: str, target: Path, *, mirror: bool, on_transfer: OnTransfer | None
) -> GetReport:
    transfers = HttpTransfers(transport)
    with opened(transfers) as door:
        root = retried(lambda: transfers.tree(door.transfer.id, source))
        return write_tree(
            door.store,
            Trees(Tables(door.store)),
            root,
            parse_address(source).path or "/",
            target,
            mirror=mirror,
            cache_dir=door.caches(os.environ),
            on_transfer=on_transfer,
        )
