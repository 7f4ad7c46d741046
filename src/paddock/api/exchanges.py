"""The one request that comes a thousand times a second: an agent's exchange, answered without a web framework.

At a thousand agents FastAPI's part of an exchange (routing, parameters, dependencies in threads) was nine tenths of its cost. The
plain ones do not even come here: `exchange_connection` answers them as they are read.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from urllib.parse import parse_qs

from starlette.responses import Response

from paddock.api.agents import cluster_of, engine_of, token_of
from paddock.api.origin import Application, Message, Receive, Send, refusal
from paddock.api.problems import problem_response
from paddock.model.errors import InvalidInput, PaddockError
from paddock.runtime.cluster import Cluster
from paddock.runtime.engines.exchange_format import MEDIA_TYPE, read_up, write_down
from paddock.runtime.engines.network import POLL_SECONDS, Answer, NetworkEngine

INLINE_BYTES_MAX = 64 << 10
"""Longer bodies (reports of large batches) are read in a thread, so that they hold up nobody."""
BODY_BYTES_MAX = 512 << 20
"""Agents send 8 MiB at once, or one report that is longer."""

_YES_AND_NO = {"": False, "true": True, "false": False}


class ExchangeDesk:
    """What all that answer exchanges of one server share."""

    def __init__(self, cluster: Cluster | None, *, root: str, hosts: Collection[str] | None) -> None:
        self.cluster = cluster
        self.root = root
        self.wakes = _Wakes()
        self._hosts = hosts

    def known_pool(self, headers: Mapping[bytes, bytes]) -> str:
        """The pool of a request that is allowed, and whose token need not be looked up; else empty."""
        host, origin, given = (
            headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin", b"authorization")
        )
        if self.cluster is None or refusal(host, origin, self._hosts):
            return ""
        kind, _, token = given.partition(" ")
        return self.cluster.known_pool(token) if kind.lower() == "bearer" else ""


class Exchanges:
    """Answers `POST ROOT/agents/{agent}/exchange?received=N&wait=true`; hands all else to the application.

    received: all messages with lower numbers have arrived. wait: hold the answer until there is a message, some seconds at most.
    """

    def __init__(self, app: Application, *, desk: ExchangeDesk) -> None:
        self._app = app
        self._path = re.compile(re.escape(desk.root) + "/agents/([^/]+)/exchange")
        self._cluster = desk.cluster
        self._wakes = desk.wakes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        found = self._path.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        try:
            body = await _body(receive)
            if body is None:
                return
            response = await self._exchange(found[1], scope, body)
        except PaddockError as error:
            response = problem_response(error)
        await response(scope, receive, send)

    async def _exchange(self, agent: str, scope: Message, body: bytes) -> Response:
        cluster = cluster_of(self._cluster)
        received, wait = _parameters(scope["query_string"])
        token = token_of(_header(scope, b"authorization"))
        pool = cluster.known_pool(token) or await asyncio.to_thread(cluster.pool_of_token, token)
        engine = engine_of(cluster)
        arrived = asyncio.Event()
        if wait:
            engine.watch(agent, self._wakes.waker(arrived.set))
        take = partial(_take, engine, agent, pool, received, body)
        found = await asyncio.to_thread(take) if len(body) > INLINE_BYTES_MAX else take()
        if wait and not found.messages:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await arrived.wait()
            except TimeoutError:
                pass
            found = _take(engine, agent, pool, received, b"")
        return Response(write_down(found), media_type=MEDIA_TYPE)


class _Wakes:
    """Calls into the server's event loop from other threads: those that are made in a row, as one."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], object]] = deque()
        self._called = False

    def waker(self, call: Callable[[], object]) -> Callable[[], None]:
        """What has the running loop make this call, from any thread."""
        return partial(self._wake, asyncio.get_running_loop(), call)

    def _wake(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        self._due.append(call)
        if not self._called:
            self._called = True
            try:
                loop.call_soon_threadsafe(self._make_calls)
            except RuntimeError:
                pass  # the server is going down, and with it whoever waits

    def _make_calls(self) -> None:
        self._called = False  # first, so that whoever comes while this runs calls again
        while self._due:
            self._due.popleft()()


def _take(engine: NetworkEngine, agent: str, pool: str, received: int, body: bytes) -> Answer:
    return engine.exchange(agent, pool=pool, received=received, messages=read_up(body))


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the agent has gone before it was complete."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part, more = message.get("body", b""), message.get("more_body", False)
        parts.append(part)
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise InvalidInput(f"an exchange has at most {BODY_BYTES_MAX} bytes; send fewer messages at once")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parameters(query: bytes) -> tuple[int, bool]:
    given = parse_qs(query.decode("latin-1"))
    received, wait = given.get("received", [""])[-1], given.get("wait", [""])[-1]
    if not (received.isascii() and received.isdigit() and len(received) < 20) or wait not in _YES_AND_NO:
        raise InvalidInput(
            f"received={received!r} and wait={wait!r} are no number and true or false; use the same Paddock version on both sides"
        )
    return int(received), _YES_AND_NO[wait]


def _header(scope: Message, name: bytes) -> str:
    value: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return value.decode("latin-1")
