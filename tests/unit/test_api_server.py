"""How a server comes to its end."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import FastAPI

from paddock.api.exchanges import ExchangeDesk
from paddock.api.server import address_for_others, address_of, listen, serve


@pytest.fixture
def interpreter() -> Iterator[None]:
    """As it was before: a server sets its process up for itself."""
    seconds, thresholds = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(seconds)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_others_are_told_of_an_address_that_can_be_reached(host: str) -> None:
    with listen(host, 0) as listener:
        name = socket.gethostname() if host == "0.0.0.0" else host
        assert address_for_others(listener) == f"http://{name}:{listener.getsockname()[1]}"


@pytest.mark.usefixtures("interpreter")
def test_requests_that_are_held_open_are_answered_when_the_server_stops() -> None:
    app, held, stopping = FastAPI(), threading.Event(), asyncio.Event()
    app.state.exchanges = ExchangeDesk(None, root="", hosts=None)
    answers: list[int] = []

    @app.get("/")
    async def hold() -> None:
        held.set()
        await stopping.wait()

    with listen("127.0.0.1", 0) as listener:
        url = address_of(listener)
        client = threading.Thread(target=lambda: answers.append(httpx2.get(url, timeout=60).status_code))
        serve(app, listener, on_ready=client.start, on_stop=stopping.set, alive=lambda: not held.is_set())
    client.join(60)
    assert answers == [200]
