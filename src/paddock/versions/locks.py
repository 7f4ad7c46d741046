"""Locks between the processes that use one home.

    alone    by name: one holder (the scheduler, a collection, those who write to one repo in line)
    use      shared by everyone who has the home open; an upgrade takes it alone
    pins     shared, one for each generation of garbage collection (design note 010)

`FileLocks` keeps them as locked files: the kernel frees those of a process that dies. A catalog on a server brings its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from paddock.model.errors import Conflict, LimitExceeded, NotFound, PermissionDenied, Unavailable

_PIN = "pin-"
_USE = "use"


class Lock(Protocol):
    """A lock that is held until `release`, the end of the `with` block, or the death of its process."""

    def release(self) -> None:
        """Idempotent."""

    def __enter__(self) -> Lock: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Locks(Protocol):
    """Safe for many threads. Unavailable where the place that keeps the locks can't be reached."""

    def try_alone(self, name: str) -> Lock | None:
        """Take the lock; None while another holder has it, in this process or another."""

    def wait_alone(self, name: str) -> Lock:
        """Take the lock, waiting for whoever holds it. Only for short work."""

    def pin(self, generation: int) -> Lock:
        """Note that somebody counts on what was stored in this generation. Many may; none waits."""

    def oldest_pin(self, *, before: int) -> int | None:
        """The oldest generation before this one of which a pin is held by anybody."""


class FileLock:
    """A locked file. Implements `Lock`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._process = os.getpid()

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor is not None:
            # A child that another thread has just forked, and that has not begun its program yet, has the file open too, and
            # would keep the lock for that moment. A child itself must not give up its parent's lock.
            if self._process == os.getpid():
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        # Of an iterator that nobody began, say: a lock that nobody can release must not be held for ever.
        self.release()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FileLocks:
    """Locks of the home at a path, as files in its `locks/`. Implements `Locks`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def try_alone(self, name: str) -> FileLock | None:
        return self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def wait_alone(self, name: str) -> FileLock:
        lock = self._lock(name, fcntl.LOCK_EX)
        assert lock is not None, "a blocking flock returns with the lock"
        return lock

    def pin(self, generation: int) -> FileLock:
        lock = self._lock(f"{_PIN}{generation}", fcntl.LOCK_SH)
        assert lock is not None, "a blocking flock returns with the lock"
        return lock

    def oldest_pin(self, *, before: int) -> int | None:
        held = None
        for file in sorted((self._home / "locks").glob(f"{_PIN}*.lock")):
            number = int(file.stem.removeprefix(_PIN))
            if number >= before:
                continue
            lock = self.try_alone(file.stem)
            if lock is None:
                held = number if held is None else min(held, number)
                continue
            # Who opened the file and waits for the lock finds a newer generation then, and takes another pin. The file of the
            # generation just before may still be the present one's.
            with lock:
                if number < before - 1:
                    file.unlink(missing_ok=True)
        return held

    def use(self) -> FileLock:
        """Have the home open, beside others. Unavailable: somebody is upgrading it."""
        lock = self._lock(_USE, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if lock is None:
            raise Unavailable(f"home {self._home} is being upgraded by another process; try again when that has ended")
        return lock

    def use_alone(self) -> FileLock:
        """Keep everyone else from opening the home. Conflict: someone has it open."""
        lock = self.try_alone(_USE)
        if lock is None:
            raise Conflict(
                f"home {self._home} is in use by another process; end it first (a server with Ctrl-C, a run by waiting for it)"
            )
        return lock

    def _lock(self, name: str, operation: int) -> FileLock | None:
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(
                f"home {self._home} can't be locked ({error.strerror}); put it on a file system that has locks"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        return FileLock(descriptor)

    def _open(self, name: str) -> int:
        try:
            (self._home / "locks").mkdir(exist_ok=True)
            return os.open(self._home / "locks" / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"home {self._home} is gone; someone has moved or removed it") from None
        except PermissionError as error:
            raise PermissionDenied(
                f"home {self._home}: no permission for {error.filename}; check its owner and mode, or name another with --home"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LimitExceeded(f"no space left for home {self._home}; free some and try again") from None
            raise Unavailable(f"home {self._home}: {error.strerror or error}; try again") from error
