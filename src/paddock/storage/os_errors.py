"""Operating-system errors as Paddock's own: one table, used wherever storage touches the file system."""

from __future__ import annotations

import errno
import os

from paddock.model.errors import (
    Conflict,
    Corrupt,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Unavailable,
)

_TABLE: dict[int, tuple[type[PaddockError], str]] = {
    errno.ENOSPC: (LimitExceeded, "the disk is full; free some space and run the command again"),
    errno.EDQUOT: (LimitExceeded, "the disk quota is used up; free some space and run the command again"),
    errno.EFBIG: (LimitExceeded, "the file would be larger than the file system or `ulimit -f` allows"),
    errno.ENAMETOOLONG: (LimitExceeded, "the name is too long for the file system; shorten it"),
    errno.ENOENT: (NotFound, "it does not exist; check the path"),
    errno.ENOTDIR: (Conflict, "a part of the path is a file, not a directory; move it out of the way"),
    errno.EISDIR: (Conflict, "it is a directory; name a file"),
    errno.ENOTEMPTY: (Conflict, "the directory is not empty"),
    errno.EEXIST: (Conflict, "it exists already; move it out of the way"),
    errno.ELOOP: (InvalidInput, "its symbolic links lead in a circle; mend or remove them"),
    errno.EACCES: (PermissionDenied, "permission denied; check its owner and mode"),
    errno.EPERM: (PermissionDenied, "the system does not permit it; check its owner and mode"),
    errno.EROFS: (PermissionDenied, "the file system is read-only; mount it writable"),
}


def translate(error: OSError, action: str, path: str | os.PathLike[str], *, reading: bool = False) -> PaddockError:
    """The Paddock error for `error`, met while trying to `action` (a verb, "write") `path`; raise it `from error`.

    An I/O error is Corrupt where bytes that were stored can't be read back, else passing: Unavailable.
    """
    where = os.fsdecode(path)
    if error.errno == errno.EIO and reading:
        return Corrupt(f"can't {action} {where}: the disk reports an I/O error; check the disk, then run fsck")
    known = _TABLE.get(error.errno or 0)
    if known is not None:
        error_class, advice = known
        return error_class(f"can't {action} {where}: {advice}")
    return Unavailable(f"can't {action} {where}: {error.strerror or error}; try again")
