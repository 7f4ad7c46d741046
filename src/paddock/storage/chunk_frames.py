"""Chunks on the wire between a client and a server, in either direction.

A frame is a header (digest 32, stored length u32, plain size u32, codec u8; little-endian) and the stored bytes, encoded as in a
pack. In place of a chunk, a sender that can't go on sends a last frame of codec 255: its bytes are a problem document. A body is
a sequence of frames, nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from paddock.model.errors import Corrupt, InvalidInput
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location
from paddock.storage.chunks import decode_chunk
from paddock.storage.objects import Bytes

FRAME = struct.Struct("<32sIIB")
PROBLEM = 255
FRAMES_MEDIA_TYPE = "application/vnd.paddock.chunks"

_NO_DIGEST = b"\0" * 32
_NO_PACK = PackId("transfer")


class FrameReader(Protocol):
    """A binary file. A short read is not the end; an empty one is."""

    def read(self, size: int, /) -> bytes: ...


def frame(digest: Digest, stored: Bytes, *, size: int, codec: int) -> bytes:
    """One chunk as it is sent. `size`: of the plain bytes."""
    return b"".join((FRAME.pack(digest, len(stored), size, codec), stored))


def frames_of(chunks: Iterator[tuple[Digest, bytes]]) -> Iterator[bytes]:
    """Plain chunks as frames."""
    for digest, data in chunks:
        yield frame(digest, data, size=len(data), codec=0)


def problem_frame(document: bytes) -> bytes:
    """The last frame of a body whose sender failed."""
    return FRAME.pack(_NO_DIGEST, len(document), 0, PROBLEM) + document


def read_frame(reader: FrameReader, *, stored_max: int) -> tuple[Digest, bytes, int, int] | None:
    """The next frame as (digest, stored bytes, size, codec); None at the end of the body.

    EOFError: the body ends within a frame. InvalidInput: a chunk of more than `stored_max` bytes, or none at all.
    """
    head = _exactly(reader, FRAME.size)
    if not head:
        return None
    if len(head) < FRAME.size:
        raise EOFError
    digest, length, size, codec = FRAME.unpack(head)
    if codec != PROBLEM and not 0 < size <= stored_max:
        raise InvalidInput(f"chunk {digest.hex()} is sent with {size} bytes; from 1 to {stored_max} are allowed")
    if length > max(stored_max, 1 << 20):
        raise InvalidInput(f"chunk {digest.hex()} is sent as {length} bytes; at most {stored_max} are allowed")
    stored = _exactly(reader, length)
    if len(stored) < length:
        raise EOFError
    return Digest(digest), stored, size, codec


def decoded(digest: Digest, stored: Bytes, size: int, codec: int) -> bytes:
    """The plain bytes of a frame, verified. Corrupt: they are not those of the digest."""
    try:
        data = decode_chunk(digest, Location(_NO_PACK, 0, len(stored), size, codec), stored)
    except Corrupt:
        data = b""
    if len(data) != size:
        raise Corrupt(f"chunk {digest.hex()} was damaged on its way; send it again")
    return data


def _exactly(reader: FrameReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) == size or not data:
        return data
    parts, missing = [data], size - len(data)
    while missing and parts[-1]:
        parts.append(reader.read(missing))
        missing -= len(parts[-1])
    return b"".join(parts)


def digests_in(data: bytes) -> list[Digest]:
    """The digests in a body of nothing else. InvalidInput where it has another length."""
    if len(data) % 32:
        raise InvalidInput(f"a list of digests has {len(data)} bytes; each digest has 32")
    return [Digest(data[at : at + 32]) for at in range(0, len(data), 32)]
