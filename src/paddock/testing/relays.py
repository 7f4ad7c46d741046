"""A TCP relay in front of a server: counts what passes, and cuts connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Relays connections on `url` to the server at another URL, which may change (`target`).

    `sent` and `received` count the bytes to and from the server. At `cut_after` bytes sent or received, all connections are
    cut, once. `reached` is set when `notice_after` bytes were sent.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.sent = 0
        self.received = 0
        self.cut_after_sent: int | None = None
        self.cut_after_received: int | None = None
        self.cuts = 0
        self.notice_after: int | None = None
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            place = urlsplit(self.target)
            try:
                server = socket.create_connection((place.hostname or "", place.port or 80))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._relay, args=(source, sink, up), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
                self._count(len(data), up=up)
        except OSError:
            pass
        for each in (source, sink):
            _shut(each)
        with self._lock:
            self._open -= {source, sink}

    def _count(self, size: int, *, up: bool) -> None:
        with self._lock:
            self.sent += size if up else 0
            self.received += 0 if up else size
            cut = (self.cut_after_sent is not None and self.sent >= self.cut_after_sent) or (
                self.cut_after_received is not None and self.received >= self.cut_after_received
            )
            if cut:
                self.cut_after_sent = self.cut_after_received = None
                self.cuts += 1
            if self.notice_after is not None and self.sent >= self.notice_after:
                self.reached.set()
        if cut:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            open_now = list(self._open)
        for each in open_now:
            _shut(each)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


@contextmanager
def relay_to(target: str) -> Iterator[Relay]:
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
