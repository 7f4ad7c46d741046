"""Deployments of Paddock's servers, run as processes of this machine: what the controllers, the Services and a kubelet do for them.

A pod's address is one of loopback's, a claim a folder, an emptyDir one of the pod's; a Service is a relay to a pod that is ready, and
its name in a variable becomes the relay's address. Pods of workers are left alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx2

from paddock.runtime.sandbox import die_with_parent
from paddock.testing.kubernetes.kinds import CLAIMS, DEPLOYMENTS, PODS, SECRETS, SERVICES
from paddock.testing.kubernetes.objects import Objects
from paddock.testing.kubernetes.statuses import Object, RefusedError
from paddock.testing.relays import Relay

STEP_SECONDS = 0.1
READY_SECONDS = 5.0
NODE = "node-of-servers"
TEMPLATE = "paddock.testing/template"
"""Annotation of a server's pod: the `template_mark` that its Deployment had."""


@dataclass(slots=True)
class _Server:
    """The process of a pod."""

    process: subprocess.Popen[bytes]
    url: str
    ready_path: str
    ready: bool = False
    terminated: bool = False


class Deployments:
    """Brings the cluster's Deployments about while the `with` block lasts, one step after another in a thread of its own."""

    def __init__(self, objects: Objects, *, folder: Path, kubeconfig: Path) -> None:
        """folder: for claims, other volumes and logs. kubeconfig: how servers reach the API server."""
        self._objects = objects
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._servers: dict[str, _Server] = {}
        self._relays: dict[str, Relay] = {}
        self._network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._addresses = iter(range(1, 250))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deployments", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> Deployments:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for server in self._servers.values():
            server.process.kill()
            server.process.wait()
        for relay in self._relays.values():
            relay.close()
        if self.error is not None:
            raise self.error

    def url(self, service: str) -> str:
        """Where a Service is reached from this machine, whether or not a pod is ready."""
        return self._relay(service).url

    def log(self, pod: str) -> str:
        return (self._folder / f"{pod}.log").read_text(errors="replace")

    # ---- one step ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._over.wait(STEP_SECONDS):
                self._step()
        except Exception as error:  # noqa: BLE001  (raised again where the block ends)
            self.error = error

    def _step(self) -> None:
        deployments = {found["metadata"]["uid"]: found for found in self._objects.select(DEPLOYMENTS, None)}
        pods = {found["metadata"]["uid"]: found for found in self._objects.select(PODS, None) if _deployment_of(found)}
        for uid, server in list(self._servers.items()):
            self._look_after(uid, server, pods.get(uid))
        for service in self._objects.select(SERVICES, None):
            self._lead(service, pods)
        for uid, server in self._servers.items():
            self._tell(server, pods[uid])  # after Services lead to it: whoever waits for it uses it at once
        for uid, pod in pods.items():
            if uid not in self._servers and "deletionTimestamp" not in pod["metadata"]:
                self._start(pod)
        for uid, deployment in deployments.items():
            self._scale(deployment, [pod for pod in pods.values() if _deployment_of(pod) == uid])
        for claim in self._objects.select(CLAIMS, None, lambda found: "status" not in found):
            with suppress(RefusedError), self._objects.changing(CLAIMS, *_place(claim)) as found:
                found["status"] = {"phase": "Bound"}

    def _scale(self, deployment: Object, pods: list[Object]) -> None:
        """New pods when the old ones have gone: only the strategy Recreate is kept to, whatever is said."""
        wanted = template_mark(deployment)
        stale = [pod for pod in pods if pod["metadata"]["annotations"][TEMPLATE] != wanted]
        fresh = [pod for pod in pods if pod not in stale]
        for pod in stale:
            if "deletionTimestamp" not in pod["metadata"]:
                self._delete(pod, {})
        if not stale:
            for _ in range(int(deployment["spec"]["replicas"]) - len(fresh)):
                self._create(deployment, wanted)
        ready = [pod for pod in fresh if (server := self._servers.get(pod["metadata"]["uid"])) and server.ready]
        with (
            suppress(RefusedError),
            self._objects.changing(DEPLOYMENTS, *_place(deployment)) as found,
        ):
            found["status"] = {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": len(pods),
                "updatedReplicas": len(fresh),
                "readyReplicas": len(ready),
            }

    def _create(self, deployment: Object, mark: str) -> None:
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{metadata['name']}-",
                "labels": template["metadata"]["labels"],
                "annotations": {**template["metadata"].get("annotations", {}), TEMPLATE: mark},
                "ownerReferences": [owner],
            },
            "spec": {**template["spec"], "nodeName": NODE},
        }
        self._objects.create(PODS, metadata["namespace"], pod)

    def _look_after(self, uid: str, server: _Server, pod: Object | None) -> None:
        ended = server.process.poll() is not None
        if pod is None:
            server.process.kill()
            server.process.wait()
            del self._servers[uid]
        elif ended:
            del self._servers[uid]
            self._delete(pod, {"gracePeriodSeconds": 0})
        elif "deletionTimestamp" in pod["metadata"]:
            if not server.terminated:
                server.terminated, server.ready = True, False
                server.process.send_signal(signal.SIGTERM)
        else:
            server.ready = _answers(server.url + server.ready_path)

    def _tell(self, server: _Server, pod: Object) -> None:
        if "deletionTimestamp" not in pod["metadata"]:
            with suppress(RefusedError), self._objects.changing(PODS, *_place(pod)) as found:
                ready = {"type": "Ready", "status": str(server.ready)}
                found["status"] |= {"phase": "Running", "conditions": [ready]}

    def _start(self, pod: Object) -> None:
        """Start its first container; its init containers run before, one after another."""
        address = f"{self._network}.{next(self._addresses)}"
        container = pod["spec"]["containers"][0]
        for each in pod["spec"].get("initContainers", ()):
            self._launch(pod, each, address).wait()
        port = container["ports"][0]["containerPort"]
        self._servers[pod["metadata"]["uid"]] = _Server(
            self._launch(pod, container, address),
            f"http://{address}:{port}",
            container["readinessProbe"]["httpGet"]["path"],
        )
        with suppress(RefusedError), self._objects.changing(PODS, *_place(pod)) as found:
            found["status"] |= {"podIP": address}

    def _launch(self, pod: Object, container: Object, address: str) -> subprocess.Popen[bytes]:
        mounts = dict(self._mounts(pod, container))
        for folder in mounts.values():
            folder.mkdir(parents=True, exist_ok=True)
        variables = dict(self._variables(pod, container, address, mounts))
        arguments = [
            re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), argument).replace(
                "0.0.0.0", address
            )
            for argument in container.get("args", ())
        ]
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "TMPDIR": str(mounts.get("/tmp", self._folder)),
            "KUBECONFIG": str(self._kubeconfig),
            "PADDOCK_KUBERNETES_NAMESPACE": pod["metadata"]["namespace"],
            "PADDOCK_CONFIG": os.devnull,
        }
        with (self._folder / f"{pod['metadata']['name']}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "paddock", *arguments],
                env=own | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    def _mounts(self, pod: Object, container: Object) -> Iterator[tuple[str, Path]]:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            claim = volumes[mount["name"]].get("persistentVolumeClaim")
            name = f"claim-{claim['claimName']}" if claim else f"{pod['metadata']['name']}-{mount['name']}"
            yield mount["mountPath"], self._folder / name

    def _variables(
        self, pod: Object, container: Object, address: str, mounts: Mapping[str, Path]
    ) -> Iterator[tuple[str, str]]:
        for source in container.get("envFrom", ()):
            yield from self._secret(pod, source["secretRef"]["name"]).items()
        for variable in container.get("env", ()):
            text = address if "valueFrom" in variable else variable["value"]
            below = next((place for place in mounts if text.startswith(f"{place}/")), None)
            if below is not None:
                text = str(mounts[below]) + text.removeprefix(below)
            for service in self._objects.select(SERVICES, pod["metadata"]["namespace"]):
                name = service["metadata"]["name"]
                text = text.replace(f"http://{name}:{service['spec']['ports'][0]['port']}", self._relay(name).url)
            yield variable["name"], text

    def _secret(self, pod: Object, name: str) -> dict[str, str]:
        found = self._objects.get(SECRETS, pod["metadata"]["namespace"], name)
        data = {key: base64.b64decode(value).decode() for key, value in found.get("data", {}).items()}
        text: dict[str, str] = found.get("stringData", {})
        return data | text

    # ---- Services ------------------------------------------------------------------------------------------

    def _relay(self, service: str) -> Relay:
        if service not in self._relays:
            self._relays[service] = Relay("http://127.0.0.1:1")
        return self._relays[service]

    def _lead(self, service: Object, pods: Mapping[str, Object]) -> None:
        """To the first pod that is ready; where none is, connections are refused."""
        selector = service["spec"]["selector"]
        ready = (
            server.url
            for uid, server in self._servers.items()
            if server.ready and uid in pods and selector.items() <= pods[uid]["metadata"]["labels"].items()
        )
        self._relay(service["metadata"]["name"]).target = next(ready, "http://127.0.0.1:1")

    def _delete(self, pod: Object, options: Object) -> None:
        with suppress(RefusedError):
            self._objects.delete(PODS, *_place(pod), options)


def _place(found: Object) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _deployment_of(pod: Object) -> str:
    """The uid of the Deployment that owns a pod, else nothing."""
    owners = pod["metadata"].get("ownerReferences", ())
    return next((str(owner["uid"]) for owner in owners if owner["kind"] == "Deployment"), "")


def template_mark(deployment: Object) -> str:
    return hashlib.sha256(json.dumps(deployment["spec"]["template"], sort_keys=True).encode()).hexdigest()[:16]


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=READY_SECONDS, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def _die_with_parent() -> None:
    die_with_parent(signal.SIGKILL)
