"""The way to a Service through an API server: requests and answers pass as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.model.errors import NotFound, Unavailable
from paddock.runtime.engines.kubernetes.access import Access
from paddock.testing import service_proxy
from paddock.testing.clusters import Cluster, image_values
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.servers import RunningServer, running_server
from paddock.testing.service_proxy import ServiceAddress, ServiceProxy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "home", workers=0) as found:
        yield found


def test_files_and_errors_pass_through(server: RunningServer) -> None:
    content = os.urandom(3 << 20)
    with ApiServer() as api:
        cluster = Cluster(Access(api.url, "default"))
        api.find_service = lambda namespace, name: server.url if (namespace, name) == ("lab", "paddock") else "none"
        address = ServiceAddress("lab", "paddock", 1659)
        with ServiceProxy(cluster, address) as proxy, connect(url=proxy.url, environment={}) as found:
            found.repos.create("data")
            found.files.put("data@main:/a b/é+%2F", content)
            assert b"".join(found.files.read("data@main:/a b/é+%2F")) == content
            with pytest.raises(NotFound, match="none"):
                found.repos.inspect("none")
            found.repos.delete("data")  # is answered without a body, and the connection goes on
            assert found.repos.list() == ()
        cluster.close()


def test_a_request_waits_for_a_pod_that_is_being_replaced(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find_service(_namespace: str, name: str) -> str:
        asked.append(name)
        return server.url if len(asked) > 2 else "http://127.0.0.1:1"

    with ApiServer() as api:
        cluster = Cluster(Access(api.url, "default"))
        api.find_service = find_service
        address = ServiceAddress("lab", "paddock", 1659)
        with ServiceProxy(cluster, address) as proxy, connect(url=proxy.url, environment={}) as found:
            assert found.repos.list() == ()
            monkeypatch.setattr(service_proxy, "RETRY_SECONDS", 0.0)
            asked.clear()
            with pytest.raises(Unavailable):
                found.repos.list()
        cluster.close()


@pytest.mark.parametrize(
    ("image", "values"),
    [
        ("paddock:1", {"repository": "paddock", "tag": "1"}),
        ("host:5000/paddock", {"repository": "host:5000/paddock", "tag": "latest"}),
        ("host:5000/a/paddock:2", {"repository": "host:5000/a/paddock", "tag": "2"}),
        ("paddock", {"repository": "paddock", "tag": "latest"}),
        ("paddock@sha256:ab", {"repository": "paddock", "digest": "sha256:ab"}),
    ],
)
def test_images_become_values(image: str, values: dict[str, str]) -> None:
    assert image_values(image) == values
