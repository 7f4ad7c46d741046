"""Objects in S3 and its compatibles, Google Cloud Storage, Azure or memory, through `obstore`.

Design: docs/design/011-object-stores.md. Only `object_urls` imports this module, when a URL asks for it: local homes must not
pay for loading obstore.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import IO, TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError, NotModifiedError, PreconditionError
from obstore.store import ObjectStore as Store

from paddock.model.dataclass import dataclass
from paddock.model.errors import AlreadyExists, Conflict, Corrupt, NotFound, Unavailable
from paddock.storage.network_errors import is_past_end, translate
from paddock.storage.objects import Bytes, ObjectInfo, ObjectWriter, Reading
from paddock.storage.os_errors import translate as translate_os

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

Result = TypeVar("Result")

_THEIRS = (BaseError, OSError, ValueError)
"""What obstore raises."""

SINGLE_BYTES_MAX = 8 << 20
"""Up to here an object is sent in one request, which creates it or fails; a larger one in parts of this size."""
PARTS_AT_ONCE = 4
_STREAM_BYTES = 1 << 20
_LIST_KEYS = 1000

REQUEST_RETRIES = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""obstore's own: a single request that met a 5xx, a refused connection or (if it only reads) a timeout."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often and how long an operation is tried that ends as Unavailable in spite of obstore's own retries.

    These are for what a request alone can't mend: a body that was cut off, an upload whose answer was lost.
    """

    attempts: int = 3
    total_seconds: float = 120.0
    """No attempt starts later than this after the first."""
    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    share: Callable[[], float] = random.random
    """Of the longest wait, 0 to 1: full jitter, so that many clients do not come back at once."""

    def run(self, operation: Callable[[], Result]) -> Result:
        """The result of the first attempt that is not Unavailable."""
        end = self.clock() + self.total_seconds
        for attempt in range(1, self.attempts + 1):
            try:
                return operation()
            except Unavailable:
                if attempt == self.attempts or self.clock() >= end:
                    raise
                longest = min(self.longest_seconds, self.first_seconds * 2**attempt)
                self.sleep(self.share() * longest)
        raise AssertionError("the last attempt returns or raises")


class NetworkObjects:
    """An `ObjectStore` over one of obstore's. Thread-safe; make it after a fork, never before one.

    Besides the protocol there is what copying to and from a bucket needs: `info`, `stream` and `replace`.
    """

    reading = Reading(gap_bytes=256 << 10, run_bytes=8 << 20, at_once=8)
    """A request costs some 20 ms to a bucket in the same region, in which 1 MiB or more would have come. Holds 64 MiB."""

    def __init__(self, store: Store, url: str, *, retrying: Retrying | None = None) -> None:
        self.url = url
        self._store = store
        self._retrying = Retrying() if retrying is None else retrying

    def create(self, key: str) -> ObjectWriter:
        """Nothing is sent before `finish`: up to 8 MiB are held in memory, more in a temporary file.

        `finish` may be tried again, by itself or by the caller: where the object is there already with just these bytes, an
        earlier try did the work, and it succeeds.
        """
        return _NetworkWriter(self, key)

    def read(self, key: str) -> bytes:
        return self._try("read", key, lambda: bytes(obstore.get(self._store, key).bytes()))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        return self._retrying.run(lambda: self._read_range(key, offset, length))

    def exists(self, key: str) -> bool:
        try:
            self.info(key)
        except NotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        # Stores delete what is not there without a word, so a repeated request does no harm, but says nothing either.
        self.info(key)
        self._try("delete", key, lambda: obstore.delete(self._store, key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """In the order of the keys. A listing that breaks off goes on after the last key that came."""
        last: str | None = None
        failures = 0
        while True:
            try:
                for page in obstore.list(self._store, prefix or None, offset=last, chunk_size=_LIST_KEYS):
                    for meta in page:
                        yield _info_of(meta["path"], meta)
                        last = meta["path"]
                    failures = 0
                return
            except _THEIRS as error:
                found = translate(error, "list", prefix, self.url)
                failures += 1
                if not isinstance(found, Unavailable) or failures >= self._retrying.attempts:
                    raise found from error

    def info(self, key: str) -> ObjectInfo:
        """Size and time of one object; one request. NotFound where it is not there."""
        meta = self._try("look at", key, lambda: obstore.head(self._store, key))
        return _info_of(key, meta)

    def stream(self, key: str) -> Iterator[bytes]:
        """The bytes of an object of any size, in pieces of about 1 MiB. A body that breaks off goes on where it ended.

        Should the object be replaced meanwhile, Conflict is raised: never is it a mixture of both.
        """
        position = 0
        failures = 0
        version: str | None = None
        while True:
            try:
                rest: GetOptions = {"range": {"offset": position}, "if_match": version} if position else {}
                found = obstore.get(self._store, key, options=rest)
                version = found.meta["e_tag"]
                for piece in found.stream(min_chunk_size=_STREAM_BYTES):
                    yield bytes(piece)
                    position += len(piece)
                    failures = 0
                if position >= found.meta["size"]:
                    return
                raise Unavailable(f"{self.url}/{key} broke off after {position} bytes")
            except (PreconditionError, NotModifiedError) as error:
                raise Conflict(f"object {key} in {self.url} was replaced while it was read; read it again") from error
            except (*_THEIRS, Unavailable) as error:
                problem = error if isinstance(error, Unavailable) else translate(error, "read", key, self.url)
                failures += 1
                if not isinstance(problem, Unavailable) or failures >= self._retrying.attempts:
                    raise problem from error

    def replace(self, key: str, pieces: Iterable[Bytes], *, part_bytes: int = SINGLE_BYTES_MAX) -> None:
        """Write an object of any size from a stream, in constant memory (4 parts); replaces what is there, as a whole.

        A store takes at most 10,000 parts. Single parts are tried again, the whole is not: after an error the old object
        (or none) is there; the parts that were sent stay in the store until its own rule for unfinished uploads removes them.
        What `pieces` raises is raised here, as it is.
        """
        source = _Watched(pieces)
        try:
            obstore.put(self._store, key, source, chunk_size=part_bytes, max_concurrency=PARTS_AT_ONCE)
        except Exception as error:
            if source.error is not None:
                raise source.error from None
            if isinstance(error, _THEIRS):
                raise translate(error, "write", key, self.url) from error
            raise

    def store(self, key: str, content: IO[bytes], size: int) -> None:
        """Write an object that must not exist, from a file that can be read more than once. See `create`."""
        self._retrying.run(lambda: self._store_once(key, content, size))

    def _store_once(self, key: str, content: IO[bytes], size: int) -> None:
        try:
            if size <= SINGLE_BYTES_MAX:
                content.seek(0)
                self._send_small(key, content.read())
            elif self.exists(key):
                raise AlreadyExists(f"object {key} exists already in {self.url}; objects never change")
            else:
                content.seek(0)
                # Keys are random, so the check above is for lost answers and mistakes, not for races.
                self.replace(key, iter(lambda: content.read(SINGLE_BYTES_MAX), b""))
        except AlreadyExists:
            if not self._holds(key, content, size):
                raise

    def _send_small(self, key: str, data: bytes) -> None:
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except _THEIRS as error:
            raise translate(error, "write", key, self.url) from error

    def _holds(self, key: str, content: IO[bytes], size: int) -> bool:
        """Whether the object has just these bytes: then an attempt whose answer was lost has written it."""
        if self.info(key).size != size:
            return False
        content.seek(0)
        return all(piece == content.read(len(piece)) for piece in self.stream(key))

    def _read_range(self, key: str, offset: int, length: int) -> bytes:
        try:
            data = bytes(obstore.get_range(self._store, key, start=offset, length=length))
        except _THEIRS as error:
            if not is_past_end(error):
                raise translate(error, "read", key, self.url) from error
            data = b""
        if len(data) == length:
            return data
        missing = offset + length - self.info(key).size
        if missing > 0:
            raise Corrupt(
                f"object {key} is {missing} bytes too short in {self.url}: it is torn; run fsck, or restore it from a copy"
            )
        raise Unavailable(f"object {key} in {self.url} came {length - len(data)} bytes short; try again")

    def _try(self, action: str, key: str, operation: Callable[[], Result]) -> Result:
        def attempt() -> Result:
            try:
                return operation()
            except _THEIRS as error:
                raise translate(error, action, key, self.url) from error

        return self._retrying.run(attempt)


def _info_of(key: str, meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or "")


class _NetworkWriter:
    def __init__(self, objects: NetworkObjects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._size = 0
        self._content: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SINGLE_BYTES_MAX)  # noqa: SIM115

    def write(self, data: Bytes) -> None:
        try:
            self._content.write(data)
        except OSError as error:
            raise translate_os(error, "write", tempfile.gettempdir()) from error
        self._size += len(data)

    def finish(self) -> None:
        try:
            self._content.flush()  # the last bytes may meet a full disk only now
        except OSError as error:
            raise translate_os(error, "write", tempfile.gettempdir()) from error
        self._objects.store(self._key, self._content, self._size)
        self._content.close()

    def abort(self) -> None:
        with suppress(OSError):  # of bytes that the disk does not take; the file is closed all the same
            self._content.close()


class _Watched:
    """Pieces on their way through obstore, which would not pass on what error they ended in."""

    def __init__(self, pieces: Iterable[Bytes]) -> None:
        self._pieces = iter(pieces)
        self.error: BaseException | None = None

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> Bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
