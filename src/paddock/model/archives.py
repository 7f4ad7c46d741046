"""The wire form of a file tree: a pax tar stream of regular files, written in constant memory. Pure.

Only names, sizes and the executable bit travel; times and owners do not belong to a tree.
"""

from __future__ import annotations

import tarfile

BLOCK_BYTES = 512
ARCHIVE_MEDIA_TYPE = "application/x-tar"
ARCHIVE_END = b"\0" * (2 * BLOCK_BYTES)
PIECE_BYTES = 1 << 20
ARCHIVE_FORMATS = {
    "tar": ARCHIVE_MEDIA_TYPE,
    "tar.gz": "application/gzip",
    "tar.zst": "application/zstd",
    "zip": "application/zip",
}
"""What a tree can be had as, with the media types. More can be put: tar.bz2 and tar.xz too."""


def archive_header(name: str, *, size: int, executable: bool) -> bytes:
    """The header of one file; its `size` bytes and `archive_padding(size)` must follow. name: relative, no leading '/'."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o755 if executable else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def archive_padding(size: int) -> bytes:
    return b"\0" * (-size % BLOCK_BYTES)
