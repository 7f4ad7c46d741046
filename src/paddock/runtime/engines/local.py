"""The local engine: workers are processes on this machine, each at one end of a socket pair."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import IO, Any

from paddock.model.dataclass import dataclass
from paddock.model.errors import Unavailable
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.engine import OWN_PLACE, Place, WorkerEvent, WorkerGone, WorkerId, WorkerMessage
from paddock.runtime.image_commands import Image
from paddock.runtime.process_memory import oom_kills, remove_groups
from paddock.runtime.protocol import Down, Up, decode, encode
from paddock.storage.chunking import ChunkingParameters

READ_BYTES = 1 << 18
LINE_BYTES_MAX = 256 << 20
"""A report has some 100 bytes for each datum and chunk of two seconds' work: a few MiB at most."""
STDERR_TAIL_BYTES = 2000
STOP_GRACE_SECONDS = 10.0
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a guardian ends that was killed, or whose slot was."""


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """Commands run in a container beside this one. connection: to its runner; it ends with the last process that has it.

    pfs: what user code there knows by the same path. shared: another folder of both, for scratch.
    """

    connection: socket.socket
    pfs: Path
    shared: Path


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """sandbox: `auto` (namespaces where the system allows them), `namespaces` or `directory`. grace_seconds: from SIGTERM
    to SIGKILL for a datum that must end. memory_bytes, gpus: what datums may ask for, in place of what the machine has."""

    sandbox: str = "auto"
    grace_seconds: float = 5.0
    memory_bytes: int | None = None
    gpus: tuple[str, ...] | None = None
    runner: RunnerOptions | None = None
    """Where commands run in a container; then there is one worker at most."""
    kept_bytes: int = 0
    """Of what workers write, how much they keep here too, because the store is far away."""
    image: Image | None = None
    """In which commands run, each in a container of its own."""

    def words(self) -> list[str]:
        """For the worker's command line."""
        words = ["--sandbox", self.sandbox, "--grace-seconds", str(self.grace_seconds)]
        if self.runner is not None:
            words += ["--runner-fd", str(self.runner.connection.fileno())]
            words += ["--pfs", str(self.runner.pfs), "--shared", str(self.runner.shared)]
        if self.image is not None:
            words += self.image.words()
        return words


@dataclass(slots=True)
class _Process:
    id: WorkerId
    popen: subprocess.Popen[bytes]
    channel: socket.socket
    stderr: IO[bytes]
    scratch: Path
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)


class LocalEngine:
    """Worker processes of one pool. They die with this process: each sees its socket close, and the kernel signals them."""

    def __init__(
        self,
        *,
        objects: str,
        scratch: Path,
        chunking: ChunkingParameters,
        options: WorkerOptions,
        token_file: Path | None = None,
        servers_file: Path | None = None,
    ) -> None:
        """objects: where packs are (a folder, or a URL; of a server's objects with the token that it asks for). scratch: a directory
        for what workers leave behind. servers_file: the same objects at other servers, a URL a line; looked at when one is gone.
        """
        self._objects = objects
        self._servers_file = servers_file
        self._token_file = token_file
        self._chunking = f"{chunking.min_bytes},{chunking.average_bytes},{chunking.max_bytes}"
        self._options = options
        scratch.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(scratch)
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=scratch))
        self._selector = selectors.DefaultSelector()
        self._processes: dict[WorkerId, _Process] = {}
        self._next = 0
        self._kills = oom_kills()
        kept = ["--kept", str(self._scratch / "kept"), "--kept-bytes", str(options.kept_bytes)]
        self._keeping = kept if options.kept_bytes else []

    def scale(self, workers: int) -> None:
        while len(self._processes) < workers:
            self._start()

    def workers(self) -> Sequence[WorkerId]:
        return tuple(self._processes)

    def place(self, worker: WorkerId) -> Place:
        return OWN_PLACE

    def machines(self) -> Mapping[Place, Capacity]:
        return {}

    def send(self, worker: WorkerId, message: Down) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        process.outgoing += encode(message)
        self._flush(process)

    def flush(self) -> None:
        pass  # it goes out at once

    def kill(self, worker: WorkerId) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.popen.kill()

    def fileno(self) -> int:
        """Readable when `poll` has something."""
        return self._selector.fileno()

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        events: list[WorkerEvent] = []
        for key, mask in self._selector.select(timeout_seconds):
            process: _Process = key.data
            if mask & selectors.EVENT_WRITE:
                self._flush(process)
            if mask & selectors.EVENT_READ:
                self._receive(process, events)
        return events

    def stop(self) -> None:
        for process in self._processes.values():
            process.channel.close()
        for process in self._processes.values():
            try:
                process.popen.wait(STOP_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            process.stderr.close()
        self._processes.clear()
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        _remove_tree(self._scratch)

    def _start(self) -> None:
        worker = WorkerId(self._next)
        self._next += 1
        runner = self._options.runner
        ours, theirs = socket.socketpair()
        scratch = self._scratch / str(worker)
        scratch.mkdir(parents=True)
        stderr = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 (closed with the worker)
        command = [
            sys.executable, "-P", "-m", "paddock.runtime.worker",
            "--socket-fd", str(theirs.fileno()),
            "--objects", self._objects,
            "--scratch", str(scratch),
            *self._keeping,
            "--chunking", self._chunking,
            *self._options.words(),
            *(("--token-file", str(self._token_file)) if self._token_file is not None else ()),
            *(("--servers-file", str(self._servers_file)) if self._servers_file is not None else ()),
        ]  # fmt: skip
        try:
            popen = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno(), *([] if runner is None else [runner.connection.fileno()])],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unavailable(
                f"can't start a worker process: {error.strerror}; free some memory or processes and run again"
            ) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        process = _Process(worker, popen, ours, stderr, scratch)
        self._processes[worker] = process
        self._selector.register(ours, selectors.EVENT_READ, process)

    def _flush(self, process: _Process) -> None:
        try:
            while process.outgoing:
                sent = process.channel.send(process.outgoing)
                del process.outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            process.outgoing.clear()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.outgoing else 0)
        self._selector.modify(process.channel, wanted, process)

    def _receive(self, process: _Process, events: list[WorkerEvent]) -> None:
        try:
            data = process.channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            events.append(self._bury(process))
            return
        process.incoming += data
        if b"\n" not in data:
            if len(process.incoming) > LINE_BYTES_MAX:
                # No report is so long. The end of what it says comes when it is dead.
                process.incoming.clear()
                process.popen.kill()
            return
        *lines, rest = process.incoming.split(b"\n")
        process.incoming = bytearray(rest)
        for line in lines:
            message = decode(bytes(line))
            assert isinstance(message, Up), "workers send only messages that go up"
            events.append(WorkerMessage(process.id, message))

    def _bury(self, process: _Process) -> WorkerGone:
        self._selector.unregister(process.channel)
        process.channel.close()
        process.popen.kill()
        code = process.popen.wait()
        del self._processes[process.id]
        process.stderr.seek(0, os.SEEK_END)
        process.stderr.seek(max(0, process.stderr.tell() - STDERR_TAIL_BYTES))
        tail = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        _remove_tree(process.scratch)
        remove_groups([str(process.popen.pid)])
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        kills = oom_kills()
        starved, self._kills = code in _KILLED and kills > self._kills, kills
        how += " (it seems that the kernel ended it for want of memory)" if starved else ""
        reason = f"worker process {process.popen.pid} {how}" + (f": {tail}" if tail else "")
        return WorkerGone(process.id, reason, starved)


def _remove_tree(folder: Path) -> None:
    """Remove scratch files, whatever modes user code left on them."""

    def retry(function: Any, path: str, _error: object) -> None:
        try:
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=retry)


def _remove_leftovers(scratch: Path) -> None:
    """Remove the scratch folders of engines whose process is gone (killed before it could clean up)."""
    for folder in scratch.iterdir():
        owner = folder.name.partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove_tree(folder)
