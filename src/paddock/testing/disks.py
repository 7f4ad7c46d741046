"""Disks for tests: one on which the n-th operation fails, and one that says what a power cut would leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_Operation = Callable[..., Any]


class Crash(BaseException):
    """Stands for the sudden end of a process: nothing handles it but what a death would do too."""


@contextmanager
def failing_operations(
    targets: list[tuple[object, str]], *, fail_at: int, after: bool, error: Callable[[], BaseException] = Crash
) -> Iterator[list[str]]:
    """Let the n-th call (from 1) of any of the operations (owner, name) fail: before it has an effect, or after.

    Yields the names of what was called, to be looked at afterwards: fewer than `fail_at` means that nothing failed. What fails
    once goes on failing, as after a death, where the error is a Crash.
    """
    called: list[str] = []
    lock = threading.Lock()

    def wrap(name: str, real: _Operation) -> _Operation:
        def operation(*arguments: Any, **options: Any) -> Any:
            with lock:
                called.append(name)
                number = len(called)
            dead = error is Crash and number > fail_at > 0
            if dead or (number == fail_at and not after):
                raise error()
            result = real(*arguments, **options)
            if number == fail_at:
                raise error()
            return result

        return operation

    with ExitStack() as stack:
        for owner, name in targets:
            stack.enter_context(_replaced(owner, name, wrap(name, getattr(owner, name))))
        yield called


class RecordedDisk:
    """Follows what this process writes below `root`, and knows what of it a power cut would leave.

    Files written through `os` functions only. A file keeps the bytes that were there when it was last synced; a name stays
    only if its directory was synced since. That is the least that a file system promises.
    """

    def __init__(self, root: Path, *, ignore_syncs: bool = False) -> None:
        """`ignore_syncs`: a disk that lies, to see that a test would notice."""
        self._root = os.fspath(root)
        self._ignore_syncs = ignore_syncs
        self._open: dict[int, str | int] = {}
        self._written: dict[int, bytearray] = {}
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, int | None] = {}
        self._durable: dict[str, int | None] = {}
        self._lock = threading.RLock()

    def survivors(self) -> dict[str, bytes | None]:
        """{path: bytes, or None for a directory} of what was made and would still be there."""
        with self._lock:
            kept: dict[str, bytes | None] = {}
            for path, file in sorted(self._durable.items()):
                parent = os.path.dirname(path)
                if parent in kept or parent not in self._names:
                    kept[path] = None if file is None else self._synced.get(file, b"")
            return kept

    @contextmanager
    def recording(self) -> Iterator[None]:
        notes: dict[str, _Operation] = {
            "open": self._opened,
            "close": self._closed,
            "write": self._wrote,
            "fsync": self._fsynced,
            "rename": self._renamed,
            "mkdir": self._made,
        }
        with ExitStack() as stack:
            for name, note in notes.items():
                stack.enter_context(_replaced(os, name, self._wrapped(getattr(os, name), note)))
            yield

    def _wrapped(self, real: _Operation, note: _Operation) -> _Operation:
        def operation(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                result = real(*arguments, **options)
                note(result, *arguments)
                return result

        return operation

    def _opened(self, descriptor: int, path: Any, flags: int, *_: Any) -> None:
        place = os.fspath(path)
        if not isinstance(place, str) or not place.startswith(self._root):
            return
        if flags & os.O_CREAT and not place.endswith(".lock"):
            file = len(self._written)
            self._written[file] = bytearray()
            self._names[place] = file
            self._open[descriptor] = file
        else:
            self._open[descriptor] = place

    def _closed(self, _: None, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def _wrote(self, count: int, descriptor: int, data: Any) -> None:
        file = self._open.get(descriptor)
        if isinstance(file, int):
            self._written[file] += bytes(memoryview(data)[:count])

    def _fsynced(self, _: None, descriptor: int) -> None:
        place = self._open.get(descriptor)
        if place is None or self._ignore_syncs:
            return
        if isinstance(place, int):
            self._synced[place] = bytes(self._written[place])
            return
        for path in [path for path in self._durable if os.path.dirname(path) == place]:
            del self._durable[path]
        self._durable |= {path: file for path, file in self._names.items() if os.path.dirname(path) == place}

    def _renamed(self, _: None, source: Any, target: Any) -> None:
        if os.fspath(source) in self._names:
            self._names[os.fspath(target)] = self._names.pop(os.fspath(source))

    def _made(self, _: None, path: Any, *__: Any) -> None:
        if os.fspath(path).startswith(self._root):
            self._names[os.fspath(path)] = None


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
