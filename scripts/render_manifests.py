"""Write deploy/manifests from the Helm chart, which is the one truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from paddock.testing.helm import HelmError, Release, render

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
CHART = DEPLOY / "helm" / "paddock"
NAMESPACE = "paddock"

ONE_SERVER = """\
# One server with its home on a volume: a way to try Paddock that needs one image, and nothing else.
# Set the image (`paddock:0.1.0`, twice) to yours, and: kubectl apply -f one-server.yaml
"""
SERVERS = """\
# Two servers, whose home is in a PostgreSQL database and an object store.
# Set to yours: the image (`paddock:0.1.0`, twice), PADDOCK_CATALOG, PADDOCK_STORAGE and AWS_REGION. Then
#   kubectl create namespace paddock
#   kubectl --namespace paddock create secret generic paddock-catalog --from-literal=PGPASSWORD=…
#   kubectl --namespace paddock create secret generic paddock-storage \\
#     --from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…
#   kubectl apply -f servers.yaml
"""
GENERATED = "# Made from the Helm chart by `make manifests`; change that.\n"

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one-server.yaml": (ONE_SERVER, {}),
    "servers.yaml": (
        SERVERS,
        {
            "catalog": {"url": "postgresql://paddock@postgres.example/paddock", "existingSecret": "paddock-catalog"},
            "storage": {
                "url": "s3://bucket/paddock",
                "existingSecret": "paddock-storage",
                "env": {"AWS_REGION": "us-east-1"},
            },
        },
    ),
}


def manifests() -> dict[str, str]:
    """`{file name: text}` of all."""
    releases = [Release(values, namespace=NAMESPACE) for _, values in VARIANTS.values()]
    return {
        name: head + GENERATED + "---\n" + yaml.safe_dump_all(_with_namespace(found), sort_keys=False, width=120)
        for (name, (head, _)), found in zip(VARIANTS.items(), render(CHART, *releases), strict=True)
    }


def _with_namespace(objects: list[dict[str, Any]] | HelmError) -> list[dict[str, Any]]:
    if isinstance(objects, HelmError):
        raise objects
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        # Users' images may run as root, but get no rights over the node.
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}},
    }
    for found in objects:
        found["metadata"] = {"name": found["metadata"]["name"], "namespace": NAMESPACE, **found["metadata"]}
    return [namespace, *objects]


def main() -> int:
    for name, text in manifests().items():
        path = DEPLOY / "manifests" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote deploy/manifests/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
