"""From an archive to stored chunks and tree rows, in one pass over the stream."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa

from paddock.model.errors import InvalidInput, Problem
from paddock.model.services import OnTransfer
from paddock.storage.archive_reading import Member, read_archive, told
from paddock.storage.chunking import EMPTY_FILE, StoredFile
from paddock.storage.chunks import ChunkWriter
from paddock.storage.file_reading import SMALL_BYTES
from paddock.storage.ingest import Committed, Ingested
from paddock.storage.row_builder import RowBuilder
from paddock.storage.scan import PROBLEMS_SHOWN
from paddock.storage.transfer_progress import TransferProgress


def add_archive(
    writer: ChunkWriter, source: BinaryIO, target: str, *, on_transfer: OnTransfer | None = None
) -> Ingested:
    """Store the files of an archive below `target`; the rows are not in any tree yet, the chunks not flushed.

    A hard link is the file that it links to. InvalidInput lists the members that can't be put, and names that occur twice; errors
    of `read_archive`. Nothing refers to what was stored then. Constant memory, but for the rows.
    """
    rows = RowBuilder(target)
    progress = TransferProgress(on_transfer, None, None)
    problems: list[Problem] = []
    with told():
        for member in read_archive(source):
            fault = member.fault or rows.fault_of(member.path)
            if fault:
                problems.append(Problem(repr(member.path)[1:-1], fault))
            elif member.link:
                if not rows.repeat(member.link, member.path):
                    problems.append(
                        Problem(member.path, f"links to {member.link}, which is no file before it; leave it out")
                    )
            else:
                rows.add(member.path, _stored(writer, member), executable=member.executable)
            progress.advance(1, member.size)
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(Problem("", f"… and {len(problems) - len(shown)} more"))
        raise InvalidInput("the archive holds what can't be stored; nothing was put", problems=tuple(shown))
    table: pa.Table = rows.table()
    return Ingested(table, rows.count, rows.bytes, rows.count, _nothing)


def _stored(writer: ChunkWriter, member: Member) -> StoredFile:
    assert member.content is not None, "a member without fault or link has a content"
    if member.size > SMALL_BYTES:
        return writer.put_stream(member.content)
    parts: list[bytes] = []
    while data := member.content.read(SMALL_BYTES + 1):
        parts.append(data)
    whole = b"".join(parts)
    return StoredFile(len(whole), writer.put(whole)) if whole else EMPTY_FILE


def _nothing(committed: Committed | None) -> None:
    """What is remembered of a source that is read once."""
