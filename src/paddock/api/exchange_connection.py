"""Connections that answer an exchange as soon as it is read: no task, no cycle of ASGI and no middleware for each of them.

Whatever is unusual about a request, and whatever is refused, goes the way of every other one, through the application
(`exchanges`): here is only the answer to what comes a thousand times a second.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from paddock.api.exchanges import INLINE_BYTES_MAX, ExchangeDesk
from paddock.model.dataclass import dataclass
from paddock.runtime.engines.exchange_format import MEDIA_TYPE, read_up, write_down
from paddock.runtime.engines.network import POLL_SECONDS, Answer, NetworkEngine

_TARGET = rb"/agents/([0-9a-f]+)/exchange\?received=([0-9]{1,19})(?:&wait=(true|false))?"
"""As agents write it."""
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: " + MEDIA_TYPE.encode() + b"\r\n"


@dataclass(slots=True, eq=False)
class _Exchange:
    engine: NetworkEngine
    agent: str
    pool: str
    received: int
    wait: bool
    body: bytearray
    held: bool = False
    """Open until there is something for the agent."""

    def take(self, body: bytes) -> Answer:
        return self.engine.exchange(self.agent, pool=self.pool, received=self.received, messages=read_up(body))


class ExchangeConnection(HttpToolsProtocol):
    """One connection of the server; the parser calls `on_…` as it reads."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._desk: ExchangeDesk = config.app.state.exchanges  # type: ignore[union-attr]
        self._target = re.escape(self._desk.root).encode() + _TARGET
        self._exchange: _Exchange | None = None
        """The one that is read or held open."""
        self._due = 0.0
        """When an exchange has been held for long enough, or the connection has been idle for too long."""
        self._look: asyncio.TimerHandle | None = None
        """Looks at that. It is not set anew for each exchange, but for what is left when it fires."""

    def on_message_begin(self) -> None:
        if self._exchange is not None:
            # Only one exchange of a connection can be held open, and no agent sends the next before it has the answer.
            self._exchange = None
            self.transport.close()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._exchange = self._plain_exchange()
        if self._exchange is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
            return
        exchange.body += body
        if len(exchange.body) > INLINE_BYTES_MAX:
            self._hand_over(exchange)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            return
        if exchange.wait:
            exchange.engine.watch(exchange.agent, self._desk.wakes.waker(partial(self._answer, exchange)))
        try:
            found = exchange.take(bytes(exchange.body))
        except Exception:  # noqa: BLE001 (the application meets it again, and knows what to say of it)
            self._hand_over(exchange)
            super().on_message_complete()
            return
        if exchange.wait and not found.messages:
            exchange.held = True
            self._look_in(POLL_SECONDS)
        else:
            self._write(found)

    def shutdown(self) -> None:
        if self._exchange is not None:
            self._answer(self._exchange)
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._exchange = None
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _plain_exchange(self) -> _Exchange | None:
        """The exchange that a request is the head of, if it is one, and there is nothing else about it."""
        found, cluster = re.fullmatch(self._target, self.url), self._desk.cluster
        if found is None or cluster is None or cluster.engine is None:
            return None
        busy = self.cycle is not None and not self.cycle.response_complete
        parser = self.parser
        if busy or parser.get_method() != b"POST" or self.expect_100_continue or not parser.should_keep_alive():
            return None
        headers = dict(self.headers)
        pool = self._desk.known_pool(headers)
        if not pool:
            return None
        agent, received, wait = found.groups()
        return _Exchange(cluster.engine, agent.decode(), pool, int(received), wait == b"true", bytearray())

    def _answer(self, exchange: _Exchange) -> None:
        """Answer an exchange that is held open, with what there is for the agent by now."""
        if exchange is not self._exchange or not exchange.held:
            return  # it has been answered
        try:
            found = exchange.take(b"")
        except Exception:  # noqa: BLE001 (as above)
            self._hand_over(exchange)
            super().on_message_complete()
        else:
            self._write(found)

    def _write(self, answer: Answer) -> None:
        self._exchange = None
        body = write_down(answer)
        lines = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join([_HEAD, *lines, b"content-length: %d\r\n\r\n" % len(body), body]))
        self.server_state.total_requests += 1
        self._look_in(self.timeout_keep_alive)

    def _hand_over(self, exchange: _Exchange) -> None:
        """Let the application have the request, with what was read of its body. An exchange may be repeated."""
        self._exchange = None
        super().on_headers_complete()
        super().on_body(bytes(exchange.body))

    def _look_in(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds
        if self._look is None:
            self._look = self.loop.call_later(seconds, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        left = self._due - self.loop.time()
        if left > 0:
            self._look = self.loop.call_later(left, self._look_now)
        elif self._exchange is not None:
            self._answer(self._exchange)
        elif self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            self.timeout_keep_alive_handler()  # else the application has had it meanwhile, whose own timer looks after it
