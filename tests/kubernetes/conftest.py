"""One installation of the chart in a fresh namespace of a real cluster, for all tests of this folder (`make test-kubernetes`)."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.model.services import Paddock
from paddock.runtime.engines.kubernetes.access import find_access
from paddock.testing import helm
from paddock.testing.clusters import Cluster, ClusterError, Installation, ServiceAddress, ServiceProxy, image_values
from paddock.testing.containers import build_runner
from paddock.testing.kubernetes.stand_in import stand_in_cluster

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"
PORT = 1659
STAND_IN = "stand-in"
"""In place of a KUBECONFIG: the cluster is this machine, see `paddock.testing.kubernetes.stand_in`."""
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


@contextmanager
def real_installation() -> Iterator[Installation]:
    cluster = Cluster(find_access(os.environ))
    namespace = f"paddock-test-{secrets.token_hex(4)}"
    release = {"name": "paddock", "namespace": namespace}
    cluster.create_namespace(namespace)
    try:
        try:
            helm.install(CHART, values(), **release)
        except helm.HelmError as error:
            pytest.fail(f"the chart does not become ready: {error}\n{cluster.describe(namespace)}", pytrace=False)
        with ServiceProxy(cluster, ServiceAddress(namespace, "paddock", PORT)) as proxy:
            yield Installation(
                cluster,
                namespace,
                values(),
                proxy.url,
                upgrade=lambda changed: helm.upgrade(CHART, changed, **release),
                uninstall=lambda: helm.uninstall(**release),
            )
    finally:
        cluster.delete_namespace(namespace)
        cluster.close()


@contextmanager
def stand_in_installation() -> Iterator[Installation]:
    images = os.environ["PADDOCK_TEST_IMAGE"], os.environ["PADDOCK_TEST_USER_IMAGE"]
    with tempfile.TemporaryDirectory(prefix="paddock-cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # users in containers are others
        runner = build_runner(folder / "runner")
        with stand_in_cluster(CHART, values(), folder, runner=runner, images=images, namespace="lab") as installation:
            yield installation


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    with stand_in_installation() if os.environ["KUBECONFIG"] == STAND_IN else real_installation() as found:
        yield found


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
