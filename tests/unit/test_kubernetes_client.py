"""The Kubernetes client against the API server of `paddock.testing.kubernetes`."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock.model.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from paddock.runtime.engines.kubernetes.access import Access, find_access
from paddock.runtime.engines.kubernetes.client import KubernetesClient, VersionGoneError
from paddock.runtime.engines.kubernetes.objects import Resource
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.kinds import PODS, QUOTAS, SECRETS
from paddock.testing.kubernetes.rights import Rule
from paddock.testing.kubernetes.statuses import RefusedError

PODS_HERE = Resource("pods", "default")
SECRETS_HERE = Resource("secrets", "default")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(server: ApiServer) -> Iterator[KubernetesClient]:
    client = client_of(server)
    yield client
    client.close()


def client_of(server: ApiServer, **access: Any) -> KubernetesClient:
    return KubernetesClient(Access(server.url, "default", **access), wait=lambda _seconds: None)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "one", "image": "busybox:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"pool": "a"}},
        "spec": {"containers": [container], **spec},
    }


def secret(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"token": "c2VjcmV0"}}


def owned(found: dict[str, Any], owner: dict[str, Any]) -> dict[str, Any]:
    reference = {
        "apiVersion": "v1",
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    found["metadata"]["ownerReferences"] = [reference]
    return found


def test_an_object_is_created_read_changed_and_deleted(client: KubernetesClient) -> None:
    made = client.create(SECRETS_HERE, secret("s"))
    assert client.get(SECRETS_HERE, "s") == made
    changed = client.patch(SECRETS_HERE, "s", {"data": {"token": "b3RoZXI="}, "metadata": {"labels": {"a": "b"}}})
    assert changed["data"] == {"token": "b3RoZXI="}
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    client.delete(SECRETS_HERE, "s")
    with pytest.raises(NotFound, match='secrets "s" not found'):
        client.get(SECRETS_HERE, "s")


def test_refusals_become_the_errors_that_say_what_to_do(server: ApiServer, client: KubernetesClient) -> None:
    client.create(PODS_HERE, pod("p"))
    with pytest.raises(AlreadyExists):
        client.create(PODS_HERE, pod("p"))
    with pytest.raises(InvalidInput, match=r'unknown field "spec.hostNetwrok"'):
        client.create(PODS_HERE, pod("q", hostNetwrok=True))
    with pytest.raises(InvalidInput, match="restartPolicy"):
        client.create(PODS_HERE, pod("q", restartPolicy="Sometimes"))
    with pytest.raises(InvalidInput, match="lowercase RFC 1123"):
        client.create(PODS_HERE, pod("Q"))
    with pytest.raises(Conflict):
        client.delete(PODS_HERE, "p", uid="of another one")
    with pytest.raises(NotFound, match="namespaces"):
        client.create(Resource("pods", "elsewhere"), pod("p"))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    server.objects.create(QUOTAS, "default", quota)
    with pytest.raises(LimitExceeded, match="exceeded quota: few"):
        client.create(PODS_HERE, pod("q"))


def test_rights_are_asked_for_and_named_when_missing() -> None:
    with ApiServer(token="t", rules=[Rule(["pods"], ["get", "list"])]) as server:
        with closing(client_of(server, token="t")) as client:
            assert client.select(PODS_HERE)[0] == []
            with pytest.raises(PermissionDenied, match='cannot create resource "pods"'):
                client.create(PODS_HERE, pod("p"))
        with (
            closing(client_of(server, token="other")) as client,
            pytest.raises(PermissionDenied, match="does not know who asks"),
        ):
            client.select(PODS_HERE)


def test_a_policy_that_refuses_is_passed_on(server: ApiServer, client: KubernetesClient) -> None:
    def policy(_kind: object, found: dict[str, Any]) -> None:
        raise RefusedError(
            403,
            "Forbidden",
            f'pods "{found["metadata"]["name"]}" is forbidden: violates PodSecurity "restricted:latest"',
        )

    server.objects.admission.append(policy)
    with pytest.raises(InvalidInput, match="violates PodSecurity"):
        client.create(PODS_HERE, pod("p"))


def test_a_busy_server_is_asked_again_and_at_last_unavailable(server: ApiServer) -> None:
    pauses: list[float] = []
    busy = [RefusedError(429, "TooManyRequests", "slow down", retry_after=7), RefusedError(503, "x", "starting")]
    server.trouble.refuse = lambda _request: busy.pop() if busy else None
    with closing(KubernetesClient(Access(server.url, "default"), wait=pauses.append)) as client:
        assert client.select(PODS_HERE)[0] == []
        assert len(pauses) == 2
        assert pauses[1] == 7
        server.trouble.refuse = lambda _request: RefusedError(500, "InternalError", "etcd is gone")
        with pytest.raises(Unavailable, match="etcd is gone"):
            client.select(PODS_HERE)


def test_a_create_whose_answer_was_lost_finds_its_object(server: ApiServer, client: KubernetesClient) -> None:
    server.trouble.lose_answers = 1
    with pytest.raises(AlreadyExists):
        client.create(PODS_HERE, pod("p"))
    assert len(server.objects.select(PODS, "default")) == 1


def test_a_server_that_is_away_is_unavailable() -> None:
    with ApiServer() as server:
        client = client_of(server)
    with pytest.raises(Unavailable, match="can't be reached"):
        client.select(PODS_HERE)


def test_long_lists_come_in_pages(server: ApiServer, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.runtime.engines.kubernetes.client.PAGE", 3)
    for number in range(7):
        server.objects.create(SECRETS, "default", secret(f"s{number}"))
    found, version = client.select(SECRETS_HERE)
    assert [one["metadata"]["name"] for one in found] == [f"s{number}" for number in range(7)]
    assert version == str(server.objects.version)


def test_selectors_choose(server: ApiServer, client: KubernetesClient) -> None:
    client.create(PODS_HERE, pod("a"))
    client.create(PODS_HERE, pod("b") | {"metadata": {"name": "b", "labels": {"pool": "b"}}})

    def names(**selectors: str) -> list[str]:
        return [one["metadata"]["name"] for one in client.select(PODS_HERE, **selectors)[0]]

    assert names(labels="pool=a") == ["a"]
    assert names(labels="pool!=a") == ["b"]
    assert names(labels="pool in (a,b),pool") == ["a", "b"]
    assert names(labels="pool notin (a)") == ["b"]
    assert names(fields="metadata.name=b") == ["b"]
    with pytest.raises(InvalidInput, match="field label not supported"):
        names(fields="spec.nonsense=1")


def test_a_watch_tells_what_happens_after_a_version(server: ApiServer, client: KubernetesClient) -> None:
    _, version = client.select(PODS_HERE, labels="pool=a")
    events = client.watch(PODS_HERE, version=version, labels="pool=a")
    server.objects.create(PODS, "default", pod("p"))
    server.objects.create(PODS, "default", pod("q") | {"metadata": {"name": "q", "labels": {"pool": "b"}}})
    with server.objects.changing(PODS, "default", "p") as found:
        found["metadata"]["labels"]["pool"] = "b"
    seen = []
    assert next(events).type == "OPENED"
    for event in events:
        if event.type == "BOOKMARK":
            assert event.found["metadata"]["resourceVersion"] == str(server.objects.version)
            break
        seen.append((event.type, event.found["metadata"]["name"]))
    assert seen == [("ADDED", "p"), ("DELETED", "p")]


def test_a_watch_from_a_forgotten_version_says_so(server: ApiServer, client: KubernetesClient) -> None:
    _, version = client.select(PODS_HERE)
    server.objects.create(PODS, "default", pod("p"))
    server.objects.forget_history()
    with pytest.raises(VersionGoneError):
        list(client.watch(PODS_HERE, version=version))


def test_closing_ends_a_watch_at_once(server: ApiServer, client: KubernetesClient) -> None:
    outcome: list[str] = []
    begun = threading.Event()

    def follow() -> None:
        try:
            for _ in client.watch(PODS_HERE, version=str(server.objects.version)):
                begun.set()
        except Unavailable:
            outcome.append("unavailable")

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()


# ---- the server's own rules ----------------------------------------------------------------------------------


def test_what_an_owner_owns_is_collected_after_it(server: ApiServer, client: KubernetesClient) -> None:
    owner = client.create(SECRETS_HERE, secret("owner"))
    client.create(PODS_HERE, owned(pod("p"), owner))
    client.delete(SECRETS_HERE, "owner")
    assert client.select(PODS_HERE)[0] == []
    client.create(PODS_HERE, owned(pod("late"), owner))
    assert client.select(PODS_HERE)[0] == [], "an owner that does not exist (any more) is no owner"


def test_finalizers_hold_an_object_until_they_are_gone(server: ApiServer, client: KubernetesClient) -> None:
    held = secret("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    client.create(SECRETS_HERE, held)
    client.delete(SECRETS_HERE, "held")
    assert "deletionTimestamp" in client.get(SECRETS_HERE, "held")["metadata"]
    client.patch(SECRETS_HERE, "held", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        client.get(SECRETS_HERE, "held")


def test_a_pod_on_a_node_has_its_grace(server: ApiServer, client: KubernetesClient) -> None:
    client.create(PODS_HERE, pod("p"))
    with server.objects.changing(PODS, "default", "p") as found:
        found["spec"]["nodeName"] = "n"
    client.delete(PODS_HERE, "p")
    metadata = client.get(PODS_HERE, "p")["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 30
    client.delete(PODS_HERE, "p", grace_seconds=0)
    assert client.select(PODS_HERE)[0] == []


def test_an_update_of_an_old_version_is_a_conflict_and_the_status_is_apart(server: ApiServer) -> None:
    made = server.objects.create(PODS, "default", pod("p"))
    changed = json.loads(json.dumps(made)) | {"status": {"phase": "Running"}}
    assert server.objects.update(PODS, "default", "p", changed)["status"]["phase"] == "Pending"
    assert server.objects.update(PODS, "default", "p", changed, status=True)["status"]["phase"] == "Running"
    with pytest.raises(RefusedError, match="has been modified"):
        server.objects.update(PODS, "default", "p", made)
    made["metadata"].pop("resourceVersion")
    made["spec"]["nodeName"] = "elsewhere"
    with pytest.raises(RefusedError, match="pod updates may not change"):
        server.objects.update(PODS, "default", "p", made)


# ---- access --------------------------------------------------------------------------------------------------


def config(folder: Path, *, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    file = folder / "config"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "mine"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_kubeconfig_names_server_namespace_and_token(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    file = config(tmp_path, cluster={"server": "http://127.0.0.1:1/"}, user={"tokenFile": "secret"})
    access = find_access({"KUBECONFIG": f"/nowhere:{file}"})
    assert (access.server, access.namespace, access.authorization()) == (
        "http://127.0.0.1:1",
        "mine",
        "Bearer from a file",
    )
    file = config(tmp_path, cluster={"server": "http://127.0.0.1:1"}, user={"username": "a", "password": "b"})
    assert find_access({"KUBECONFIG": str(file)}).authorization() == "Basic YTpi"


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({"server": "http://x"}, {"auth-provider": {"name": "gcp"}}, "by an auth-provider, which is not supported"),
        ({}, {}, "names no server"),
        ({"server": "https://x", "certificate-authority-data": "!"}, {}, "certificate-authority"),
        ({"server": "https://x", "certificate-authority": "nowhere.pem"}, {}, "certificate-authority"),
        (
            {"server": "https://x", "certificate-authority-data": base64.b64encode(b"none").decode()},
            {},
            "certificates of",
        ),
    ],
)
def test_a_kubeconfig_that_can_not_be_used_says_why(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        find_access({"KUBECONFIG": str(config(tmp_path, cluster=cluster, user=user))})


def program(folder: Path, script: str, **fields: Any) -> dict[str, Any]:
    """A user whose credentials a program gives."""
    (folder / "login").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "login").chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", **fields}}


def test_a_program_gives_the_token_and_is_asked_again_when_it_ends(tmp_path: Path) -> None:
    script = """
echo x >> $COUNT; test "$1" = token || exit 9
printf %s "$KUBERNETES_EXEC_INFO" > $COUNT.asked
echo '{"status": {"token": "t'$(wc -l < $COUNT)'", "expirationTimestamp": "'$ENDS'"}}'
"""
    count = {"name": "COUNT", "value": str(tmp_path / "count")}
    for ends, tokens in (("2000-01-01T00:00:00Z", ["t1", "t2"]), ("2999-01-01T00:00:00Z", ["t3", "t3"])):
        variables = [count, {"name": "ENDS", "value": ends}]
        user = program(tmp_path, script, args=["token"], env=variables, provideClusterInfo=True)
        access = find_access({"KUBECONFIG": str(config(tmp_path, cluster={"server": "http://x"}, user=user))})
        assert [access.authorization(), access.authorization()] == [f"Bearer {token}" for token in tokens]
    asked = json.loads((tmp_path / "count.asked").read_text())
    assert asked["spec"] == {"interactive": False, "cluster": {"server": "http://x"}}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo log in first >&2; exit 1", "exit code 1: log in first"),
        ("echo token", "without an ExecCredential"),
        ("""echo '{"status": {"token": "t", "expirationTimestamp": "soon"}}'""", "without an ExecCredential"),
    ],
)
def test_a_program_that_gives_nothing_is_named(tmp_path: Path, script: str, why: str) -> None:
    user = program(tmp_path, script, installHint="install login")
    access = find_access({"KUBECONFIG": str(config(tmp_path, cluster={"server": "http://x"}, user=user))})
    with pytest.raises(InvalidInput, match=f"login', which gives none .*{why}.*; install login"):
        access.authorization()


def test_a_missing_kubeconfig_entry_is_named(tmp_path: Path) -> None:
    file = config(tmp_path, cluster={"server": "http://x"}, user={})
    file.write_text(file.read_text().replace("cluster: k", "cluster: other"))
    with pytest.raises(InvalidInput, match="no clusters entry named 'other'"):
        find_access({"KUBECONFIG": str(file)})
    with pytest.raises(InvalidInput, match="which is not there"):
        find_access({"KUBECONFIG": str(tmp_path / "nowhere")})
    with pytest.raises(InvalidInput, match="no Kubernetes cluster is known"):
        find_access({"HOME": str(tmp_path)}, service_account=tmp_path)


def make_certificates(folder: Path) -> None:
    """An authority of our own, and a certificate for 127.0.0.1 and for a client, signed by it."""
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    commands = [f"req -x509 {curve} -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"]
    for name in ("server", "client"):
        commands.append(f"req {curve} -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        commands.append(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.pem"
        )
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_certificates_are_checked_on_both_sides(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    tls.load_verify_locations(tmp_path / "ca.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    with ApiServer(tls=tls) as server:
        cluster = {"server": server.url, "certificate-authority": "ca.pem"}
        given = {
            "clientCertificateData": (tmp_path / "client.pem").read_text(),
            "clientKeyData": (tmp_path / "client.key").read_text(),
        }
        (tmp_path / "given.json").write_text(json.dumps({"status": given}))
        file = config(tmp_path, cluster=cluster, user=program(tmp_path, f"cat {tmp_path / 'given.json'}"))
        client = KubernetesClient(find_access({"KUBECONFIG": str(file)}))
        assert client.select(PODS_HERE)[0] == []
        client.close()
        user = {
            "client-certificate": "client.pem",
            "client-key-data": base64.b64encode((tmp_path / "client.key").read_bytes()).decode(),
        }
        file = config(tmp_path, cluster=cluster, user=user)
        client = KubernetesClient(find_access({"KUBECONFIG": str(file)}))
        assert client.select(PODS_HERE)[0] == []
        client.close()
        elsewhere = {**cluster, "server": server.url.replace("127.0.0.1", "localhost")}
        file = config(tmp_path, cluster={**elsewhere, "tls-server-name": "127.0.0.1"}, user=user)
        client = KubernetesClient(find_access({"KUBECONFIG": str(file)}))
        assert client.select(PODS_HERE)[0] == []
        client.close()
        for wrong in (
            {"cluster": {"server": server.url}, "user": user},
            {"cluster": cluster, "user": {}},
            {"cluster": elsewhere, "user": user},
        ):
            client = KubernetesClient(
                find_access({"KUBECONFIG": str(config(tmp_path, **wrong))}), wait=lambda _seconds: None
            )
            with pytest.raises(Unavailable, match="can't be reached"):
                client.select(PODS_HERE)
            client.close()


def test_a_pod_finds_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("paddock")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "HOME": "/nowhere"}
    access = find_access(environment, service_account=tmp_path)
    assert (access.server, access.namespace) == ("https://[fd00::1]:6443", "paddock")
    assert access.authorization() == "Bearer first"
    (tmp_path / "token").write_text("renewed")
    assert access.authorization() == "Bearer renewed"
