"""The worker: a process that runs user code on datums and stores what it makes.

    python -m paddock.runtime.worker --socket-fd N --objects ROOT --scratch DIR
        [--sandbox auto|namespaces|directory] [--chunking MIN,AVERAGE,MAX]
        [--grace-seconds S] [--report-seconds S] [--heartbeat-seconds S] [--silence-seconds S]
        [--runner-fd N --pfs DIR --shared DIR] [--image NAME --image-program PATH [--image-option WORD]…]

Started by an engine, with one end of a socket pair (see `protocol`). DIR is this worker's own and empty. It
imports neither pyarrow nor SQL, so that it starts in well under 100 ms.

Up to three processes: the *guardian* (which the engine started, and may kill) waits; the *slot* does the
work; between them, with namespaces, the *keeper*, whose only purpose is to have entered them: its child is
process 1 of the PID namespace. Each dies with the one before it, and all user processes die with the slot: by
the kernel in a namespace, by the hand of slot or guardian without. With a connection to a runner (N) there are no user processes here: they run in a
container beside this one, which has the first DIR as its `/pfs` and the other for scratch, and are ended by the runner when the connection is taken over or ends.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import NoReturn

from paddock.model.dataclass import dataclass
from paddock.model.errors import Bug, PaddockError
from paddock.model.ids import Digest
from paddock.model.records import DatumState, Location
from paddock.runtime import sandbox
from paddock.runtime.commands import Commands, LocalCommands, end_descendants
from paddock.runtime.datum_runner import DatumRunner, ReportLostError, Slot, Starved, Transform, prepare_transform
from paddock.runtime.image_commands import Image, ImageCommands
from paddock.runtime.laps import OTHER, REPORT, Laps
from paddock.runtime.live_logs import FOLDER as LIVE_FOLDER
from paddock.runtime.live_logs import LIVE_SECONDS, LiveLog
from paddock.runtime.materialize import OUT_FOLDER, remove_tree
from paddock.runtime.process import ProcessRunner
from paddock.runtime.process_memory import remove_groups
from paddock.runtime.protocol import (
    BatchReport,
    BatchTask,
    Cancel,
    Claim,
    DatumResult,
    Drain,
    Heartbeat,
    Ready,
    Rest,
    Stop,
    TransformTask,
    Trim,
)
from paddock.runtime.read_ahead import ReadAhead
from paddock.runtime.report_writer import ReportWriter
from paddock.runtime.runner_commands import RunnerCommands
from paddock.runtime.runner_link import RunnerGoneError
from paddock.runtime.warm_process import SILENCE_SECONDS, WarmProcess
from paddock.runtime.worker_channel import Channel, EngineGoneError
from paddock.storage.chunks import CHUNKING, ChunkingParameters
from paddock.storage.kept_objects import KeptObjects
from paddock.storage.object_urls import is_url, open_place
from paddock.storage.objects import ObjectStore
from paddock.storage.packs import pack_key

REPORT_SECONDS = 2.0
"""A batch that runs longer is reported in parts, so that a crash loses little."""
REPORT_BYTES_MAX = 256 << 20
HEARTBEAT_SECONDS = 1.0
GRACE_SECONDS = 5.0
GC_OBJECTS = 50_000
_SANDBOXES = ("auto", "namespaces", "directory")
_REFUSED = 3
_SERVER = ("http://", "https://")
_CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Options:
    socket_fd: int
    objects: str
    """Where packs are: a folder's whole path, or the URL of a store or of a server."""
    token_file: Path | None
    servers_file: Path | None
    """The same objects at other servers, a URL a line."""
    kept: Path | None
    """Where the machine keeps what it has written to a store far away; `kept_bytes` at most."""
    kept_bytes: int
    scratch: Path
    sandbox: str
    chunking: ChunkingParameters
    grace_seconds: float
    report_seconds: float
    heartbeat_seconds: float
    silence_seconds: float
    runner_fd: int | None
    pfs: Path
    """Of the container; with `shared`, a folder that it has under the same path."""
    shared: Path
    image: Image | None
    """In which commands run; None: in this machine's own file system."""


class Worker:
    """The slot's loop: claim, run, report. Its `look` and `beat` are what a running command is interrupted for."""

    def __init__(
        self,
        channel: Channel,
        objects: ObjectStore,
        slot: Slot,
        commands: Commands,
        options: Options,
        permits: dict[str, str],
    ) -> None:
        """permits: what the batch at work has given, by the keys of packs; `objects` shows it."""
        self._permits = permits
        self._channel = channel
        self._objects = objects
        self._slot = slot
        self._commands = commands
        self._options = options
        processes = ProcessRunner(
            self, commands, grace_seconds=options.grace_seconds, beat_seconds=options.heartbeat_seconds
        )
        self._chunks = ReadAhead(objects)
        warm = WarmProcess(
            self,
            commands,
            grace_seconds=options.grace_seconds,
            beat_seconds=options.heartbeat_seconds,
            silence_seconds=options.silence_seconds,
        )
        self._live = LiveLog(options.scratch)
        self._laps = Laps()
        self._datums = DatumRunner(
            slot,
            commands,
            processes,
            warm,
            self._chunks.read,
            laps=self._laps,
            tick=self.beat,
            interrupted=lambda: self._interrupted,
        )
        self._tasks: dict[str, TransformTask] = {}
        self._transforms: dict[str, Transform] = {}
        self._batches: deque[BatchTask] = deque()
        self._cancelled: set[str] = set()
        self._keep: dict[str, int] = {}
        self._draining = False
        self._interrupted = False
        self._resting = False
        self._claimed = False
        self._running: _Running | None = None
        self._next_beat = 0.0

    @property
    def poll_fd(self) -> int:
        return self._channel.fileno()

    def run(self) -> None:
        """Work until told to drain or stop. EngineGoneError when the engine has gone or says stop."""
        while not (self._draining and not self._batches):
            if not self._batches:
                if self._resting:
                    self._datums.end_warm()
                    self._resting = False
                self._claim()
                if not self._channel.received:
                    # Sending a long report takes messages in, perhaps the very batch that would be waited for.
                    if self._channel.wait(self._commands.fd) and self._datums.idle_container_has_ended():
                        return
                    self._laps.skip()
                self._take_messages()
                continue
            self._resting = False
            batch = self._batches.popleft()
            self._run_batch(batch)
            self._cancelled.discard(batch.lease)
            self._keep.pop(batch.lease, None)
        self._datums.end_warm()

    def interrupt(self) -> None:
        """Drain, because something ends all processes here (a batch system, say), and most likely the command at work too.

        May be called in a signal handler. A command that fails from now on may have been ended by the same hand, so its datum is
        given back like those that were not begun.
        """
        self._interrupted = True
        self._drain()

    def look(self) -> bool:
        """Take in messages; whether the batch at work is cancelled."""
        self._channel.read()
        self._take_messages()
        return self._running is not None and self._running.batch.lease in self._cancelled

    def beat(self) -> bool:
        """About once a second: a heartbeat, and a look at the messages (which notices that the engine is gone)."""
        now = time.monotonic()
        running = self._running
        if running is not None and (self._live.open or now - running.since >= LIVE_SECONDS):
            name = (running.batch.job, running.batch.transform, running.datum)
            self._live.flush(self._datums.log, name, now - running.since)
        if now < self._next_beat:
            return False
        self._next_beat = now + self._options.heartbeat_seconds
        cancelled = self.look()
        if running is not None:
            self._channel.send(
                Heartbeat(running.batch.lease, running.done, running.failed, running.datum, now - running.since)
            )
        return cancelled

    def _claim(self) -> None:
        if not self._claimed and not self._draining:
            self._claimed = True
            self._channel.send(Claim())

    def _take_messages(self) -> None:
        while self._channel.received:
            message = self._channel.received.popleft()
            match message:
                case TransformTask():
                    self._tasks[message.id] = message
                case BatchTask():
                    self._batches.append(message)
                    self._claimed = False
                    if self._draining:
                        self._keep[message.lease] = 0
                case Trim():
                    self._keep[message.lease] = min(message.keep, self._keep.get(message.lease, message.keep))
                case Cancel():
                    self._cancelled.add(message.lease)
                case Rest():
                    self._resting = True
                case Drain():
                    self._drain()
                case Stop():
                    raise EngineGoneError("the engine says stop")
                case _:
                    raise Bug(f"a worker can't be sent a {type(message).__name__}; engine and worker differ")

    def _drain(self) -> None:
        """Begin no more datums: what is left of the batches goes back with their last reports."""
        self._draining = True
        self._keep.update({batch.lease: 0 for batch in self._batches})
        if self._running is not None:
            lease, begun = self._running.batch.lease, self._running.done + 1
            self._keep[lease] = min(begun, self._keep.get(lease, begun))

    def _leave(self, batch: BatchTask, position: int) -> None:
        """Nothing can be run here any more: what is left of all batches goes back, and this worker ends."""
        self._drain()
        self._keep[batch.lease] = position

    def _run_batch(self, batch: BatchTask) -> None:
        self._laps.take()
        transform = self._transform(batch)
        if isinstance(transform, PaddockError):
            self._report_loss(batch, transform)
            return
        known = {
            digest: at
            for datum in batch.datums
            for each in datum.inputs
            for file in each.files
            for digest, at in file.chunks
        }
        self._permits.clear()
        self._permits.update((pack_key(pack), text) for pack, text in batch.permits)
        self._chunks.expect(batch.datums)
        running = self._running = _Running(batch, time.monotonic())
        self._next_beat = running.since + self._options.heartbeat_seconds
        position = 0
        try:
            while position < self._end(batch) and not self.look():
                position = self._run_part(running, transform, known, position)
            if running.ended:
                return
            self._claim()
            cancelled = batch.lease in self._cancelled
            starved = tuple(running.starved)
            self._channel.send(
                BatchReport(
                    batch.lease, final=True, batch=None, datums=(), packs=(), cancelled=cancelled, starved=starved
                )
            )
        except ReportLostError as lost:
            self._report_loss(batch, lost.cause)
        except PaddockError as error:
            self._report_loss(batch, error)
        finally:
            self._running = None

    def _run_part(self, running: _Running, transform: Transform, known: dict[Digest, Location], position: int) -> int:
        """Run datums from `position` on, for about REPORT_SECONDS, and report them; returns the position after them."""
        batch = running.batch
        begin = time.monotonic()
        results: list[DatumResult] = []
        report = ReportWriter(self._objects, known, chunking=self._options.chunking)
        self._laps.lap(OTHER)
        try:

            def end() -> int:
                """Where to stop for now; asked before each step."""
                if self._datums.lost:
                    self._leave(batch, position)
                late = time.monotonic() - begin > max(self._options.report_seconds, batch.report_seconds)
                full = report.output_bytes > REPORT_BYTES_MAX
                if batch.lease in self._cancelled or (results and (late or full)):
                    return position
                if position < len(batch.datums):
                    running.datum, running.since = batch.datums[position].id, time.monotonic()
                return self._end(batch)

            for outcome in self._datums.run_from(batch, position, transform, report.writer, end=end):
                if self._datums.lost and self._draining:
                    # The container was told to end, as this worker was: that says nothing of the datum, which goes back.
                    break
                if isinstance(outcome, Starved):
                    running.starved.append(position)
                    position += 1
                    self.beat()
                    continue
                row = report.add(outcome)
                results.append(
                    DatumResult(
                        position,
                        row,
                        outcome.state,
                        outcome.seconds,
                        outcome.reason,
                        outcome.error_code,
                    )
                )
                position += 1
                running.done += 1
                running.failed += outcome.state is DatumState.FAILED
                self.beat()
            if self._datums.lost:
                self._leave(batch, position)
            if self._interrupted:
                self._keep[batch.lease] = min(position, self._end(batch))
            self._finish_part(running, report, results, final=position >= self._end(batch))
        finally:
            report.abort()
        return position

    def _finish_part(self, running: _Running, report: ReportWriter, results: list[DatumResult], *, final: bool) -> None:
        batch = running.batch
        if final:
            # Before the flush, so that the next batch is on its way while the disk is busy.
            self._claim()
        if not results:
            return
        running.ended = final
        digest, packs = report.finish(batch.job, batch.transform)
        self._laps.lap(REPORT)
        self._channel.send(
            BatchReport(
                lease=batch.lease,
                final=final,
                batch=digest,
                datums=tuple(results),
                packs=packs,
                output_files=report.output_files,
                output_bytes=report.output_bytes,
                starved=tuple(running.starved) if final else (),
                spent=self._laps.take(),
            )
        )
        self._live.forget()

    def _end(self, batch: BatchTask) -> int:
        """The position before which the batch ends, unless the engine has trimmed it since."""
        return min(len(batch.datums), self._keep.get(batch.lease, len(batch.datums)))

    def _report_loss(self, batch: BatchTask, error: PaddockError) -> None:
        self._claim()
        self._channel.send(
            BatchReport(
                batch.lease,
                final=True,
                batch=None,
                datums=(),
                packs=(),
                error_code=error.code,
                error=str(error),
            )
        )

    def _transform(self, batch: BatchTask) -> Transform | PaddockError:
        ready = self._transforms.get(batch.transform)
        if ready is not None:
            return ready
        task = self._tasks.get(batch.transform)
        if task is None:
            return Bug(f"batch {batch.lease} names transform {batch.transform}, which this worker was never sent")
        try:
            ready = self._transforms[batch.transform] = prepare_transform(task, self._slot, self._commands)
        except PaddockError as error:
            return error
        return ready


@dataclass(slots=True)
class _Running:
    """The batch at work, as heartbeats tell of it."""

    batch: BatchTask
    since: float
    ended: bool = False
    """Its final report was sent."""
    datum: str = ""
    done: int = 0
    failed: int = 0
    starved: list[int] = field(default_factory=list)
    """Positions of datums that are to run alone."""


def main(words: Sequence[str] | None = None) -> int:
    """Be a worker until the engine ends it. Exit code 0 after drain, stop and the engine's end; 1 on a
    fault, told on stderr.
    """
    options = _parse(words)
    # Ctrl-C reaches the whole foreground group, and SIGTERM all that a batch system or service manager has started; ending in good
    # order is the engine's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.set_inheritable(options.socket_fd, False)
    (options.scratch / "root").mkdir(parents=True, exist_ok=True)
    (options.scratch / "pfs" / OUT_FOLDER).mkdir(parents=True, exist_ok=True)
    reason = ""
    if options.sandbox != "directory" and options.runner_fd is None:
        refusal = _run_slot(options, isolated=True, reason="")
        if isinstance(refusal, int):
            return refusal
        if options.sandbox == "namespaces":
            sys.stderr.write(f"paddock worker: {refusal}; use another machine, or sandbox 'directory' or 'auto'\n")
            return 1
        reason = refusal
    code = _run_slot(options, isolated=False, reason=reason)
    return code if isinstance(code, int) else 1


def _run_slot(options: Options, *, isolated: bool, reason: str) -> int | str:
    """Start the slot and wait for its end: its exit code, or why the system refused it its namespaces."""
    guardian = os.getpid()
    told, tell = os.pipe()
    if not isolated:
        sandbox.adopt_orphans()
    child = os.fork()
    if child == 0:
        os.close(told)
        _child(options, guardian, tell, isolated=isolated, reason=reason)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        refusal = pipe.read().decode()
    if refusal:
        os.waitpid(child, 0)
        return refusal
    os.close(options.socket_fd)
    code = _exit_code(os.waitpid(child, 0)[1])
    if not isolated:
        end_descendants(owns_namespace=False)
    for name in ("pfs", "root", "memory", "tmp", LIVE_FOLDER):
        remove_tree(str(options.scratch / name))
    remove_groups([str(guardian)])
    return code


def _child(options: Options, guardian: int, tell: int, *, isolated: bool, reason: str) -> NoReturn:
    """The first child of the guardian: the keeper with namespaces, the slot without. Never returns."""
    code = 1
    try:
        if isolated:
            sandbox.die_with_parent(signal.SIGKILL)
            code = _keep(options, guardian, tell)
        else:
            # Two slots can't share a runner, so one whose guardian is gone goes at once.
            sandbox.die_with_parent(signal.SIGTERM if options.runner_fd is None else signal.SIGKILL)
            sandbox.adopt_orphans()
            os.close(tell)
            code = _work(options, guardian, isolated=False, memory=False, reason=reason)
    except BaseException:  # noqa: BLE001 - a forked process may not run on into its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _keep(options: Options, guardian: int, tell: int) -> int:
    """Enter the namespaces, fork the slot as process 1, wait for its end."""
    try:
        folders = [options.scratch] if _is_remote(options.objects) else [options.scratch, Path(options.objects)]
        for path in folders:
            if path.is_relative_to(sandbox.PFS):
                raise sandbox.SandboxError(f"{path} lies below {sandbox.PFS}, which the private root hides")
        sandbox.enter_namespaces()
    except sandbox.SandboxError as refusal:
        os.write(tell, str(refusal).encode())
        return _REFUSED
    slot = os.fork()
    if slot == 0:
        sandbox.die_with_parent(signal.SIGKILL)
        try:
            made = sandbox.enter_private_root(options.scratch)
        except sandbox.SandboxError as refusal:
            os.write(tell, str(refusal).encode())
            return _REFUSED
        os.close(tell)
        left_out = f"not shown to user code: {', '.join(made.left_out)}" if made.left_out else ""
        return _work(options, guardian, isolated=True, memory=made.memory, reason=left_out)
    os.close(tell)
    os.close(options.socket_fd)
    return _exit_code(os.waitpid(slot, 0)[1])


def _work(options: Options, guardian: int, *, isolated: bool, memory: bool, reason: str) -> int:
    """Be the slot."""
    commands: LocalCommands | RunnerCommands
    if options.runner_fd is not None:
        try:
            commands = RunnerCommands(_runner_connection(options.runner_fd), options.pfs, options.shared)
        except RunnerGoneError as gone:
            sys.stderr.write(f"{gone}: the container of the commands has ended\n")
            return 1
        except PaddockError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        slot = _container_slot(options, isolated=commands.protected)
        _remove_leftovers(slot, commands)
    else:
        # A container sees what is mounted when it starts, so nothing may be mounted over that later.
        slot = _local_slot(options, guardian, isolated=isolated, memory=memory and options.image is None)
        commands = _local_commands(options, slot)
    # A batch is some 10,000 objects without a cycle among them, which the collector would look at again and again.
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    channel = Channel(socket.socket(fileno=options.socket_fd))
    try:
        permits: dict[str, str] = {}
        worker = Worker(channel, _open_objects(options, permits), slot, commands, options, permits)
        parent = os.getppid() if isolated else guardian
        signal.signal(signal.SIGTERM, partial(_terminate, worker, parent))
        if os.getppid() != parent:
            raise _EndedError
        channel.send(Ready(guardian, _sandbox_name(options, isolated=isolated), reason))
        worker.run()
    except (EngineGoneError, _EndedError):
        pass
    finally:
        end_descendants(owns_namespace=isolated)
    return 0


def _local_commands(options: Options, slot: Slot) -> LocalCommands:
    if options.image is None:
        return LocalCommands(owns_namespace=slot.isolated)
    return ImageCommands(options.image, pfs=slot.pfs, scratch=str(slot.scratch), owns_namespace=slot.isolated)


def _sandbox_name(options: Options, *, isolated: bool) -> str:
    if options.runner_fd is not None:
        return _CONTAINER
    return "namespaces" if isolated else "directory"


def _local_slot(options: Options, guardian: int, *, isolated: bool, memory: bool) -> Slot:
    host_pfs = str(options.scratch / "pfs")
    name = options.scratch.name
    return Slot(
        options.scratch,
        host_pfs,
        sandbox.PFS if isolated else host_pfs,
        isolated,
        memory,
        number=int(name) if name.isdigit() else 0,
        group_name=str(guardian),
    )


def _container_slot(options: Options, *, isolated: bool) -> Slot:
    """What this process writes, commands have to read, which are another user."""
    os.umask(0o022)
    pfs = str(options.pfs)
    return Slot(options.scratch, pfs, pfs, isolated, shared=options.shared)


def _remove_leftovers(slot: Slot, commands: RunnerCommands) -> None:
    """What a worker that was killed had laid out, and its command had written: this one finds the folders as if they were new."""
    commands.settle_out()
    commands.settle_scratch()
    for left in [*Path(slot.host_pfs).iterdir(), *Path(slot.out).iterdir(), slot.temporary]:
        if str(left) != slot.out:
            remove_tree(str(left))


def _runner_connection(fd: int) -> socket.socket:
    """The guardian's connection, which lasts longer than this slot."""
    connection = socket.socket(fileno=fd)
    connection.set_inheritable(False)
    return connection


def _open_objects(options: Options, permits: Mapping[str, str]) -> ObjectStore:
    """The store itself, or a server that gives access to it; before it, what the machine keeps."""
    objects: ObjectStore
    if options.objects.startswith(_SERVER):
        from paddock.storage.server_objects import ServerObjects

        token = options.token_file.read_text(encoding="ascii").strip() if options.token_file else ""
        objects = ServerObjects(
            options.objects,
            token,
            permits=permits,
            elsewhere=partial(_lines, options.servers_file),
            scratch=str(options.scratch),
        )
    else:
        objects = open_place(options.objects)
    return objects if options.kept is None else KeptObjects(objects, options.kept, bytes_max=options.kept_bytes)


def _lines(file: Path | None) -> Sequence[str]:
    try:
        return () if file is None else file.read_text(encoding="utf-8").split()
    except OSError:
        return ()


def _exit_code(status: int) -> int:
    """As a shell says it: 128 + N for a process that signal N ended."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class _EndedError(Exception):
    """The guardian is gone."""


def _terminate(worker: Worker, parent: int, _signal: int, _frame: object) -> None:
    """SIGTERM: from the kernel, because the parent is gone, or from outside."""
    if os.getppid() != parent:
        raise _EndedError
    worker.interrupt()


def _parse(words: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m paddock.runtime.worker", description="Run datums for an engine.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--objects", type=_place, required=True)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--servers-file", type=Path)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--kept-bytes", type=int, default=0)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--sandbox", choices=_SANDBOXES, default="auto")
    parser.add_argument("--chunking", type=_chunking, default=CHUNKING)
    parser.add_argument("--grace-seconds", type=float, default=GRACE_SECONDS)
    parser.add_argument("--report-seconds", type=float, default=REPORT_SECONDS)
    parser.add_argument("--heartbeat-seconds", type=float, default=HEARTBEAT_SECONDS)
    parser.add_argument("--silence-seconds", type=float, default=SILENCE_SECONDS)
    parser.add_argument("--runner-fd", type=int)
    parser.add_argument("--pfs", type=Path, default=Path(sandbox.PFS))
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--image")
    parser.add_argument("--image-program")
    parser.add_argument("--image-option", action="append", default=[])
    found = parser.parse_args(words)
    return Options(
        found.socket_fd,
        found.objects,
        found.token_file,
        found.servers_file,
        found.kept,
        found.kept_bytes,
        found.scratch.resolve(),
        found.sandbox,
        found.chunking,
        found.grace_seconds,
        found.report_seconds,
        found.heartbeat_seconds,
        found.silence_seconds,
        found.runner_fd,
        found.pfs,
        found.shared or found.scratch.resolve(),
        Image(found.image_program, found.image, tuple(found.image_option)) if found.image else None,
    )


def _place(text: str) -> str:
    return text if _is_remote(text) else str(Path(text).resolve())


def _is_remote(place: str) -> bool:
    return is_url(place) or place.startswith(_SERVER)


def _chunking(text: str) -> ChunkingParameters:
    low, average, high = (int(part) for part in text.split(","))
    return ChunkingParameters(low, average, high)


if __name__ == "__main__":
    sys.exit(main())
