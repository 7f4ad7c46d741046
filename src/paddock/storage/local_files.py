"""What a file on the local disk holds, in the terms of a tree."""

from __future__ import annotations

import os
import stat

from paddock.model.errors import PaddockError
from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters, file_digest
from paddock.storage.os_errors import translate
from paddock.storage.output_files import OutputFile
from paddock.storage.streams import named_pieces


def local_digest(path: str, chunking: ChunkingParameters) -> Digest:
    """The tree digest of a regular file's content."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - called for each file of a large tree
            return file_digest([digest for digest, _ in named_pieces(file, chunking)])
    except OSError as error:
        raise translate(error, "read", path) from error


def is_equal(path: str, file: OutputFile, chunking: ChunkingParameters) -> bool:
    """Whether a regular file with the content and mode of `file` is there. Reads it where the size fits."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise translate(error, "look at", path) from error
    alike = status.st_size == file.size and bool(status.st_mode & stat.S_IXUSR) == file.executable
    try:
        return stat.S_ISREG(status.st_mode) and alike and local_digest(path, chunking) == file.digest
    except PaddockError:
        return False  # what can't be read is replaced
