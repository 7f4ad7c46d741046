"""The worker's end of the socket: whole messages in, whole messages out, and never a deadlock of two writers."""

from __future__ import annotations

import select
import socket
from collections import deque

from paddock.runtime.protocol import Message, decode, encode

READ_BYTES = 1 << 18


class EngineGoneError(Exception):
    """The other end is closed: the worker has to end, and with it all that it started."""


class Channel:
    """JSON lines over a stream socket. Not thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._partial: list[bytes] = []
        self.received: deque[Message] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> None:
        """Take in what has arrived, without waiting; whole messages go to `received`. EngineGoneError at
        the end of file.
        """
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise EngineGoneError(f"the engine's end is gone: {error.strerror}") from error
            if not data:
                raise EngineGoneError("the engine has closed the connection")
            self._split(data)

    def wait(self, also: int | None = None) -> bool:
        """Wait until something has arrived, and take it in; or until the descriptor `also` is readable: whether it is."""
        ready, _, _ = select.select([self._socket, *(() if also is None else (also,))], [], [])
        self.read()
        return also in ready

    def send(self, message: Message) -> None:
        """Write a whole message. Goes on reading while the other end does not take it, as that may be
        writing itself.
        """
        view = memoryview(encode(message))
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, InterruptedError):
                readable, _, _ = select.select([self._socket], [self._socket], [])
                if readable:
                    self.read()
            except OSError as error:
                raise EngineGoneError(f"the engine's end is gone: {error.strerror}") from error

    def _split(self, data: bytes) -> None:
        first, *rest = data.split(b"\n")
        self._partial.append(first)
        for line in rest:
            self.received.append(decode(b"".join(self._partial)))
            self._partial = [line]
