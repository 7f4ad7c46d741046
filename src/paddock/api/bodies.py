"""Request bodies in constant memory: an asynchronous body read by synchronous services, and uploaded trees."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import anyio.from_thread
from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from paddock.model.addresses import check_path
from paddock.model.archives import PIECE_BYTES
from paddock.model.errors import InvalidInput, PaddockError, Unavailable

UPLOADS_MAX = 8
"""Long bodies that are read at once: they are bound by the disk and two or three cores' hashing long before."""
DRAIN_BYTES_MAX = 256 << 20


class BodyReader(io.RawIOBase):
    """A request's body as a binary file, for code that runs in a worker thread of the event loop. Read once."""

    def __init__(self, request: Request) -> None:
        self._pieces: AsyncIterator[bytes] = request.stream().__aiter__()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        while not self._rest:
            piece = anyio.from_thread.run(self._next)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._pieces, None)
        except ClientDisconnect:
            raise Unavailable("the client went away in the middle of an upload; nothing was changed") from None


def body_file(request: Request) -> io.BufferedReader:
    return io.BufferedReader(BodyReader(request), buffer_size=PIECE_BYTES)


@contextmanager
def drained(request: Request) -> Iterator[io.BufferedReader]:
    """The body; where a Paddock error leaves the block, the rest is read first, up to a bound.

    Who sends does not read an answer that comes before the end of the body, and would see a broken connection only.
    """
    body = body_file(request)
    try:
        yield body
    except PaddockError:
        left = DRAIN_BYTES_MAX
        while left > 0 and (piece := body.read(PIECE_BYTES)):
            left -= len(piece)
        raise


async def _upload_slot(request: Request) -> AsyncIterator[None]:
    """Wait until few enough uploads run. The body is not read meanwhile, so the sender waits too."""
    async with request.app.state.upload_slots:
        yield


UploadSlot = Annotated[None, Depends(_upload_slot, scope="function")]
"""A route that reads a long body takes one; no more than UPLOADS_MAX run at once, each in constant memory."""


@contextmanager
def uploaded_tree(request: Request, spool: Path | None) -> Iterator[Path]:
    """Spool the tar stream of a request's body below a fresh folder, which is removed at the end.

    spool: where that folder is made (default: the system's temporary folder); it must have room for the upload.
    """
    if spool is not None:
        spool.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="upload-", dir=spool) as name:
        root = Path(name)
        try:
            with tarfile.open(fileobj=body_file(request), mode="r|") as archive:
                for member in archive:
                    _extract(archive, member, root)
        except tarfile.TarError as error:
            raise InvalidInput(f"the uploaded body is not a whole tar stream ({error}); nothing was changed") from None
        yield root


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    place = root / check_path(member.name).lstrip("/")
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise InvalidInput(f"{member.name!r} in the tar stream is not a regular file; send files and folders only")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            shutil.copyfileobj(content, file, PIECE_BYTES)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise InvalidInput(f"{member.name!r} is both a file and a folder in the tar stream") from None
    place.chmod(0o755 if member.mode & 0o100 else 0o644)
