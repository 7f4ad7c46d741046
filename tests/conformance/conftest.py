"""Every way in that is to behave the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.testing.servers import running_server


@pytest.fixture(scope="module", params=["embedded", "http", "shared"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paddock]:
    """embedded: a home in a folder. http: a server of one. shared: a home on PostgreSQL and a store by URL."""
    home = tmp_path_factory.mktemp(request.param) / "home"
    match request.param:
        case "embedded":
            with connect(home, environment={}) as paddock:
                yield paddock
        case "http":
            with running_server(home, workers=2) as server, connect(url=server.url, environment={}) as paddock:
                yield paddock
        case _:
            url = request.getfixturevalue("postgres").create(f"services_{home.parent.name}_{request.module.__name__}")
            with connect(catalog=url, storage=home.as_uri(), environment={}) as paddock:
                yield paddock
