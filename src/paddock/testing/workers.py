"""A small engine for tests: real worker processes over a socket pair, on a real object store in a directory."""

from __future__ import annotations

import hashlib
import io
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from paddock.model.ids import CommitId, DatumId, DatumKey, Digest
from paddock.model.records import DatumState
from paddock.runtime.batch_results import BatchResult, read_batch_result, read_log
from paddock.runtime.protocol import (
    BatchReport,
    BatchTask,
    Claim,
    DatumTask,
    Down,
    Drain,
    FileTask,
    Heartbeat,
    InputTask,
    Message,
    Ready,
    TransformTask,
    decode,
    encode,
)
from paddock.storage.chunks import ChunkStore, DetachedWriter, file_chunks
from paddock.storage.objects import LocalObjects
from paddock.testing.objects import MemoryIndex

JOB = CommitId("0123456789ab4def8123456789abcdef")
REPLY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RanDatum:
    """All that a worker reported of one datum. files: bytes by path."""

    id: DatumId
    state: DatumState
    exit_code: int
    reason: str
    error_code: str
    tries: int
    seconds: float
    files: Mapping[str, bytes]
    executable: frozenset[str]
    log: bytes


@dataclass(slots=True)
class RanBatch:
    """A batch's reports, in the order in which they came, and its datums by position."""

    reports: list[BatchReport] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    datums: list[RanDatum] = field(default_factory=list)


class WorkerHarness:
    """One worker process and a store. A context manager: on leaving, the worker is killed if it still lives."""

    def __init__(
        self,
        folder: Path,
        *,
        sandbox: str = "auto",
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        """folder: empty; will hold the objects and the worker's scratch. prefix: a program that starts the worker.

        pass_fds: descriptors that it gets under the same numbers.
        """
        self.objects = LocalObjects(folder / "objects")
        self.index = MemoryIndex()
        self.chunks = ChunkStore(self.objects, self.index)
        self.scratch = folder / "scratch"
        self._leases = 0
        self._claims = 0
        self._lines = b""
        self._kept: deque[Message] = deque()
        """Messages that came while something else was waited for."""
        self.known: set[str] = set()
        """Ids of the transforms that the worker has been sent."""
        ours, theirs = socket.socketpair()
        command = [*prefix, sys.executable, "-P", "-m", "paddock.runtime.worker"]
        command += ["--socket-fd", str(theirs.fileno()), "--objects", str(folder / "objects")]
        command += ["--scratch", str(self.scratch), "--sandbox", sandbox, *options]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno(), *pass_fds], stderr=subprocess.PIPE)
        theirs.close()
        self._socket = ours
        self._socket.settimeout(REPLY_SECONDS)
        ready = self.receive()
        assert isinstance(ready, Ready), ready
        self.ready = ready

    def __enter__(self) -> WorkerHarness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> str:
        """Close the socket, wait for the worker to end; what it wrote to standard error."""
        self._socket.close()
        try:
            _, errors = self.process.communicate(timeout=REPLY_SECONDS)
        finally:
            self.process.kill()
        return errors.decode()

    @property
    def next_lease(self) -> str:
        """The lease that the next `start` will use."""
        return f"lease-{self._leases}"

    def store(self, content: bytes, path: str = "/file", *, executable: bool = False) -> FileTask:
        """Store a file, and name it as a batch would."""
        with DetachedWriter(self.objects) as writer:
            stored = writer.put_stream(io.BytesIO(content))
            self.index.register(writer.flush())
        digests = file_chunks(stored.size, stored.digest, stored.chunks)
        places = self.index.locate(digests)
        return FileTask(path, len(content), executable, tuple((digest, places[digest]) for digest in digests))

    def store_many(self, contents: Mapping[str, bytes]) -> tuple[FileTask, ...]:
        """Store small files by path, at the cost of one write."""
        with DetachedWriter(self.objects) as writer:
            digests = [writer.put(content) for content in contents.values()]
            self.index.register(writer.flush())
        places = self.index.locate(digests)
        rows = zip(contents.items(), digests, strict=True)
        return tuple(
            FileTask(path, len(content), False, ((digest, places[digest]),)) for (path, content), digest in rows
        )

    def datum(self, *inputs: InputTask) -> DatumTask:
        """A datum with an id and key made from its input paths."""
        name = hashlib.sha256(repr([(each.name, each.path) for each in inputs]).encode()).digest()
        return DatumTask(DatumId(name[:16].hex()), DatumKey(name), inputs)

    def file_datum(self, content: bytes, path: str = "/file", *, name: str = "in") -> DatumTask:
        """A datum of one file of an input called `name`."""
        return self.datum(input_of(name, path, self.store(content, path)))

    def send(self, message: Down) -> None:
        self._socket.sendall(encode(message))

    def start(self, transform: TransformTask, datums: Sequence[DatumTask], *, alone: bool = False) -> str:
        """Send a batch, and its transform if the worker does not know it; the lease."""
        if transform.id not in self.known:
            self.known.add(transform.id)
            self.send(transform)
        lease = self.next_lease
        self._leases += 1
        self.send(BatchTask(lease, JOB, JOB, transform.id, tuple(datums), alone=alone))
        return lease

    def run(self, transform: TransformTask, datums: Sequence[DatumTask]) -> RanBatch:
        """Run a batch to its last report, and datums that the kernel ended for want of memory again, as an engine has to."""
        batch = self.finish(self.start(transform, datums))
        for position in batch.reports[-1].starved:
            again = self.finish(self.start(transform, datums[position : position + 1], alone=True))
            batch.datums.insert(position, *again.datums)
        return batch

    def finish(self, lease: str) -> RanBatch:
        """Take messages until the last report of `lease`."""
        batch = RanBatch()
        while not batch.reports or not batch.reports[-1].final:
            message = self.receive()
            if isinstance(message, Heartbeat):
                batch.heartbeats.append(message)
            elif isinstance(message, BatchReport):
                assert message.lease == lease, message
                batch.reports.append(message)
                batch.datums += self._read(message)
        return batch

    def await_claim(self) -> None:
        """Wait until the worker asks for a batch beyond those that it was sent. What it says before that is kept for `finish`."""
        while self._claims <= self._leases:
            message = self._next_message()
            if not isinstance(message, Claim):
                self._kept.append(message)

    def await_reading(self) -> None:
        """Wait until the worker, which runs a datum, has read what it was sent: it looks before each heartbeat.

        Of the heartbeats that are sent from now on, the first may come from a look just before; the second does not.
        """
        while b"\n" in self._lines or select.select([self._socket], [], [], 0)[0]:
            self._kept.append(self._next_message())
        for _ in range(2):
            while not isinstance(message := self._next_message(), Heartbeat):
                self._kept.append(message)

    def drain(self) -> int:
        """Ask the worker to end in good order; its exit code."""
        self.send(Drain())
        return self.process.wait(REPLY_SECONDS)

    def receive(self) -> Message:
        """The next message of the worker; AssertionError with its standard error if it is gone."""
        return self._kept.popleft() if self._kept else self._next_message()

    def _next_message(self) -> Message:
        while b"\n" not in self._lines:
            data = self._socket.recv(1 << 18)
            if not data:
                raise AssertionError(f"the worker is gone: {self.close()}")
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        message = decode(line)
        if isinstance(message, Claim):
            self._claims += 1
        return message

    def _read(self, report: BatchReport) -> Iterator[RanDatum]:
        self.index.register(report.packs)
        if report.batch is None:
            return
        result = read_batch_result(self.chunks, report.batch)
        for brief in report.datums:
            yield self._read_datum(result, report.batch, brief.row)

    def _read_datum(self, result: BatchResult, batch: Digest, row: int) -> RanDatum:
        found = result.results.slice(row, 1).to_pylist()[0]
        rows = result.files.slice(found["files_first"], found["files_count"]).to_pylist()
        return RanDatum(
            id=DatumId(found["id"].hex()),
            state=(DatumState.SUCCESS, DatumState.RECOVERED, DatumState.FAILED)[found["state"]],
            exit_code=found["exit_code"],
            reason=found["reason"],
            error_code=found["error_code"],
            tries=found["tries"],
            seconds=found["seconds"],
            files={each["path"]: self._content(each) for each in rows},
            executable=frozenset(each["path"] for each in rows if each["executable"]),
            log=b"".join(read_log(self.chunks, batch, row)),
        )

    def _content(self, row: Mapping[str, object]) -> bytes:
        size, digest, chunks = row["size"], row["digest"], row["chunks"]
        assert isinstance(size, int)
        assert isinstance(digest, bytes)
        assert isinstance(chunks, list)
        return b"".join(self.chunks.read_file(size, Digest(digest), [Digest(chunk) for chunk in chunks]))


def input_of(name: str, path: str, *files: FileTask, empty_files: bool = False) -> InputTask:
    """An element of a datum that matched `path`, and holds these files."""
    return InputTask(
        name=name,
        path=path,
        repo=f"default/{name}",
        branch="main",
        commit=JOB,
        join_on="",
        group_by="",
        empty_files=empty_files,
        files=files,
    )


def shell(script: str, **fields: Any) -> TransformTask:
    """A transform that runs a shell script; other fields of TransformTask by name."""
    identity = hashlib.sha256(repr((script, sorted(fields.items()))).encode()).hexdigest()[:16]
    cmd = ("/bin/sh", "-c", script)
    return TransformTask(id=identity, project="default", pipeline="test", cmd=cmd, **fields)


def processes_with(marker: str) -> list[int]:
    """Ids of the processes that have `marker` in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in text:
                found.append(int(folder.name))
    return found
