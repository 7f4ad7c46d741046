"""A whole cluster on this machine, with the chart installed: for trying what is meant for a real one. Needs root, and a runner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from paddock.runtime.engines.kubernetes.access import Access
from paddock.testing.clusters import Cluster, Installation, wait_until
from paddock.testing.helm import HelmError, Release, render
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.containers import SYSTEM_IMAGE, paddock_image
from paddock.testing.kubernetes.deployments import TEMPLATE, Deployments, template_mark
from paddock.testing.kubernetes.kinds import DEPLOYMENTS, NAMESPACES, PODS
from paddock.testing.kubernetes.kubelet import Kubelet
from paddock.testing.kubernetes.objects import Objects, kind_of
from paddock.testing.kubernetes.statuses import RefusedError

START_SECONDS = 120
NODES = {name: {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "0"} for name in ("node-a", "node-b")}


@contextmanager
def stand_in_cluster(
    chart: Path, values: Mapping[str, Any], folder: Path, *, runner: Path, images: tuple[str, str], namespace: str
) -> Iterator[Installation]:
    """folder: to be read by every user. images: the names of Paddock's image and of the user's; this machine stands in for both."""
    with ApiServer() as api:
        kubelet = Kubelet(
            api, folder / "nodes", {images[0]: paddock_image(runner), images[1]: SYSTEM_IMAGE}, nodes=NODES
        )
        api.objects.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(api.url, namespace)), encoding="utf-8")
        with kubelet, Deployments(api.objects, folder=folder, kubeconfig=kubeconfig) as deployments:
            install(api.objects, chart, values, namespace)
            cluster = Cluster(Access(api.url, namespace))
            yield Installation(
                cluster,
                namespace,
                dict(values),
                deployments.url("paddock"),
                upgrade=lambda changed: install(api.objects, chart, changed, namespace),
                uninstall=lambda: uninstall(api.objects, chart, values, namespace),
            )
            cluster.close()


def kubeconfig_of(url: str, namespace: str) -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "namespace": namespace}}],
        "clusters": [{"name": "one", "cluster": {"server": url}}],
    }


def install(objects: Objects, chart: Path, values: Mapping[str, Any], namespace: str) -> None:
    """Create what the chart renders, or change what there is to it, and wait until the servers are ready."""
    (rendered,) = render(chart, Release(values, namespace=namespace))
    if isinstance(rendered, HelmError):
        raise rendered
    for found in rendered:
        kind, name = kind_of(found), found["metadata"]["name"]
        try:
            objects.get(kind, namespace, name)
        except RefusedError:
            objects.create(kind, namespace, found)
        else:
            objects.update(kind, namespace, name, found)
    wait_until("the servers are ready", lambda: is_ready(objects, namespace), seconds=START_SECONDS)


def is_ready(objects: Objects, namespace: str) -> bool:
    """Whether there are as many servers as are asked for, all of them as they are asked for and ready."""
    deployment = objects.get(DEPLOYMENTS, namespace, "paddock")
    pods = objects.select(PODS, namespace, lambda pod: TEMPLATE in pod["metadata"].get("annotations", {}))
    wanted = template_mark(deployment)
    return len(pods) == deployment["spec"]["replicas"] and all(
        pod["metadata"]["annotations"][TEMPLATE] == wanted
        and any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", ()))
        for pod in pods
    )


def uninstall(objects: Objects, chart: Path, values: Mapping[str, Any], namespace: str) -> None:
    (rendered,) = render(chart, Release(values, namespace=namespace))
    if isinstance(rendered, HelmError):
        raise rendered
    for found in rendered:
        objects.delete(kind_of(found), namespace, found["metadata"]["name"], {})
