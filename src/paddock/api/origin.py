"""Guard against web pages: a browser on this machine must not be led to run commands through the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from paddock.api.problems import problem_response
from paddock.model.errors import PermissionDenied

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class OriginGuard:
    """Refuse requests under a foreign host name (DNS rebinding) or from pages of another origin.

    hosts: accepted names in the Host header, without port; None accepts every name.
    """

    def __init__(self, app: Application, *, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            origin = headers.get(b"origin", b"").decode("latin-1")
            reason = refusal(host, origin, self._hosts)
            if reason:
                response = problem_response(PermissionDenied(reason))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refusal(host: str, origin: str, hosts: Collection[str] | None) -> str:
    """Why a request with these headers is refused; empty where it is not."""
    name = urlsplit(f"//{host}").hostname or ""
    if hosts is not None and name not in hosts:
        return f"no server here is called {name!r}; use the address that `paddock up` printed"
    if origin and urlsplit(origin).netloc != host:
        return f"requests from pages of {origin} are refused"
    return ""
