"""Run one user command: the cheapest spawn, one pipe for its output, a deadline, and nothing left alive afterwards."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from paddock.model.dataclass import dataclass
from paddock.runtime.commands import CannotStart, Commands, Ended, Running, Workplace
from paddock.runtime.worker_logs import DatumLog

OUTPUT_PIECE_BYTES = 1 << 16
DESCRIPTORS_MAX = 10
"""Numbers below are for commands."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended. code: 0..255, or -N where signal N ended it. breach: the limit that it exceeded, as a reason.

    lost: its container is gone.
    """

    code: int
    timed_out: bool = False
    cancelled: bool = False
    breach: str = ""
    lost: bool = False


class Attention(Protocol):
    """What a running command is interrupted for: the control channel of the worker."""

    @property
    def poll_fd(self) -> int:
        """Becomes readable when there is something to read."""

    def look(self) -> bool:
        """Read what there is; whether the present datum is to be stopped. May raise, to end the worker."""

    def beat(self) -> bool:
        """Called at least every `beat_seconds`, and often more than that; like `look`, where it has taken in what there is."""


class Watch(Protocol):
    """What looks at a running command now and then, and may have it ended (see `limits`)."""

    def started(self, process: int) -> None: ...
    def wait_seconds(self, now: float) -> float:
        """Until the next look."""

    def look(self, now: float) -> str:
        """Why the command has to end at once; else empty."""

    def last_look(self) -> str:
        """The same of one that has ended."""


class Output:
    """The pipe that takes what commands print. It lives as long as the worker, and is read without waiting."""

    def __init__(self) -> None:
        self.fd, self.end = os.pipe()
        """To read from; for commands."""
        os.set_blocking(self.fd, False)
        # In a container the command is another user, who may open /dev/stdout once more.
        os.fchmod(self.fd, 0o666)

    def read(self, log: DatumLog, *, everything: bool = False) -> None:
        try:
            while piece := os.read(self.fd, OUTPUT_PIECE_BYTES):
                log.add(piece)
                if not everything:
                    return
        except BlockingIOError:
            return


class ProcessRunner:
    """Runs commands one after another. One for each worker; not thread-safe."""

    def __init__(self, attention: Attention, commands: Commands, *, grace_seconds: float, beat_seconds: float) -> None:
        self._attention = attention
        self._commands = commands
        self._grace_seconds = grace_seconds
        self._beat_seconds = beat_seconds
        self.started_at = 0.0
        """When the last command's process was there, by `perf_counter`."""
        self._null = open_null()
        self._output = Output()
        self._poll = select.poll()
        self._poll.register(self._output.fd, select.POLLIN)
        self._poll.register(attention.poll_fd, select.POLLIN)

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        *,
        stdin: int | None,
        timeout_seconds: float | None,
        log: DatumLog,
        watch: Watch | None = None,
    ) -> Exit | CannotStart:
        """Run a program with `words` as its argument list until it ends, its deadline passes, or it is stopped.

        stdin: an open descriptor, read from its start; None stands for /dev/null. Output of both kinds goes
        to `log`. At the deadline (or when `Attention.look` says so) the command's session gets SIGTERM, and
        SIGKILL after the grace period. On return every process that the command has left behind is dead and
        reaped.
        """
        if stdin is not None:
            os.lseek(stdin, 0, os.SEEK_SET)
        descriptors = (self._null if stdin is None else stdin, self._output.end, self._output.end)
        running = self._commands.start(words, environment, place, descriptors)
        if isinstance(running, CannotStart):
            return running
        self.started_at = time.perf_counter()
        if watch is not None:
            watch.started(running.pid)
        exit_state = self._watch(running, Deadline(timeout_seconds, self._grace_seconds, watch), log)
        self._output.read(log, everything=True)
        return exit_state

    def _watch(self, running: Running, deadline: Deadline, log: DatumLog) -> Exit:
        """Read output and control messages until the command has ended."""
        handle = running.poll_fd
        self._poll.register(handle, select.POLLIN)
        try:
            while True:
                wait = 0.0 if running.pending else deadline.wait_milliseconds(time.monotonic(), self._beat_seconds)
                ready = {fd for fd, _ in self._poll.poll(wait)}
                if self._output.fd in ready:
                    self._output.read(log)
                if (handle in ready or running.pending) and (ended := running.ended()) is not None:
                    break
                if (self._attention.poll_fd in ready and self._attention.look()) or self._attention.beat():
                    deadline.cancel(time.monotonic())
                deadline.enforce(running, time.monotonic())
        finally:
            self._poll.unregister(handle)
        return deadline.exit_of(ended)


class Deadline:
    """When to ask a command to end, and when to make it. One that exceeds a limit is not asked."""

    __slots__ = ("_asked", "_at", "_grace_seconds", "_timeout_seconds", "_watch", "breach", "cancelled", "passed")

    def __init__(
        self,
        timeout_seconds: float | None,
        grace_seconds: float,
        watch: Watch | None = None,
        *,
        begun: float | None = None,
    ) -> None:
        """begun: when the time began, by `monotonic`; None: now."""
        self._watch = watch
        self.breach = ""
        self._timeout_seconds = timeout_seconds
        self._at = None
        if timeout_seconds is not None:
            self._at = (time.monotonic() if begun is None else begun) + timeout_seconds
        self._grace_seconds = grace_seconds
        self._asked = False
        self.passed = False
        self.cancelled = False

    def wait_milliseconds(self, now: float, at_most_seconds: float) -> float:
        if self._watch is not None:
            at_most_seconds = min(at_most_seconds, self._watch.wait_seconds(now))
        if self._at is None:
            return at_most_seconds * 1000
        return max(0.0, min(self._at - now, at_most_seconds)) * 1000 + 0.5

    def restart(self, now: float) -> None:
        """Count from `now` anew, unless the time was over."""
        if self._timeout_seconds is not None and not self.passed:
            self._at = now + self._timeout_seconds

    def pass_at(self, moment: float) -> None:
        """The time is over at `moment` at the latest."""
        if not self.passed:
            self._at = moment if self._at is None else min(self._at, moment)

    def cancel(self, now: float) -> None:
        self.cancelled = True
        if not self.passed:
            self._at = now

    def enforce(self, running: Running, now: float) -> None:
        """Signal the session of the command if its time has come: first SIGTERM, then, each grace period, SIGKILL."""
        if self._watch is not None and not self.breach:
            self.breach = self._watch.look(now)
            if self.breach:
                running.signal(signal.SIGKILL)
        if self._at is None or now < self._at:
            return
        self.passed = True
        self._at = now + self._grace_seconds
        running.signal(signal.SIGKILL if self._asked else signal.SIGTERM)
        self._asked = True

    def last_look(self) -> str:
        """The limit that the command, which has ended or answered, exceeded; else empty."""
        if self._watch is not None and not self.breach:
            self.breach = self._watch.last_look()
        return self.breach

    def exit_of(self, ended: Ended, *, in_time: bool = False) -> Exit:
        """What the end of the command comes to. in_time: it had not to be stopped, whatever the time says now."""
        timed_out = self.passed and not self.cancelled and not in_time
        breach = ended.breach or self.last_look()
        return Exit(ended.code, timed_out=timed_out, cancelled=self.cancelled, breach=breach, lost=ended.lost)


def open_null() -> int:
    """/dev/null as commands get it for no input: with a number above those that they have."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    above = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, DESCRIPTORS_MAX)
    os.close(null)
    return above
