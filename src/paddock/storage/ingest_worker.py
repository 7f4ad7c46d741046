"""A helper process that reads small files: `python -m paddock.storage.ingest_worker`, driven over a pair of pipes.

Frames both ways are a length (u32, little-endian), a letter and a payload. The driver sends, after a first frame `O`
with the root of the objects, either `B` (paths joined by NUL), answered by `R` (a RECORD for each file), then `U` (one byte for each
file, 1: store it), unanswered; or `F`, answered by one `P` for each pack that is durable (PACK, then its index), and `D`. A
pack that fills up is reported at once, before the next `R`. An error ends the process with an `E` (error code, newline, message).
At the end of its input it forgets what was not finished.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path
from typing import IO

from blake3 import blake3

from paddock.model.errors import PaddockError
from paddock.model.ids import Digest
from paddock.model.records import PackRecord
from paddock.storage.file_reading import Changed, Grown, read_small
from paddock.storage.objects import LocalObjects
from paddock.storage.pack_sink import PackSink
from paddock.storage.packs import encode_index

FRAME = struct.Struct("<Ic")
RECORD = struct.Struct("<32sqqqQBBi")
"""digest, size, mtime_ns, ctime_ns, inode, executable, status, errno."""
PACK = struct.Struct("<32sQ")
"""Pack id, bytes."""

OK, CHANGED, GROWN, FAILED = range(4)
"""Statuses: read; changed while it was read; too large to be read here; an OS error, whose number is in errno."""

PACK_BYTES = 16 << 20
"""Smaller than usual: a pack's rows enter the index while the next pack is filled."""

EMPTY = Digest(blake3(b"").digest())


def send(stream: IO[bytes], letter: bytes, payload: bytes = b"") -> None:
    stream.write(FRAME.pack(len(payload), letter) + payload)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
    """The next frame as (letter, payload). EOFError at the end."""
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        raise EOFError
    length, letter = FRAME.unpack(head)
    payload = stream.read(length)
    if len(payload) < length:
        raise EOFError
    return letter, payload


class Helper:
    """One helper's state: the pack being filled, and the files read but not yet asked for."""

    def __init__(self, source: IO[bytes], target: IO[bytes], sink: PackSink) -> None:
        self._source = source
        self._target = target
        self._sink = sink

    def run(self) -> None:
        while True:
            letter, payload = receive(self._source)
            if letter == b"B":
                self._batch(payload)
            elif letter == b"F":
                for pack in self._sink.finish():
                    self._report(pack)
                send(self._target, b"D")

    def _batch(self, payload: bytes) -> None:
        contents: list[bytes] = []
        digests: list[Digest] = []
        records: list[bytes] = []
        for path in payload.split(b"\0"):
            data, digest, record = read_record(path)
            contents.append(data)
            digests.append(digest)
            records.append(record)
        for pack in self._sink.take_finished():
            self._report(pack)
        send(self._target, b"R", b"".join(records))
        _, wanted = receive(self._source)
        for index, flag in enumerate(wanted):
            if flag:
                self._sink.add(digests[index], contents[index])

    def _report(self, pack: PackRecord) -> None:
        send(self._target, b"P", PACK.pack(pack.pack.encode(), pack.bytes) + encode_index(pack))


def read_record(path: bytes) -> tuple[bytes, Digest, bytes]:
    """A file's bytes, digest and RECORD; where it can't be read, empty bytes and the reason in the record."""
    try:
        data, stamp = read_small(path)
    except Changed:
        return b"", EMPTY, RECORD.pack(EMPTY, 0, 0, 0, 0, 0, CHANGED, 0)
    except Grown:
        return b"", EMPTY, RECORD.pack(EMPTY, 0, 0, 0, 0, 0, GROWN, 0)
    except OSError as error:
        return b"", EMPTY, RECORD.pack(EMPTY, 0, 0, 0, 0, 0, FAILED, error.errno or 0)
    digest = Digest(blake3(data).digest())
    record = RECORD.pack(digest, stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode, stamp.executable, OK, 0)
    return data, digest, record


def main() -> None:
    # Ctrl-C reaches the whole process group; the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    source, target = os.fdopen(0, "rb"), os.fdopen(1, "wb")
    try:
        _, root = receive(source)
    except EOFError:
        return
    sink = PackSink(LocalObjects(Path(os.fsdecode(root))), pack_bytes=PACK_BYTES)
    try:
        Helper(source, target, sink).run()
    except (EOFError, BrokenPipeError):
        pass
    except PaddockError as error:
        send(target, b"E", f"{error.code}\n{error.message}".encode())
    finally:
        sink.abort()


if __name__ == "__main__":
    main()
