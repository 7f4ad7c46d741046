"""One installation of the chart in a fresh namespace of a real cluster, for all tests of this folder (`make test-kubernetes`)."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock.client.connection import connect
from paddock.model.json_patches import merge
from paddock.model.services import Paddock
from paddock.runtime.engines.kubernetes.access import find_access
from paddock.testing import helm
from paddock.testing.clusters import Cluster, Installation, image_values, wait_until
from paddock.testing.containers import build_runner
from paddock.testing.kubernetes.stand_in import stand_in_cluster
from paddock.testing.service_proxy import ServiceAddress, ServiceProxy

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"
PORT = 1659
INSTALL_SECONDS = 300
STAND_IN = "stand-in"
"""In place of a KUBECONFIG: the cluster is this machine, see `paddock.testing.kubernetes.stand_in`."""
VARIABLES = ("KUBECONFIG", "PADDOCK_TEST_IMAGE", "PADDOCK_TEST_USER_IMAGE")
RIGHTS = {
    "namespaces": "create get patch delete",
    "nodes": "list patch",
    "pods": "list delete",
    "pods/log": "get",
    "pods/eviction": "create",
    "services/proxy": "get create update delete",
    "events": "list",
    "secrets": "list get create update delete",
    "services": "get create patch delete",
    "serviceaccounts": "get create patch delete",
    "persistentvolumeclaims": "get create patch delete",
    "roles.rbac.authorization.k8s.io": "get create patch delete",
    "rolebindings.rbac.authorization.k8s.io": "get create patch delete",
    "networkpolicies.networking.k8s.io": "get create patch delete",
    "deployments.apps": "list get create patch delete",
    "subjectaccessreviews.authorization.k8s.io": "create",
}
"""What these tests do themselves and have Helm do. An administrator may do all of it."""

# Without a cluster there is nothing to collect: `make test` passes by.
collect_ignore_glob = [] if all(os.environ.get(name) for name in VARIABLES) else ["test_*.py"]


def values() -> dict[str, Any]:
    """What is installed; PADDOCK_TEST_VALUES names a file with more, as `helm --values` takes it (a storage class, tolerations)."""
    own = {
        "image": {
            **image_values(os.environ["PADDOCK_TEST_IMAGE"]),
            "pullPolicy": os.environ.get("PADDOCK_TEST_PULL_POLICY", "IfNotPresent"),
        },
        "server": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
        # Small requests, so that several workers fit on a small node.
        "workers": {"cpu": "50m"},
        "volume": {"size": "1Gi", "keep": False},
        # The tests come by way of the API server, which is no pod.
        "networkPolicy": {"clients": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]},
    }
    file = os.environ.get("PADDOCK_TEST_VALUES")
    found: dict[str, Any] = merge(own, yaml.safe_load(Path(file).read_text())) if file else own
    return found


@contextmanager
def installed(namespace: str, environment: Mapping[str, str]) -> Iterator[Installation]:
    cluster = Cluster(find_access(environment))
    target = helm.Target(environment, namespace)
    found: Installation | None = None
    try:
        cluster.create_namespace(namespace, "baseline")
        try:
            if missing := cluster.missing_rights(namespace, RIGHTS):
                pytest.exit(f"the user of KUBECONFIG lacks rights: {', '.join(missing)}", returncode=2)
            with ServiceProxy(cluster, ServiceAddress(namespace, "paddock", PORT)) as proxy:
                found = Installation(cluster, namespace, values(), proxy.url, target)
                install(found)
                yield found
        finally:
            cluster.delete_namespace(namespace)
    finally:
        cluster.close()


def install(installation: Installation) -> None:
    """Until the server is ready. A volume that belongs to root, and whose driver knows no fsGroup, is given to the server, as the
    how-to says."""
    try:
        try:
            helm.install(CHART, installation.values, installation.target)
            installation.wait_ready(INSTALL_SECONDS)
        except AssertionError as error:
            if "no permission for" not in str(error):
                raise
            sys.stderr.write(f"volume.fixOwnership is set, since the volume is not the server's: {error}\n")
            installation.values["volume"]["fixOwnership"] = True
            failed = servers(installation)
            helm.upgrade(CHART, installation.values, installation.target)
            # Its pod is there for a moment longer, and must not be taken for the new one.
            wait_until("the first server is gone", lambda: not failed & servers(installation), seconds=INSTALL_SECONDS)
            installation.wait_ready(INSTALL_SECONDS)
    except (helm.HelmError, AssertionError) as error:
        shown = installation.cluster.describe(installation.namespace)
        pytest.fail(f"the chart does not become ready: {error}\n{shown}", pytrace=False)


def servers(installation: Installation) -> set[str]:
    """The uids of their pods."""
    return {pod["metadata"]["uid"] for pod in installation.cluster.pods(installation.namespace, "server")}


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    namespace = f"paddock-test-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        environment = dict(os.environ)
        if environment["KUBECONFIG"] == STAND_IN:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="paddock-cluster-", ignore_cleanup_errors=True))
            )
            folder.chmod(0o755)  # users in containers are others
            runner = build_runner(folder / "runner")
            images = environment["PADDOCK_TEST_IMAGE"], environment["PADDOCK_TEST_USER_IMAGE"]
            account = f"system:serviceaccount:{namespace}:paddock"
            cluster = stand_in_cluster(folder, runner=runner, images=images, account=account)
            environment["KUBECONFIG"] = str(stack.enter_context(cluster))
        yield stack.enter_context(installed(namespace, environment))


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
    if report.failed and report.when != "teardown" and found is not None:
        report.sections.append(("cluster", found.cluster.describe(found.namespace)))
    return report
