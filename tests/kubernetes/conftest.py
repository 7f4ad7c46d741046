"""One installation of the chart in a fresh namespace of a real cluster, for all tests of this folder (`make test-kubernetes`)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.runtime.engines.kubernetes.access import find_access
from paddock.testing import helm
from paddock.testing.clusters import Cluster, ClusterError, Installation, ServiceAddress, ServiceProxy, image_values

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"
PORT = 1659
VARIABLES = ("KUBECONFIG", "PADDOCK_TEST_IMAGE", "PADDOCK_TEST_USER_IMAGE")

# Without a cluster there is nothing to collect: `make test` passes by.
collect_ignore_glob = [] if all(os.environ.get(name) for name in VARIABLES) else ["test_*.py"]


def values() -> dict[str, Any]:
    policy = os.environ.get("PADDOCK_TEST_PULL_POLICY", "IfNotPresent")
    return {
        "image": {**image_values(os.environ["PADDOCK_TEST_IMAGE"]), "pullPolicy": policy},
        "server": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
        # Small requests, so that several workers fit on a small node.
        "workers": {"cpu": "50m"},
        "volume": {"size": "1Gi", "keep": False},
    }


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    found = Cluster(find_access(os.environ))
    yield found
    found.close()


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Iterator[Installation]:
    namespace = f"paddock-test-{secrets.token_hex(4)}"
    cluster.create_namespace(namespace)
    try:
        try:
            helm.install(CHART, values(), name="paddock", namespace=namespace)
        except helm.HelmError as error:
            pytest.fail(f"the chart does not become ready: {error}\n{cluster.describe(namespace)}", pytrace=False)
        with ServiceProxy(cluster, ServiceAddress(namespace, "paddock", PORT)) as proxy:
            yield Installation(cluster, CHART, namespace, "paddock", values(), proxy.url)
    finally:
        cluster.delete_namespace(namespace)


@pytest.fixture(scope="session")
def user_image() -> str:
    """Any image with sh, cp, tr, sed and awk."""
    return os.environ["PADDOCK_TEST_USER_IMAGE"]


@pytest.fixture
def services(installation: Installation) -> Iterator[Paddock]:
    with connect(url=installation.url, environment={"PADDOCK_CONFIG": os.devnull}) as found:
        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failure shows the cluster as it is then, before the namespace is deleted."""
    report = yield
    found = getattr(item, "funcargs", {}).get("installation")
    if report.failed and found is not None:
        try:
            report.sections.append(("cluster", found.cluster.describe(found.namespace)))
        except (ClusterError, OSError) as error:
            report.sections.append(("cluster", f"can't be described: {error}"))
    return report
