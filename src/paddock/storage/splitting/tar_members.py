"""Where the members of a tar archive end: each with the headers that describe it, and padded to whole blocks."""

from __future__ import annotations

import numpy as np

from paddock.storage.splitting.records import Ends, SplitError

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends an archive."""
_ABOUT_NEXT = b"xLKNX"
"""Headers of the member that follows: extended attributes (POSIX, Solaris), long names (GNU)."""
_GLOBAL = b"g"
_SPARSE = b"S"
_NO_DATA = b"123456"
"""Links, devices and directories: whatever size they claim, no data follows."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class TarScanner:
    """Global headers at the start count as the head: `head_ends` has told of them."""

    def __init__(self) -> None:
        self.ended = False

    def ends(self, data: bytes, *, final: bool) -> Ends:
        found: list[int] = []
        position = 0
        while position + BLOCK <= len(data):
            if not any(data[position : position + BLOCK]):
                self.ended = True
                break
            end = _member_end(data, position, len(found))
            if end is None or end > len(data):
                break
            found.append(end)
            position = end
        if final and not self.ended and position < len(data):
            fault = (
                _compression(data, position, len(found)) or "ends in the middle of a member; the archive was cut off"
            )
            raise SplitError(fault, position, len(found))
        return np.array(found, np.int64)


def head_bytes(data: bytes) -> int:
    """Bytes of the global headers that an archive begins with."""
    position = 0
    while data[position + 156 : position + 157] == _GLOBAL:
        position += BLOCK + _padded(_size(data, position, 0))
    return position


def _member_end(data: bytes, start: int, records: int) -> int | None:
    """Where the member ends whose first header is at `start`; None: beyond the bytes at hand."""
    position, size_said = start, None
    while position + BLOCK <= len(data):
        kind = data[position + 156 : position + 157]
        size = _size(data, position, records)
        if kind in (b"", b"\0") or kind not in _ABOUT_NEXT + _GLOBAL:
            if kind == _SPARSE:
                more = _sparse_blocks(data, position)
                if more is None:
                    return None
                position += more * BLOCK
            if kind and kind in _NO_DATA:
                return position + BLOCK
            return position + BLOCK + _padded(size if size_said is None else size_said)
        body = data[position + BLOCK : position + BLOCK + size]
        if kind == b"x" and len(body) == size:
            size_said = _size_in_attributes(body)
        position += BLOCK + _padded(size)
    return None


def _size(data: bytes, position: int, records: int) -> int:
    """The size in the header at `position`, whose checksum must be right."""
    header = data[position : position + BLOCK]
    try:
        said = int(header[148:156].strip(b" \0") or b"0", 8)
        field = header[124:136]
        size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        said, size = -1, 0
    if said != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise SplitError(
            _compression(header, position, records) or "has no valid member header here", position, records
        )
    return size


def _compression(data: bytes, position: int, records: int) -> str:
    """The fault of an archive that is compressed, if this is the beginning of one; else empty."""
    packed = _COMPRESSED.get(data[:2]) if position == 0 and not records else None
    return f"is compressed ({packed}); put it uncompressed" if packed else ""


def _size_in_attributes(body: bytes) -> int | None:
    """`size` among POSIX extended attributes (`LENGTH KEY=VALUE\\n`), for members of 8 GiB and more."""
    for record in body.split(b"\n"):
        name, _, value = record.partition(b" ")[2].partition(b"=")
        if name == b"size" and value.isdigit():
            return int(value)
    return None


def _sparse_blocks(data: bytes, position: int) -> int | None:
    """Blocks of an old GNU sparse map that follow the header."""
    more, extended = 0, data[position + 482]
    while extended:
        more += 1
        at = position + more * BLOCK + 504
        if at >= len(data):
            return None
        extended = data[at]
    return more


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
