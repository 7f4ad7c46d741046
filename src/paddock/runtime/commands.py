"""Where commands run: on this machine, or in a container beside it through its runner (`runner_commands`, design note 035)."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple, Protocol

from paddock.model.dataclass import dataclass
from paddock.runtime.process_memory import oom_kills, tree_memory_bytes

RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)
_SWEEPS_MAX = 1000


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The command could not be started at all; another try would end the same way. lost: the container is gone."""

    reason: str
    lost: bool = False


@dataclass(slots=True)
class Workplace:
    """What is the same for all commands of a transform. user: whom they run as, where that is another.

    programs: files found so far, by name and `PATH`.
    """

    cwd: str
    user: str = ""
    programs: dict[tuple[str, bytes], str] = field(default_factory=dict)


class Ended(NamedTuple):
    """How a command ended. code: 0..255, or -N where signal N ended it. breach: the limit for which the system ended it.

    lost: its container is gone, and nothing can be started there any more.
    """

    code: int
    breach: str = ""
    lost: bool = False


class Running(Protocol):
    """A command that was started, with all that it starts itself."""

    poll_fd: int
    """Becomes readable when it has ended, and perhaps before."""
    pid: int

    @property
    def pending(self) -> bool:
        """Whether `ended` has something to say that `poll_fd` does not tell any more."""

    def ended(self) -> Ended | None:
        """How it ended, once it has; then nothing that it started lives any more, and this object is used up."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its session."""

    def end(self) -> Ended:
        """End it at once, with all that it started, and wait for that."""


class Commands(Protocol):
    """Starts commands, one at a time. Not thread-safe."""

    environment: Mapping[bytes, bytes]
    """Of the place where commands run, without what Paddock adds."""
    cwd: str | None
    """Where commands run if nothing is said; None leaves that to the transform."""
    python: str
    """What `{python}` stands for."""
    fd: int | None
    """Readable where the place is gone while no command runs; None where it can't go."""

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        descriptors: Sequence[int],
    ) -> Running | CannotStart:
        """Start a program in a session of its own. descriptors: what it gets as 0, 1, 2, …; each number is above 9."""

    def settle_out(self) -> None:
        """Let this process read and remove what commands have left in `/pfs/out`. Best effort: what can't be opened up is found when
        it is read."""

    def settle_scratch(self) -> None:
        """The same of what commands have left in `TMPDIR`."""

    def memory_bytes(self, *, enough: int = 0) -> int:
        """Memory of all that runs; see `process_memory.tree_memory_bytes`."""

    def oom_kills(self) -> int:
        """How many processes the kernel has ended on this machine, where that may be a reason to run a datum again."""


class LocalCommands:
    """Commands on this machine, as children of this process.

    It must be the one that orphans fall to: process 1 of a PID namespace (`owns_namespace`) or a child subreaper, and it must
    have no other children, for they end with each command.
    """

    def __init__(self, *, owns_namespace: bool) -> None:
        self._owns_namespace = owns_namespace
        self.environment: Mapping[bytes, bytes] = os.environb
        self.cwd: str | None = None
        self.python = sys.executable
        self.fd: int | None = None
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        descriptors: Sequence[int],
    ) -> Running | CannotStart:
        program = _find(words[0] if words else "", environment, place)
        if isinstance(program, CannotStart):
            return program
        try:
            os.chdir(place.cwd)
        except OSError as error:
            return cannot_enter(place.cwd, os.strerror(error.errno or 0))
        try:
            process = os.posix_spawn(
                program,
                tuple(words),
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, number) for number, theirs in enumerate(descriptors)],
                setsid=True,
                setsigmask=(),
                setsigdef=RESET_SIGNALS,
            )
        except (OSError, ValueError) as error:
            return CannotStart(explain_start_failure(program, error))
        return _Child(process, owns_namespace=self._owns_namespace)

    def settle_out(self) -> None:
        """Commands run as the same user."""

    def settle_scratch(self) -> None:
        """Commands run as the same user."""

    def memory_bytes(self, *, enough: int = 0) -> int:
        return tree_memory_bytes(enough=enough)

    def oom_kills(self) -> int:
        return oom_kills()


class _Child:
    """A child of this process."""

    __slots__ = ("_owns_namespace", "pid", "poll_fd")
    pending = False

    def __init__(self, pid: int, *, owns_namespace: bool) -> None:
        self.pid = pid
        self.poll_fd = os.pidfd_open(pid)
        self._owns_namespace = owns_namespace

    def ended(self) -> Ended | None:
        process, status = os.waitpid(self.pid, os.WNOHANG)
        return self._put_away(os.waitstatus_to_exitcode(status)) if process else None

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self) -> Ended:
        end_descendants(owns_namespace=self._owns_namespace)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            code = -signal.SIGKILL
        return self._put_away(code)

    def _put_away(self, code: int) -> Ended:
        os.close(self.poll_fd)
        end_descendants(owns_namespace=self._owns_namespace)
        return Ended(code)


def cannot_enter(cwd: str, why: str) -> CannotStart:
    return CannotStart(f"the working directory {cwd} cannot be entered: {why}")


def not_found(name: str, search_path: str) -> CannotStart:
    if not name:
        return CannotStart("the command is empty; give cmd at least one word")
    return CannotStart(f"command {name!r} is not found in PATH ({search_path}): install it or write its whole path")


def not_executable(name: str, path: str) -> CannotStart:
    return CannotStart(f"command {name!r} is {path}, which is not executable: chmod +x it")


def _find(name: str, environment: Mapping[bytes, bytes], place: Workplace) -> str | CannotStart:
    search_path = environment.get(b"PATH", os.defpath.encode())
    known = place.programs.get((name, search_path))
    if known is not None:
        return known
    found = find_program(name, os.fsdecode(search_path), place.cwd)
    if isinstance(found, str):
        place.programs[name, search_path] = found
    return found


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
    for target in [-1] if owns_namespace else children_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, signal.SIGKILL)
            killed = True
    return killed


def find_program(name: str, search_path: str, cwd: str) -> str | CannotStart:
    """The file that a shell would run for `name`: itself if it has a slash, else the first of `search_path`.

    Relative entries count from `cwd`. CannotStart says what was looked for, where nothing is found.
    """
    if "/" in name:
        return name
    unusable = ""
    for folder in search_path.split(":") if name else ():
        path = os.path.join(cwd, folder, name)
        if not os.path.isfile(path):
            continue
        if os.access(path, os.X_OK):
            return path
        unusable = path
    return not_executable(name, unusable) if unusable else not_found(name, search_path)


def explain_start_failure(program: str, error: OSError | ValueError) -> str:
    """Why `program` could not be executed, from what the kernel said and what the file is."""
    if isinstance(error, ValueError):
        return f"command {program!r} cannot be passed to the system: {error}"
    missing, folder = "", False
    try:
        folder = stat.S_ISDIR(os.stat(program).st_mode)
    except OSError as unseen:
        missing = os.strerror(unseen.errno or 0)
    return describe_start_failure(
        program, error.errno or 0, missing=missing, folder=folder, interpreter=_interpreter(program)
    )


def describe_start_failure(program: str, number: int, *, missing: str, folder: bool, interpreter: str) -> str:
    """The words for it. number: the kernel's errno. missing: why the file can't be seen. interpreter: what its first line names."""
    if missing:
        return f"command {program!r} cannot be run: {missing}; check its path and working_dir"
    if folder:
        return f"command {program!r} is a directory, not a program"
    if number == errno.ENOENT:
        interpreter = interpreter or "(its dynamic loader)"
        return f"command {program!r} exists, but its interpreter {interpreter!r} does not: mend its first line"
    if number == errno.EACCES:
        return f"command {program!r} is not executable: chmod +x it"
    if number == errno.ENOEXEC:
        return f"command {program!r} is not a program of this machine: a script needs a first line such as #!/bin/sh"
    if number == errno.E2BIG:
        return f"command {program!r} cannot be run: its words and environment are longer than the system allows"
    return f"command {program!r} cannot be run: {os.strerror(number)}"


def _interpreter(program: str) -> str:
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - a str path that may hold any byte
            first = file.readline(256)
    except OSError:
        return "?"
    if not first.startswith(b"#!"):
        return ""
    return os.fsdecode(first[2:].strip().split(b" ")[0])


def _reap_dead() -> bool:
    """Reap children that have ended; whether any child is still alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def children_of(parent: int) -> list[int]:
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
