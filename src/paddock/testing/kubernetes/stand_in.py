"""A whole cluster on this machine, for trying what is meant for a real one. Needs root, and a runner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from paddock.testing.containers import busybox
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.containers import SYSTEM_IMAGE, busybox_image, paddock_image
from paddock.testing.kubernetes.deployments import Deployments
from paddock.testing.kubernetes.kubelet import Kubelet

NODES = {name: {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "0"} for name in ("node-a", "node-b")}
SERVER_TOKEN = "of-the-server"


@contextmanager
def stand_in_cluster(folder: Path, *, runner: Path, images: tuple[str, str], account: str) -> Iterator[Path]:
    """The kubeconfig of its administrator. folder: to be read by every user.

    images: the names of Paddock's image and of the user's. This machine stands in for both, a busybox for one that is called so.
    account: the user as which the servers ask; Roles decide what that may do.
    """
    users = busybox_image(folder / "busybox") if "busybox" in images[1] and busybox() else SYSTEM_IMAGE
    with ApiServer() as api:
        api.accounts[SERVER_TOKEN] = account
        kubelet = Kubelet(api, folder / "nodes", {images[0]: paddock_image(runner), images[1]: users}, nodes=NODES)
        administrator, server = folder / "kubeconfig", folder / "kubeconfig-server"
        administrator.write_text(yaml.safe_dump(kubeconfig_of(api.url)), encoding="utf-8")
        server.write_text(yaml.safe_dump(kubeconfig_of(api.url, token=SERVER_TOKEN)), encoding="utf-8")
        with kubelet, Deployments(api.objects, folder=folder, kubeconfig=server) as deployments:
            api.find_service = lambda _namespace, service: deployments.url(service)
            yield administrator


def kubeconfig_of(url: str, token: str = "") -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": url}}],
        "users": [{"name": "one", "user": {"token": token}}],
    }
