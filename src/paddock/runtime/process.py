"""Run one user command: the cheapest spawn, one pipe for its output, a deadline, and nothing left alive afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from paddock.runtime.worker_logs import DatumLog

OUTPUT_PIECE_BYTES = 1 << 16
RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)
_SWEEPS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended. code: 0..255, or -N where signal N ended it. breach: the limit that it exceeded, as a reason."""

    code: int
    timed_out: bool = False
    cancelled: bool = False
    breach: str = ""


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The command could not be started at all; another try would end the same way."""

    reason: str


class Attention(Protocol):
    """What a running command is interrupted for: the control channel of the worker."""

    @property
    def poll_fd(self) -> int:
        """Becomes readable when there is something to read."""

    def look(self) -> bool:
        """Read what there is; whether the present datum is to be stopped. May raise, to end the worker."""

    def beat(self) -> None:
        """Called at least every `beat_seconds`, and often more than that."""


class Watch(Protocol):
    """What looks at a running command now and then, and may have it ended (see `limits`)."""

    def started(self, process: int) -> None: ...
    def wait_seconds(self, now: float) -> float:
        """Until the next look."""

    def look(self, now: float) -> str:
        """Why the command has to end at once; else empty."""

    def last_look(self) -> str:
        """The same of one that has ended."""


class ProcessRunner:
    """Runs commands one after another. One for each worker; not thread-safe.

    The calling process must be the one that orphans fall to: process 1 of a PID namespace (`owns_namespace`)
    or a child subreaper. It must have no other children, for `run` ends them all.
    """

    def __init__(
        self, attention: Attention, *, owns_namespace: bool, grace_seconds: float, beat_seconds: float
    ) -> None:
        self._attention = attention
        self._owns_namespace = owns_namespace
        self._grace_seconds = grace_seconds
        self._beat_seconds = beat_seconds
        self.started_at = 0.0
        """When the last command's process was there, by `perf_counter`."""
        self._null = os.open("/dev/null", os.O_RDWR)
        self._output, self._output_end = os.pipe()
        os.set_blocking(self._output, False)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(attention.poll_fd, select.POLLIN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def run(
        self,
        program: str,
        words: list[str],
        environment: Mapping[bytes, bytes],
        *,
        cwd: str,
        stdin: int | None,
        timeout_seconds: float | None,
        log: DatumLog,
        watch: Watch | None = None,
    ) -> Exit | CannotStart:
        """Run `program` (a path) with `words` as its argument list until it ends, its deadline passes, or it
        is stopped.

        stdin: an open descriptor, read from its start; None stands for /dev/null. Output of both kinds goes
        to `log`. At the deadline (or when `Attention.look` says so) the command's session gets SIGTERM, and
        SIGKILL after the grace period. On return every process that the command has left behind is dead and
        reaped.
        """
        try:
            os.chdir(cwd)
        except OSError as error:
            return CannotStart(f"the working directory {cwd} cannot be entered: {error.strerror}")
        if stdin is not None:
            os.lseek(stdin, 0, os.SEEK_SET)
        try:
            process = os.posix_spawn(
                program,
                words,
                environment,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, self._null if stdin is None else stdin, 0),
                    (os.POSIX_SPAWN_DUP2, self._output_end, 1),
                    (os.POSIX_SPAWN_DUP2, self._output_end, 2),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=RESET_SIGNALS,
            )
        except (OSError, ValueError) as error:
            return CannotStart(explain_start_failure(program, error))
        self.started_at = time.perf_counter()
        if watch is not None:
            watch.started(process)
        exit_state = self._watch(process, Deadline(timeout_seconds, self._grace_seconds, watch), log)
        end_descendants(owns_namespace=self._owns_namespace)
        self._read_output(log, everything=True)
        return exit_state

    def _watch(self, process: int, deadline: Deadline, log: DatumLog) -> Exit:
        """Read output and control messages until `process` has ended, and reap it."""
        handle = os.pidfd_open(process)
        self._poll.register(handle, select.POLLIN)
        try:
            while True:
                now = time.monotonic()
                ready = {fd for fd, _ in self._poll.poll(deadline.wait_milliseconds(now, self._beat_seconds))}
                if self._output in ready:
                    self._read_output(log)
                if handle in ready:
                    break
                if self._attention.poll_fd in ready and self._attention.look():
                    deadline.cancel(time.monotonic())
                deadline.enforce(process, time.monotonic())
                self._attention.beat()
        finally:
            self._poll.unregister(handle)
            os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        timed_out = deadline.passed and not deadline.cancelled
        return Exit(code, timed_out=timed_out, cancelled=deadline.cancelled, breach=deadline.last_look())

    def _read_output(self, log: DatumLog, *, everything: bool = False) -> None:
        try:
            while piece := os.read(self._output, OUTPUT_PIECE_BYTES):
                log.add(piece)
                if not everything:
                    return
        except BlockingIOError:
            return


class Deadline:
    """When to ask a command to end, and when to make it. One that exceeds a limit is not asked."""

    __slots__ = ("_asked", "_at", "_grace_seconds", "_timeout_seconds", "_watch", "breach", "cancelled", "passed")

    def __init__(self, timeout_seconds: float | None, grace_seconds: float, watch: Watch | None = None) -> None:
        self._watch = watch
        self.breach = ""
        self._timeout_seconds = timeout_seconds
        self._at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
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

    def enforce(self, process: int, now: float) -> None:
        """Signal the session of `process` if its time has come: first SIGTERM, then, each grace period, SIGKILL."""
        if self._watch is not None and not self.breach:
            self.breach = self._watch.look(now)
            if self.breach:
                _signal(process, signal.SIGKILL)
        if self._at is None or now < self._at:
            return
        self.passed = True
        self._at = now + self._grace_seconds
        _signal(process, signal.SIGKILL if self._asked else signal.SIGTERM)
        self._asked = True

    def last_look(self) -> str:
        """The limit that the command, which has ended or answered, exceeded; else empty."""
        if self._watch is not None and not self.breach:
            self.breach = self._watch.last_look()
        return self.breach


def _signal(session: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)


def end_descendants(*, owns_namespace: bool) -> None:
    """Kill and reap every descendant of this process, which must be the one that orphans fall to.

    One system call where there is none. What runs as another user (after sudo, say) and may not be killed is
    left alone.
    """
    for _ in range(_SWEEPS_MAX):
        if not _reap_dead() or not _kill_children(owns_namespace=owns_namespace):
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _kill_children(*, owns_namespace: bool) -> bool:
    """Kill what may be killed; whether anything was. Orphans of what is killed here are for the next sweep."""
    killed = False
    for target in [-1] if owns_namespace else _children_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, signal.SIGKILL)
            killed = True
    return killed


def find_program(name: str, search_path: str, cwd: str) -> str | CannotStart:
    """The file that a shell would run for `name`: itself if it has a slash, else the first of `search_path`.

    Relative entries count from `cwd`. CannotStart says what was looked for, where nothing is found.
    """
    if not name:
        return CannotStart("the command is empty; give cmd at least one word")
    if "/" in name:
        return name
    unusable = ""
    for folder in search_path.split(":"):
        path = os.path.join(cwd, folder, name)
        if not os.path.isfile(path):
            continue
        if os.access(path, os.X_OK):
            return path
        unusable = path
    if unusable:
        return CannotStart(f"command {name!r} is {unusable}, which is not executable: chmod +x it")
    return CannotStart(f"command {name!r} is not found in PATH ({search_path}): install it or write its whole path")


def explain_start_failure(program: str, error: OSError | ValueError) -> str:
    """Why `program` could not be executed, from what the kernel said and what the file is."""
    if isinstance(error, ValueError):
        return f"command {program!r} cannot be passed to the system: {error}"
    try:
        kind = os.stat(program).st_mode
    except OSError as missing:
        return f"command {program!r} cannot be run: {missing.strerror}; check its path and working_dir"
    if stat.S_ISDIR(kind):
        return f"command {program!r} is a directory, not a program"
    if error.errno == errno.ENOENT:
        interpreter = _interpreter(program)
        return f"command {program!r} exists, but its interpreter {interpreter!r} does not: mend its first line"
    if error.errno == errno.EACCES:
        return f"command {program!r} is not executable: chmod +x it"
    if error.errno == errno.ENOEXEC:
        return f"command {program!r} is not a program of this machine: a script needs a first line such as #!/bin/sh"
    if error.errno == errno.E2BIG:
        return f"command {program!r} cannot be run: its words and environment are longer than the system allows"
    return f"command {program!r} cannot be run: {error.strerror}"


def _interpreter(program: str) -> str:
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - a str path that may hold any byte
            first = file.readline(256)
    except OSError:
        return "?"
    if not first.startswith(b"#!"):
        return "(its dynamic loader)"
    return os.fsdecode(first[2:].strip().split(b" ")[0])


def _reap_dead() -> bool:
    """Reap children that have ended; whether any child is still alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children_of(parent: int) -> list[int]:
    """Process ids of the direct children, by reading all of /proc: not every kernel lists children."""
    children = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            children.append(int(name))
    return children
