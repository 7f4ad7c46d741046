"""The chart's objects on the small cluster of the tests, with its servers as real processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock.client.connection import connect
from paddock.model.errors import PaddockError
from paddock.testing import helm
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.deployments import Deployments
from paddock.testing.kubernetes.kinds import BY_NAME, NAMESPACES, PODS
from paddock.testing.kubernetes.objects import Objects
from paddock.testing.kubernetes.stand_in import kubeconfig_of
from paddock.testing.postgres import RunningPostgres

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"
NAMESPACE = "lab"
LIMIT_SECONDS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not helm.helm_installed() and "CI" not in os.environ, reason="Helm is missing: install the extra `dev`"
    ),
]


@dataclass(frozen=True, slots=True)
class Installed:
    objects: Objects
    deployments: Deployments
    target: helm.Target

    @property
    def url(self) -> str:
        return self.deployments.url("paddock")

    def servers(self) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.objects.select(PODS, NAMESPACE)
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "server"
        ]

    def wait_ready(self, count: int = 1, *, without: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        """Until so many servers are ready; without: uids of pods that don't count."""
        found: list[dict[str, Any]] = []

        def ready() -> bool:
            found[:] = [
                pod
                for pod in self.servers()
                if pod["metadata"]["uid"] not in without
                and pod["status"].get("conditions", [{}])[0].get("status") == "True"
            ]
            return len(found) == count

        with self.objects.changed:
            assert self.objects.changed.wait_for(ready, LIMIT_SECONDS), [
                self.deployments.log(pod["metadata"]["name"]) for pod in self.servers()
            ]
        return found


@contextmanager
def installed(values: dict[str, Any], folder: Path) -> Iterator[Installed]:
    """By Helm itself, as it does it on any cluster."""
    with ApiServer() as api:
        api.objects.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(api.url)))
        target = helm.Target({**os.environ, "KUBECONFIG": str(kubeconfig)}, NAMESPACE)
        helm.install(CHART, values, target)
        with Deployments(api.objects, folder=folder, kubeconfig=kubeconfig) as deployments:
            yield Installed(api.objects, deployments, target)


def test_a_server_on_a_volume_is_replaced_and_keeps_its_data(tmp_path: Path) -> None:
    with installed({}, tmp_path) as cluster:
        (first,) = cluster.wait_ready()
        with connect(url=cluster.url, environment={}) as services:
            services.repos.create("data")
            services.files.put("data@main:/a", b"kept")
        cluster.objects.delete(PODS, NAMESPACE, first["metadata"]["name"], {"gracePeriodSeconds": 0})
        (second,) = cluster.wait_ready(without=frozenset([first["metadata"]["uid"]]))
        with connect(url=cluster.url, environment={}) as services:
            assert b"".join(services.files.read("data@main:/a")) == b"kept"
        helm.upgrade(CHART, {"server": {"upgradeHome": True}}, cluster.target)
        (third,) = cluster.wait_ready(without=frozenset([first["metadata"]["uid"], second["metadata"]["uid"]]))
        assert "is up to date" in cluster.deployments.log(third["metadata"]["name"])
        with connect(url=cluster.url, environment={}) as services:
            assert b"".join(services.files.read("data@main:/a")) == b"kept"
        helm.uninstall(cluster.target)
        with cluster.objects.changed:
            assert cluster.objects.changed.wait_for(lambda: not cluster.servers(), LIMIT_SECONDS)
        left = {
            (kind.name, found["metadata"]["name"])
            for kind in BY_NAME.values()
            for found in cluster.objects.select(kind, NAMESPACE)
        }
        assert left == {("PersistentVolumeClaim", "paddock")}, "the volume outlives the release, and nothing else"


def test_servers_with_a_database_stand_in_for_each_other(postgres: RunningPostgres, tmp_path: Path) -> None:
    catalog, storage = postgres.create("chart_servers"), (tmp_path / "store").as_uri()
    with installed({"catalog": {"url": catalog}, "storage": {"url": storage}}, tmp_path) as cluster:
        first, second = cluster.wait_ready(2)
        with connect(url=cluster.url, environment={}) as services:
            services.repos.create("data")
            services.files.put("data@main:/a", b"shared")
        for pod in (first, second):
            cluster.objects.delete(PODS, NAMESPACE, pod["metadata"]["name"], {"gracePeriodSeconds": 0})
            assert read_again(cluster.url) == b"shared"


def read_again(url: str) -> bytes:
    """As clients do that try again when a server has gone."""
    waiting = threading.Event()
    for _ in range(LIMIT_SECONDS * 10):
        try:
            with connect(url=url, environment={}) as services:
                return b"".join(services.files.read("data@main:/a"))
        except PaddockError:
            waiting.wait(0.1)
    raise AssertionError("no server answers")
