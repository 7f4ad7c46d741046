"""Object stores for tests: one in memory, and one that fails at a chosen operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from paddock.model.errors import AlreadyExists, Corrupt, NotFound, PaddockError, Unavailable
from paddock.model.ids import Digest
from paddock.model.records import Location, PackRecord
from paddock.storage.objects import LOCAL_READING, Bytes, ObjectInfo, ObjectStore, ObjectWriter

Result = TypeVar("Result")


class MemoryObjects:
    """Objects in a dict, `contents`, which tests may damage at will."""

    reading = LOCAL_READING

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def create(self, key: str) -> ObjectWriter:
        return _MemoryWriter(self.contents, key)

    def read(self, key: str) -> bytes:
        try:
            return self.contents[key]
        except KeyError:
            raise NotFound(f"object {key} does not exist in memory") from None

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = self.read(key)[offset : offset + length]
        if len(data) != length:
            raise Corrupt(f"object {key} is {length - len(data)} bytes too short: it is torn")
        return data

    def exists(self, key: str) -> bool:
        return key in self.contents

    def info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.read(key)))

    def delete(self, key: str) -> None:
        if self.contents.pop(key, None) is None:
            raise NotFound(f"object {key} does not exist in memory")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for key in sorted(self.contents):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(self.contents[key]))


class _MemoryWriter:
    def __init__(self, contents: dict[str, bytes], key: str) -> None:
        self._contents = contents
        self._key = key
        self._parts: list[bytes] = []

    def write(self, data: Bytes) -> None:
        self._parts.append(bytes(data))

    def finish(self) -> None:
        if self._key in self._contents:
            raise AlreadyExists(f"object {self._key} exists already; objects never change")
        self._contents[self._key] = b"".join(self._parts)

    def abort(self) -> None:
        self._parts.clear()


class FaultObjects:
    """Passes calls on to `inner`, and fails the `fail_at`-th (from 1) once: before it has an effect, or after.

    Counted: create, write, finish, read, read_range, exists, info, delete, list. `count` tells how many there were, so a test
    can run a scenario once to count, then once for each operation. `abort` never fails.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        fail_at: int = 0,
        after: bool = False,
        error: Callable[[], PaddockError] = lambda: Unavailable("injected fault"),
    ) -> None:
        self.inner = inner
        self.reading = inner.reading
        self.fail_at = fail_at
        self.after = after
        self.error = error
        self.count = 0
        self._lock = threading.Lock()

    def run(self, operation: Callable[[], Result]) -> Result:
        with self._lock:
            self.count += 1
            fails = self.count == self.fail_at
        if fails and not self.after:
            raise self.error()
        result = operation()
        if fails:
            raise self.error()
        return result

    def create(self, key: str) -> ObjectWriter:
        return _FaultWriter(self, self.run(lambda: self.inner.create(key)))

    def read(self, key: str) -> bytes:
        return self.run(lambda: self.inner.read(key))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.run(lambda: self.inner.read_range(key, offset, length))

    def exists(self, key: str) -> bool:
        return self.run(lambda: self.inner.exists(key))

    def info(self, key: str) -> ObjectInfo:
        return self.run(lambda: self.inner.info(key))

    def delete(self, key: str) -> None:
        self.run(lambda: self.inner.delete(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.run(lambda: self.inner.list(prefix))


class _FaultWriter:
    def __init__(self, faults: FaultObjects, inner: ObjectWriter) -> None:
        self._faults = faults
        self._inner = inner

    def write(self, data: Bytes) -> None:
        self._faults.run(lambda: self._inner.write(data))

    def finish(self) -> None:
        self._faults.run(self._inner.finish)

    def abort(self) -> None:
        self._inner.abort()


class MemoryIndex:
    """A chunk index in a dict, `locations`."""

    def __init__(self) -> None:
        self.locations: dict[Digest, Location] = {}
        self._lock = threading.Lock()

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        with self._lock:
            return {digest: self.locations[digest] for digest in digests if digest in self.locations}

    def known(self, digests: Sequence[Digest]) -> set[Digest]:
        return set(self.locate(digests))

    def epoch(self) -> str:
        return ""

    def register(self, packs: Sequence[PackRecord]) -> None:
        with self._lock:
            for pack in packs:
                for digest, location in pack.chunks:
                    self.locations.setdefault(digest, location)
