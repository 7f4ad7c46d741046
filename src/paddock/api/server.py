"""Serving an application with uvicorn until the process is told to stop."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from paddock.api.exchange_connection import ExchangeConnection
from paddock.model.errors import Conflict, InvalidInput, PermissionDenied

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHUTDOWN_SECONDS = 5
"""How long open requests get to end once the server is told to stop; then their connections are cut."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Conflict where the port is in use."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (OSError, OverflowError) as error:
        raise InvalidInput(
            f"{host}:{port} is no address to listen on ({error}); name another --host or --port"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except PermissionError:
        listener.close()
        raise PermissionDenied(f"port {port} of {host} needs privileges; name one above 1023 with --port") from None
    except OSError as error:
        listener.close()
        raise Conflict(
            f"{host}:{port} is taken ({error.strerror}); stop what uses it, or name another --port"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def address_for_others(listener: socket.socket) -> str:
    """The URL by which other machines are likely to reach it: by this one's name, where it listens on all addresses."""
    host, port = listener.getsockname()[:2]
    return f"http://{socket.gethostname()}:{port}" if host in ("0.0.0.0", "::") else address_of(listener)


SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while others want it. Between two statements the scheduler waits for it as often as for the
database: with Python's 5 ms, a claim among a thousand workers took three times as long."""

GC_OBJECTS = 50_000
"""The collector looks at young objects after so many, and not at all at what was there when the server began: a look at everything
held up a thousand workers for some 100 ms."""


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        alive: Callable[[], bool],
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._alive = alive

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets=sockets)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or not self._alive()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signal again afterwards: what follows is an orderly exit."""
        before = {number: signal.signal(number, self.handle_exit) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    app: FastAPI,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
    alive: Callable[[], bool],
) -> None:
    """Serve until SIGTERM or SIGINT, or until `alive` says no (asked ten times a second); from the main thread.

    `on_ready` is called once requests are accepted; `on_stop` when no more are, and before those that are open are waited for.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 50)
    config = uvicorn.Config(
        app,
        log_config=None,
        http=ExchangeConnection,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    _Server(config, on_ready, on_stop, alive).run(sockets=[listener])
