"""Guard against worker's tokens at large: one that somebody has found opens nothing but what its worker does (design note 039)."""

from __future__ import annotations

from paddock.api.origin import Application, Message, Receive, Send
from paddock.api.problems import problem_response
from paddock.model.errors import PermissionDenied
from paddock.versions.pools import TOKEN_PREFIX

_PATHS = ("agents", "objects", "scheduler", "version", "health", "ready")
"""Below the API's root: what workers ask for, and what tells nothing."""
_BEARER = b"bearer " + TOKEN_PREFIX.encode()


class WorkerTokenGuard:
    """Refuse requests that bear a worker's token and are none of a worker's."""

    def __init__(self, app: Application, *, root: str) -> None:
        self._app = app
        self._root = f"{root}/"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _bears_token(scope) and not self._is_for_workers(scope["path"]):
            refusal = PermissionDenied(
                f"{scope['method']} {scope['path']} is not for workers: their tokens are good for the work of their pool alone;"
                " leave the token out"
            )
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_for_workers(self, path: str) -> bool:
        return path.startswith(self._root) and path[len(self._root) :].partition("/")[0] in _PATHS


def _bears_token(scope: Message) -> bool:
    return any(
        name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER for name, value in scope["headers"]
    )
