"""Errors of the operating system, told by what the user can do."""

from __future__ import annotations

import errno

import pytest

from paddock.model.errors import Conflict, Corrupt, LimitExceeded, NotFound, PaddockError, PermissionDenied, Unavailable
from paddock.storage.os_errors import translate


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, LimitExceeded),
        (errno.EDQUOT, LimitExceeded),
        (errno.EACCES, PermissionDenied),
        (errno.EROFS, PermissionDenied),
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, Conflict),
        (errno.EMFILE, Unavailable),
        (errno.EIO, Unavailable),
    ],
)
def test_errors_of_the_system_are_told_by_what_to_do(number: int, expected: type[PaddockError]) -> None:
    error = translate(OSError(number, "why"), "write", "/data/x")
    assert type(error) is expected
    assert str(error).startswith("can't write /data/x: ")


def test_stored_bytes_that_the_disk_cannot_read_are_corrupt() -> None:
    assert type(translate(OSError(errno.EIO, "why"), "read", "/data/x", reading=True)) is Corrupt
