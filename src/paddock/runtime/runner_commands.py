"""Commands in a container beside this one, whose files are not this one's: a runner starts them there (design note 035)."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.model.errors import Bug, InvalidInput
from paddock.model.sizes import format_size
from paddock.runtime.commands import (
    CannotStart,
    Ended,
    Running,
    Workplace,
    cannot_enter,
    describe_start_failure,
    not_executable,
    not_found,
)
from paddock.runtime.materialize import OUT_FOLDER
from paddock.runtime.runner_link import (
    PROTOCOL_VERSION,
    Answer,
    Folder,
    Kind,
    Ready,
    Refused,
    RunnerGoneError,
    RunnerLink,
    Stage,
    error_of,
    exited_of,
    measured_of,
    pid_of,
    ready_of,
    refused_of,
    reset_body,
    start_body,
)

_UMASK = 0o022
_GONE = CannotStart("the container of the command has ended", lost=True)
_PYTHON = "python3"


class RunnerCommands:
    """Starts commands through a runner. `/pfs` is one folder, seen by both containers under one path."""

    def __init__(self, connection: socket.socket, pfs: Path, shared: Path) -> None:
        """Take the runner over from whoever used this connection before; what that had started is ended.

        pfs: with `out` in it. shared: another folder of both, for scratch. InvalidInput: the runner is of another version, or sees another folder than this process.
        RunnerGoneError: it has ended.
        """
        self._link = RunnerLink(connection)
        self._out = f"{pfs}/{OUT_FOLDER}"
        self.fd: int | None = connection.fileno()
        self._next = 1
        self._news: deque[Answer] = deque()
        """Ends of commands that came while another answer was waited for."""
        ready = self._reset(pfs, shared)
        self.environment: Mapping[bytes, bytes] = ready.environment
        self.cwd: str | None = ready.cwd
        self.python = _PYTHON
        self.protected = not ready.writable
        """Commands can write to nothing below `/pfs` but `out`."""
        self.memory_bytes_max = ready.memory_bytes_max

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        descriptors: Sequence[int],
    ) -> Running | CannotStart:
        try:
            body = start_body(
                umask=_UMASK,
                cwd=os.fsencode(place.cwd),
                user=os.fsencode(place.user),
                words=[os.fsencode(word) for word in words],
                environment=[b"%s=%s" % item for item in environment.items()],
            )
        except ValueError as error:
            return CannotStart(f"command {words[0]!r} cannot be passed to the system: {error}")
        id = self._new_id()
        try:
            self._link.send(Kind.START, id, body, descriptors)
            answer = self.await_answer(id, Kind.STARTED, Kind.REFUSED)
        except RunnerGoneError:
            return _GONE
        except InvalidInput as error:
            return CannotStart(str(error))
        if answer.kind == Kind.REFUSED:
            return _explain(refused_of(answer.body), words, environment, place)
        return _Remote(self, id, pid_of(answer.body))

    def settle_out(self) -> None:
        self._settle(Folder.OUT)

    def settle_scratch(self) -> None:
        self._settle(Folder.SCRATCH)

    def _settle(self, folder: Folder) -> None:
        try:
            id = self._new_id()
            self._link.send(Kind.SETTLE, id, struct.pack("<I", folder))
            self.await_answer(id, Kind.SETTLED)
        except RunnerGoneError:
            pass  # The next start finds that out.

    def memory_bytes(self, *, enough: int = 0) -> int:
        try:
            id = self._new_id()
            self._link.send(Kind.MEMORY, id, struct.pack("<Q", enough))
            return measured_of(self.await_answer(id, Kind.MEASURED).body)
        except RunnerGoneError:
            return 0

    def oom_kills(self) -> int:
        """The kernel's count is of all the node, and says nothing of this container; `Ended.breach` does."""
        return 0

    # ---- for what runs -------------------------------------------------------------------------------------

    @property
    def poll_fd(self) -> int:
        return self._link.fileno()

    @property
    def pending(self) -> bool:
        return bool(self._news)

    def has_news(self) -> bool:
        """Whether `next_answer` would not wait."""
        return bool(self._news) or bool(select.select([self._link], [], [], 0)[0])

    def tell(self, kind: Kind, id: int, body: bytes = b"") -> None:
        """Send what has no answer; nobody is there to take it where the runner has gone."""
        try:
            self._link.send(kind, id, body)
        except RunnerGoneError:
            pass

    def await_answer(self, id: int, *kinds: Kind) -> Answer:
        """The answer to request `id`; the end of a command that comes before it is kept. RunnerGoneError."""
        while True:
            answer = self._link.receive()
            if answer.id == id and answer.kind in kinds:
                return answer
            if answer.kind == Kind.ERROR:
                raise Bug(f"the runner does not understand a request: {error_of(answer.body)}")
            self._news.append(answer)

    def next_answer(self) -> Answer:
        """What was kept, else what comes next. RunnerGoneError."""
        return self._news.popleft() if self._news else self._link.receive()

    def how_it_ended(self, answer: Answer) -> Ended:
        exited = exited_of(answer.body)
        if not exited.oom_kills:
            return Ended(exited.code)
        most = f" of {format_size(self.memory_bytes_max)}" if self.memory_bytes_max else ""
        return Ended(
            exited.code,
            f"the command was ended by the kernel: it wanted more memory than the limit{most} of its container "
            "(resource_limits.memory)",
        )

    def _new_id(self) -> int:
        self._next = self._next % 0xFFFF_FFFF + 1
        return self._next

    def _reset(self, pfs: Path, shared: Path) -> Ready:
        id = secrets.randbits(32)
        mark = f".paddock-{secrets.token_hex(8)}"
        (pfs / mark).touch()
        try:
            self._link.send(Kind.RESET, id, reset_body(str(pfs), mark, str(shared)))
            # What was meant for somebody before is read over.
            while ((answer := self._link.receive()).kind, answer.id) != (Kind.READY, id):
                pass
        finally:
            (pfs / mark).unlink()
        ready = ready_of(answer.body)
        if ready.version != PROTOCOL_VERSION:
            raise InvalidInput(
                f"the runner speaks version {ready.version} of the protocol, and this worker {PROTOCOL_VERSION}: "
                "take both from one image"
            )
        if not ready.marked:
            raise InvalidInput(
                f"the runner's {pfs} is another folder than this container's: mount one volume there in both"
            )
        if not ready.out_writable:
            raise InvalidInput(
                f"commands (user {ready.uid}) can't write to {self._out}: mount it writable, and give it mode 0777"
            )
        return ready


class _Remote:
    """A command that a runner has started."""

    __slots__ = ("_commands", "_id", "pid", "poll_fd")

    def __init__(self, commands: RunnerCommands, id: int, pid: int) -> None:
        self._commands = commands
        self._id = id
        self.pid = pid
        self.poll_fd = commands.poll_fd

    @property
    def pending(self) -> bool:
        return self._commands.pending

    def ended(self) -> Ended | None:
        return self._take() if self._commands.has_news() else None

    def signal(self, number: signal.Signals) -> None:
        self._commands.tell(Kind.SIGNAL, self._id, struct.pack("<I", number))

    def end(self) -> Ended:
        self._commands.tell(Kind.END, self._id)
        while (ended := self._take()) is None:
            pass
        return ended

    def _take(self) -> Ended | None:
        try:
            answer = self._commands.next_answer()
        except RunnerGoneError:
            return Ended(-signal.SIGKILL, lost=True)
        ours = answer.kind == Kind.EXITED and answer.id == self._id
        return self._commands.how_it_ended(answer) if ours else None


def _explain(
    refused: Refused, words: Sequence[str], environment: Mapping[bytes, bytes], place: Workplace
) -> CannotStart:
    """In the words that the local engine has for it."""
    name = words[0] if words else ""
    why = os.strerror(refused.number)
    match refused.stage:
        case Stage.CWD:
            return cannot_enter(place.cwd, why)
        case Stage.USER if refused.number == 0:
            return CannotStart(
                f"user {place.user!r} (transform.user) is not known in the container: name one of its /etc/passwd, or a number"
            )
        case Stage.USER:
            return CannotStart(
                f"commands can't run as {place.user!r} (transform.user): {why}; the container has to run as root for that"
            )
        case Stage.SEARCH:
            return not_found(name, os.fsdecode(environment.get(b"PATH", b"/bin:/usr/bin")))
        case Stage.EXECUTABLE:
            return not_executable(name, refused.path)
        case Stage.EXEC:
            missing = os.strerror(refused.seen) if refused.seen else ""
            return CannotStart(
                describe_start_failure(
                    refused.path,
                    refused.number,
                    missing=missing,
                    folder=refused.folder,
                    interpreter=refused.interpreter,
                )
            )
        case _:
            return CannotStart(f"command {name!r} cannot be started in its container: {why}")
