"""A user command that is started once and takes datums as lines (docs/reference/warm-protocol.md, design note 021)."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import field
from typing import Any

from paddock.model.dataclass import dataclass
from paddock.runtime.commands import CannotStart, Commands, Ended, Running, Workplace
from paddock.runtime.process import DESCRIPTORS_MAX, Attention, Deadline, Exit, Output, Watch, open_null
from paddock.runtime.warm_format import done_lines
from paddock.runtime.worker_logs import DatumLog

TASK_FD, ANSWER_FD = 3, 4
TASK_VARIABLE, ANSWER_VARIABLE = b"PADDOCK_WARM_IN", b"PADDOCK_WARM_OUT"
LINE_BYTES_MAX = 16 << 20
_CLOSED = "the warm command closed the descriptor for its answers without one, and did not end; it was stopped"
_STOPPED = (-signal.SIGTERM, -signal.SIGKILL)
SILENCE_SECONDS = 60.0
"""A process that has sent a heartbeat for a datum and is silent for so long is taken for hung."""
_PIPE_BYTES = 1 << 20
_READ_BYTES = 64 << 10
_MEMORY_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What the process said of the datum: done (`error` is empty) or not."""

    error: str = ""


_DONE = Answer()


@dataclass(frozen=True, slots=True)
class Misspoke:
    """The process broke the protocol; it was killed."""

    reason: str


@dataclass(slots=True)
class Frame:
    """The answer to a frame: one document per datum, and the bytes that belong to them."""

    documents: list[dict[str, Any]]
    content: memoryview


@dataclass(slots=True)
class _Child:
    """A process that runs."""

    running: Running
    tasks: int
    answers: int
    watch: Watch | None = None
    started_at: float = 0.0
    begun: int = 0
    frames: bool = False
    memory_looked: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    closed: bool = False
    """It has closed the descriptor for its answers, before its time was over."""


class WarmProcess:
    """At most one warm process at a time. Not thread-safe.

    While a warm process runs nothing else may be started: ending one process ends all.
    """

    def __init__(
        self,
        attention: Attention,
        commands: Commands,
        *,
        grace_seconds: float,
        beat_seconds: float,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._attention = attention
        self._silence_seconds = silence_seconds
        self._commands = commands
        self._grace_seconds = grace_seconds
        self._beat_seconds = beat_seconds
        self._null = open_null()
        self._output = Output()
        self._child: _Child | None = None
        self._breach = ""
        """The limit that was exceeded for the datum that was answered last."""
        self._poll = select.poll()
        """Of the present process."""

    @property
    def running(self) -> bool:
        """Whether a process runs; one that has ended since it last answered is put away."""
        self.look()
        return self._child is not None

    def look(self) -> bool:
        """Put a process away that has ended since it last answered; whether there was one to look at."""
        child = self._child
        if child is not None and child.running.ended() is not None:
            self._put_away(child)
        return child is not None

    @property
    def started_at(self) -> float:
        """When the present process was there, or said that it is ready, by `perf_counter`."""
        return self._child.started_at if self._child is not None else 0.0

    @property
    def datums(self) -> int:
        """How many datums the present process was sent."""
        return self._child.begun if self._child is not None else 0

    @property
    def takes_frames(self) -> bool:
        """Whether the present process has said that it takes datums with their content, many at a time."""
        return self._child is not None and self._child.frames

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        *,
        stdin: int | None,
        watch: Watch | None = None,
    ) -> CannotStart | None:
        """Start the command; None if that went well. No process may be running. watch: looks at it while it is at work."""
        assert self._child is None, "one warm process at a time"
        if stdin is not None:
            os.lseek(stdin, 0, os.SEEK_SET)
        task_end, tasks = os.pipe()
        answers, answer_end = os.pipe()
        # Above the numbers that the process gets, so that none is overwritten before it is copied.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, DESCRIPTORS_MAX) for fd in (task_end, answer_end)]
        os.close(task_end)
        os.close(answer_end)
        variables = {TASK_VARIABLE: b"%d" % TASK_FD, ANSWER_VARIABLE: b"%d" % ANSWER_FD}
        first = (self._null if stdin is None else stdin, self._output.end, self._output.end)
        running = self._commands.start(words, {**environment, **variables}, place, (*first, *theirs))
        for fd in theirs:
            os.close(fd)
        if isinstance(running, CannotStart):
            os.close(tasks)
            os.close(answers)
            return running
        for pipe in (tasks, answers):
            os.set_blocking(pipe, False)
            try:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            except OSError:
                pass  # The user's share of pipe memory is used up; smaller pipes only cost time.
        self._child = _Child(running, tasks, answers, watch, time.perf_counter())
        if watch is not None:
            watch.started(running.pid)
        self._poll = select.poll()
        # In this order: see `_says_done`.
        for fd in (answers, self._output.fd, self._attention.poll_fd, running.poll_fd):
            self._poll.register(fd, select.POLLIN)
        return None

    def ask(self, task: bytes, *, id: str, timeout_seconds: float | None, log: DatumLog) -> Answer | Misspoke | Exit:
        """Send one datum and wait for its answer. What the process prints meanwhile goes to `log`.

        Exit: it ended instead, was stopped at its deadline, or `Attention.look` said so; nothing of it runs any
        more then, as after Misspoke.
        """
        child = self._child
        assert child is not None, "the process was started"
        begun = time.monotonic()
        unsent = self._send(child, task, 1)
        if not unsent and not child.received and self._says_done(child, id, timeout_seconds):
            return _DONE
        document = self._exchange(child, unsent, timeout_seconds, log, begun)
        if not isinstance(document, dict):
            return document
        if document.get("id") != id:
            return self._misspoke(f"it answered for datum {str(document.get('id'))[:80]!r} instead of {id}", log)
        if self._breach:
            return Answer(self._breach)
        return _answer(document) or self._misspoke("its answer has neither `ok: true` nor a text `error`", log)

    def ask_frame(
        self, task: bytes, count: int, *, timeout_seconds: float | None, log: DatumLog
    ) -> Frame | Misspoke | Exit:
        """Send `count` datums with their content, and wait for the answer to all. Otherwise like `ask`."""
        child = self._child
        assert child is not None, "the process was started"
        begun = time.monotonic()
        unsent = self._send(child, task, count)
        document = self._exchange(child, unsent, timeout_seconds, log, begun)
        if not isinstance(document, dict):
            return document
        documents, size = document.get("frame"), document.get("bytes")
        if not isinstance(documents, list) or len(documents) != count or not isinstance(size, int):
            return self._misspoke("it did not answer a frame by a frame of as many datums", log)
        content = self._content(size, timeout_seconds, log)
        return Frame(documents, memoryview(content)) if isinstance(content, bytes) else content

    def end(self) -> None:
        """End of file for the process; SIGTERM and SIGKILL where it stays. What it leaves behind is killed."""
        child = self._child
        if child is None:
            return
        os.close(child.tasks)
        child.tasks = -1
        deadline = Deadline(self._grace_seconds, self._grace_seconds)
        log = DatumLog(head_bytes_max=0, tail_bytes_max=0)
        while self._child is not None:
            ready = self._wait(deadline)
            if self._output.fd in ready:
                self._output.read(log)
            if child.answers in ready and not self._read(child):
                self._poll.unregister(child.answers)
            if self._ended(child, ready) is not None:
                self._put_away(child)
            else:
                deadline.enforce(child.running, time.monotonic())
                self._attention.beat()

    def kill(self) -> None:
        """End the process at once."""
        child = self._child
        if child is not None:
            child.running.end()
            self._put_away(child)

    def memory_exceeds(self, limit_bytes: int) -> bool:
        """Whether the process, with what it started, has more memory; looked at now and then."""
        child = self._child
        now = time.monotonic()
        if child is None or now - child.memory_looked < _MEMORY_LOOK_SECONDS:
            return False
        child.memory_looked = now
        return self._commands.memory_bytes(enough=limit_bytes) > limit_bytes

    # ---- one exchange --------------------------------------------------------------------------------------

    def _send(self, child: _Child, task: bytes, count: int) -> memoryview:
        """Send as much of a task as goes into the pipe at once; what is left of it."""
        child.begun += count
        unsent = memoryview(task)
        try:
            return unsent[os.write(child.tasks, unsent) :]
        except BlockingIOError:
            return unsent
        except BrokenPipeError:
            return unsent[:0]

    def _says_done(self, child: _Child, id: str, timeout_seconds: float | None) -> bool:
        """Whether the next that happens is the answer that mostly comes, and nothing else is there to be seen to.

        Tiny datums live by this: it is what `_exchange` would do, without what only other answers need. Where it is something
        else, nothing is lost.
        """
        if child.watch is not None or child.running.pending:
            return False
        wait_seconds = self._beat_seconds if timeout_seconds is None else min(timeout_seconds, self._beat_seconds)
        ready = self._poll.poll(wait_seconds * 1000)
        # What was printed before the answer would be there too: the kernel looks at the answers first.
        if len(ready) != 1 or ready[0][0] != child.answers:
            return False
        piece = os.read(child.answers, _READ_BYTES)
        if piece in done_lines(id):
            return True
        child.received += piece
        return False

    def _exchange(
        self, child: _Child, unsent: memoryview, timeout_seconds: float | None, log: DatumLog, begun: float
    ) -> dict[str, Any] | Misspoke | Exit:
        """Wait for the next document that is an answer. begun: when the task was sent, but for what is `unsent`."""
        deadline = Deadline(timeout_seconds, self._grace_seconds, child.watch, begun=begun)
        watch = _Silence(deadline, self._silence_seconds)
        while True:
            document = self._next_document(child)
            if isinstance(document, str):
                return self._misspoke(document, log)
            if document is not None:
                if not watch.notes(document, child) and not deadline.passed:
                    self._output.read(log, everything=True)
                    self._breach = deadline.last_look()
                    return document
                continue
            ended = self._wait_for_more(child, deadline, log, unsent)
            if isinstance(ended, Exit):
                if ended.cancelled or ended.breach:
                    return ended
                # One that was about to end has an exit code of its own, however late it ended.
                stopped = child.closed and deadline.passed and ended.code in _STOPPED
                reason = watch.reason or (_CLOSED if stopped else "")
                return Misspoke(reason) if reason else ended
            unsent = unsent[ended:]
            watch.check(time.monotonic())

    def _wait_for_more(self, child: _Child, deadline: Deadline, log: DatumLog, unsent: memoryview) -> int | Exit:
        """Wait until something has happened, and take it in: how many bytes were sent, or how the process ended."""
        if unsent:
            self._poll.register(child.tasks, select.POLLOUT)
        ready = self._wait(deadline)
        sent = 0
        if unsent:
            self._poll.unregister(child.tasks)
            if child.tasks in ready:
                try:
                    sent = os.write(child.tasks, unsent[:_PIPE_BYTES])
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    sent = len(unsent)
        if self._output.fd in ready:
            self._output.read(log)
        if child.answers in ready:
            if self._read(child):
                return sent
            self._poll.unregister(child.answers)
            child.closed = not deadline.passed
            # Nothing more can come, so it has to go; mostly it is about to.
            deadline.pass_at(time.monotonic() + self._grace_seconds)
        ended = self._ended(child, ready)
        if ended is not None:
            self._put_away(child)
            self._output.read(log, everything=True)
            return deadline.exit_of(ended, in_time=child.closed)
        if (self._attention.poll_fd in ready and self._attention.look()) or self._attention.beat():
            deadline.cancel(time.monotonic())
        deadline.enforce(child.running, time.monotonic())
        return sent

    def _content(self, size: int, timeout_seconds: float | None, log: DatumLog) -> bytes | Exit:
        """The next `size` bytes of the answers."""
        child = self._child
        assert child is not None, "the process has just answered"
        deadline = Deadline(timeout_seconds, self._grace_seconds, child.watch)
        while len(child.received) < size:
            ended = self._wait_for_more(child, deadline, log, memoryview(b""))
            if isinstance(ended, Exit):
                return ended
        content = bytes(memoryview(child.received)[:size])
        del child.received[:size]
        return content

    def _next_document(self, child: _Child) -> dict[str, Any] | str | None:
        """The next whole line, parsed; None if there is none yet; a text that says what is wrong with it."""
        end = child.received.find(b"\n")
        if end < 0:
            too_long = len(child.received) > LINE_BYTES_MAX
            return f"it sent a line of more than {LINE_BYTES_MAX} bytes" if too_long else None
        line = bytes(child.received[:end])
        del child.received[: end + 1]
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            shown = line[:80].decode("utf-8", "replace")
            return f"it sent {shown!r}, which is not a JSON object; log lines belong on standard output or error"
        return document

    def _misspoke(self, reason: str, log: DatumLog) -> Misspoke:
        self._output.read(log, everything=True)
        self.kill()
        self._output.read(log, everything=True)
        return Misspoke(f"the warm command broke the line protocol: {reason}")

    # ---- descriptors and processes -------------------------------------------------------------------------

    def _wait(self, deadline: Deadline) -> set[int]:
        milliseconds = deadline.wait_milliseconds(time.monotonic(), self._beat_seconds)
        if self._child is not None and self._child.running.pending:
            milliseconds = 0.0
        return {fd for fd, _ in self._poll.poll(milliseconds)}

    def _read(self, child: _Child) -> bool:
        """Take in answers; False at the end of file."""
        try:
            piece = os.read(child.answers, _READ_BYTES)
        except BlockingIOError:
            return True
        child.received += piece
        return bool(piece)

    def _ended(self, child: _Child, ready: Container[int]) -> Ended | None:
        running = child.running
        return running.ended() if running.poll_fd in ready or running.pending else None

    def _put_away(self, child: _Child) -> None:
        """Let go of a process that has ended."""
        self._child = None
        self._poll.unregister(child.running.poll_fd)
        try:
            self._poll.unregister(child.answers)
        except KeyError:
            pass
        for fd in (child.answers, child.tasks):
            if fd >= 0:
                os.close(fd)


class _Silence:
    """What the lines besides answers mean for the deadline: `ready` restarts it, a heartbeat forbids silence.

    reason: why the process was stopped for its silence, or empty.
    """

    def __init__(self, deadline: Deadline, silence_seconds: float) -> None:
        self._deadline = deadline
        self._silence_seconds = silence_seconds
        self._heard: float | None = None
        self.reason = ""

    def notes(self, document: dict[str, Any], child: _Child) -> bool:
        """Whether the document is not an answer."""
        if document.get("ready") is True:
            child.frames = document.get("frames") == 1
            child.started_at = time.perf_counter()
            self._deadline.restart(time.monotonic())
            return True
        if document.get("heartbeat") is True:
            self._heard = time.monotonic()
            return True
        return False

    def check(self, now: float) -> None:
        if self._heard is not None and now - self._heard > self._silence_seconds and not self.reason:
            self.reason = (
                f"the warm command was stopped: it sent heartbeats, and then nothing for {self._silence_seconds:g} s"
            )
            self._deadline.pass_at(now)


def _answer(document: dict[str, Any]) -> Answer | None:
    if document.get("ok") is True:
        return Answer()
    error = document.get("error")
    return Answer(error or "the command says no reason") if isinstance(error, str) else None
