"""The connection to a runner, message by message (docs/reference/runner-protocol.md)."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, Unavailable

PROTOCOL_VERSION = 1
INLINE_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 16 << 20
_IN_FILE = 1 << 31
_HEADER = struct.Struct("<II")
_LOOK_SECONDS = 0.05


class Kind(IntEnum):
    """Types of messages: requests below 100, answers from there on."""

    RESET = 1
    START = 2
    SIGNAL = 3
    END = 4
    SETTLE = 5
    MEMORY = 6
    ERROR = 100
    READY = 101
    STARTED = 102
    REFUSED = 103
    EXITED = 104
    SETTLED = 105
    MEASURED = 106


class Stage(IntEnum):
    """Where the start of a command failed."""

    CWD = 1
    USER = 2
    SEARCH = 3
    EXECUTABLE = 4
    EXEC = 5
    BUSY = 6
    SYSTEM = 7


class Folder(IntEnum):
    """Where commands write: `out` in the folder of inputs, `scratch` in the other folder that both containers have."""

    OUT = 0
    SCRATCH = 1


class RunnerGoneError(Exception):
    """The connection has ended, and with it all that the runner had started."""


class Answer(NamedTuple):
    kind: int
    id: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """What a runner says of its container. marked: it sees the worker's mark, so both have the same folder.

    writable: commands could write there; out_writable: and into `out`. memory_bytes_max: 0 for none that it can see.
    """

    version: int
    uid: int
    gid: int
    marked: bool
    writable: bool
    out_writable: bool
    memory_bytes_max: int
    cwd: str
    environment: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing was started. seen: errno of a look at `path`, the file that was tried; folder: it is one."""

    stage: int
    number: int
    seen: int
    folder: bool
    path: str
    interpreter: str


@dataclass(frozen=True, slots=True)
class Exited:
    """How a command ended. code: as `Exit.code`. oom_kills: processes that the kernel ended meanwhile, if it failed."""

    code: int
    oom_kills: int
    user_seconds: float
    system_seconds: float
    resident_bytes_max: int


class RunnerLink:
    """One end of the connection; not thread-safe. RunnerGoneError from every method when the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: Kind, id: int, body: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a request; a large body goes as a file. InvalidInput if it is longer than any runner takes."""
        if len(body) <= INLINE_BYTES_MAX:
            self._send(_HEADER.pack(kind, id) + body, descriptors)
            return
        if len(body) > BODY_BYTES_MAX:
            raise InvalidInput(
                f"a request of {len(body)} bytes is longer than the {BODY_BYTES_MAX} that a runner takes"
            )
        file = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            view = memoryview(body)
            while view:
                view = view[os.write(file, view) :]
            self._send(_HEADER.pack(kind | _IN_FILE, id), [*descriptors, file])
        finally:
            os.close(file)

    def receive(self) -> Answer:
        """The next message; waits for it."""
        try:
            data, files, _, _ = socket.recv_fds(self._socket, _HEADER.size + INLINE_BYTES_MAX, 1)
        except OSError as error:
            raise RunnerGoneError(f"the connection to the runner broke: {error.strerror}") from error
        if len(data) < _HEADER.size:
            raise RunnerGoneError("the runner has ended")
        kind, id = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        for file in files:
            with os.fdopen(file, "rb") as opened:
                opened.seek(0)
                body = opened.read()
        return Answer(kind & ~_IN_FILE, id, body)

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        try:
            if descriptors:
                socket.send_fds(self._socket, [message], descriptors, socket.MSG_NOSIGNAL)
            else:
                self._socket.send(message, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise RunnerGoneError(f"the connection to the runner broke: {error.strerror}") from error


def connect_runner(path: Path, *, wait_seconds: float | None = None) -> socket.socket:
    """Connect to the runner that listens at `path`, which may be started later than this process.

    Waits for as long as it takes, or `wait_seconds`: Unavailable after that. InvalidInput: what is there can't be a runner. The connection may be handed to a child process.
    """
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if path.exists() and not path.is_socket():
                raise InvalidInput(f"{path} is no socket; give the one at which a runner listens") from None
        except OSError as error:
            connection.close()
            raise InvalidInput(
                f"no runner can be reached at {path}: {error.strerror}; give the socket of one"
            ) from error
        else:
            return connection
        if deadline is not None and time.monotonic() > deadline:
            raise Unavailable(
                f"no runner listens at {path}, after {wait_seconds:g} s; see how the user's container fares"
            )
        time.sleep(_LOOK_SECONDS)


def has_ended(connection: socket.socket) -> bool:
    """Whether the runner has gone; reads nothing, so another process may be using the connection."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def reset_body(folder: str, mark: str, shared: str) -> bytes:
    return texts([os.fsencode(folder), os.fsencode(mark), os.fsencode(shared)])


def start_body(*, umask: int, cwd: bytes, user: bytes, words: Sequence[bytes], environment: Sequence[bytes]) -> bytes:
    """ValueError: a text holds a NUL."""
    head = struct.pack("<III", umask, len(words), len(environment))
    return head + texts([cwd, user, *words, *environment])


def texts(parts: Iterable[bytes]) -> bytes:
    """Each ended by a NUL. ValueError where one holds one."""
    parts = list(parts)
    joined = b"\0".join([*parts, b""])
    if joined.count(b"\0") != len(parts):
        raise ValueError("embedded null byte")
    return joined


def ready_of(body: bytes) -> Ready:
    version, uid, gid, flags, memory = struct.unpack_from("<IIIIQ", body)
    cwd, rest = body[24:].split(b"\0", 1)
    variables = rest[4:].split(b"\0")[:-1]
    environment = dict(each.split(b"=", 1) for each in variables if b"=" in each)
    return Ready(
        version, uid, gid, bool(flags & 1), bool(flags & 2), bool(flags & 4), memory, os.fsdecode(cwd), environment
    )


def refused_of(body: bytes) -> Refused:
    stage, number, seen, folder = struct.unpack_from("<IIII", body)
    path, interpreter, _ = body[16:].split(b"\0")
    return Refused(stage, number, seen, bool(folder), os.fsdecode(path), os.fsdecode(interpreter))


def exited_of(body: bytes) -> Exited:
    code, kills, user, system, resident = struct.unpack("<iIQQQ", body)
    return Exited(code, kills, user / 1e6, system / 1e6, resident << 10)


def measured_of(body: bytes) -> int:
    return int(struct.unpack("<Q", body)[0])


def pid_of(body: bytes) -> int:
    return int(struct.unpack("<I", body)[0])


def error_of(body: bytes) -> str:
    return body.rstrip(b"\0").decode("utf-8", "replace")
