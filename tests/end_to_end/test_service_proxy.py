"""The way to a Service through an API server: requests and answers pass as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.model.errors import NotFound, Unavailable
from paddock.runtime.engines.kubernetes.access import Access
from paddock.testing.clusters import Cluster, ServiceAddress, ServiceProxy, image_values
from paddock.testing.servers import RunningServer, running_server


class Direct(ServiceAddress):
    """Where the server itself answers, without an API server before it."""

    path = ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "home", workers=0) as found:
        yield found


def test_files_and_errors_pass_through(server: RunningServer, tmp_path: Path) -> None:
    cluster = Cluster(Access(server.url, "default"))
    content = os.urandom(3 << 20)
    with ServiceProxy(cluster, Direct("ns", "paddock", 1659)) as proxy, connect(url=proxy.url, environment={}) as found:
        found.repos.create("data")
        found.files.put("data@main:/a", content)
        assert b"".join(found.files.read("data@main:/a")) == content
        with pytest.raises(NotFound, match="none"):
            found.repos.inspect("none")
        server.process.kill()
        server.process.wait()
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
