"""Nodes for tests: a scheduler and a kubelet that run the pods of an `ApiServer` as processes of this machine. Needs root.

Images are stand-ins (`containers.Image`). Pods are bound to nodes that have room, their volumes are folders, their containers start, end
and are reported as the real ones are; tests make trouble by `kill`, `lose_node`, and by what they leave out (images, Secrets, nodes).
"""

from __future__ import annotations

import base64
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from paddock.testing.kubernetes import pod_rules
from paddock.testing.kubernetes.api_server import ApiServer
from paddock.testing.kubernetes.containers import Container, Image
from paddock.testing.kubernetes.kinds import EVENTS, NODES, PODS, SECRETS
from paddock.testing.kubernetes.objects import timestamp
from paddock.testing.kubernetes.statuses import Object, RefusedError

LOOK_SECONDS = 0.05
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:@-]*")


@dataclass(slots=True)
class _Pod:
    """What runs of a pod. Containers by name; `states` as its status has them."""

    folder: Path
    node: str
    volumes: dict[str, Path] | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    states: dict[str, Object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a container was killed, by name."""
    kill_at: float | None = None


class Kubelet:
    """All nodes of a cluster, while the `with` block lasts. Thread-safe."""

    def __init__(
        self, server: ApiServer, folder: Path, images: Mapping[str, Image], *, nodes: Mapping[str, Mapping[str, str]]
    ) -> None:
        """images: by the name that pods give; others can't be pulled. nodes: what each has to offer (`{"cpu": "2"}`)."""
        self._server = server
        self._objects = server.objects
        self._folder = folder
        self.images = dict(images)
        self._pods: dict[str, _Pod] = {}
        self._nodes = frozenset(nodes)
        """Pods that are on others are somebody else's."""
        self._lost: set[str] = set()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self.error: BaseException | None = None
        """What ended the thread, if it did not end with the block."""
        server.logs = self.log
        for name, offers in nodes.items():
            labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
            self._objects.create(NODES, "", node)
            with self._objects.changing(NODES, "", name) as found:
                found["status"] = {
                    "allocatable": {"pods": "110", **offers},
                    "conditions": [_condition("Ready", "True")],
                }

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for pod in self._pods.values():
            for container in pod.containers.values():
                container.kill()
                container.process.wait()
        if self.error is not None and value is None:
            raise self.error

    def kill(self, namespace: str, name: str, container: str, *, reason: str = "Error") -> None:
        """End a container by SIGKILL, as the kernel does; reason: `OOMKilled` if it was for want of memory."""
        uid = self._objects.get(PODS, namespace, name)["metadata"]["uid"]
        with self._lock:
            self._pods[uid].reasons[container] = reason
            self._pods[uid].containers[container].kill()

    def lose_node(self, name: str) -> None:
        """A node goes without a word: its processes are gone, and nobody reports any more; it is soon known as not ready."""
        with self._lock:
            self._lost.add(name)
            lost = [here for here in self._pods.values() if here.node == name]
            for container in [container for here in lost for container in here.containers.values()]:
                container.kill()
        with self._objects.changing(NODES, "", name) as node:
            node["status"]["conditions"] = [_condition("Ready", "Unknown", "NodeStatusUnknown")]
        for pod in self._objects.select(PODS, None, lambda pod: pod["spec"].get("nodeName") == name):
            metadata = pod["metadata"]
            with self._objects.changing(PODS, metadata["namespace"], metadata["name"]) as found:
                _set_condition(found, _condition("Ready", "False"))

    def log(self, namespace: str, name: str, container: str) -> str:
        """What a container of a pod has written."""
        uid = self._objects.get(PODS, namespace, name)["metadata"]["uid"]
        with self._lock:
            found = self._pods.get(uid)
            return found.containers[container].output() if found and container in found.containers else ""

    # ---- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with self._objects.changed:
                    self._objects.changed.wait(LOOK_SECONDS)
                with self._lock:
                    self._look()
        except BaseException as error:  # noqa: BLE001 (raised at the end of the block)
            self.error = error

    def _look(self) -> None:
        present = set()
        for pod in self._objects.select(PODS, None):
            present.add(pod["metadata"]["uid"])
            try:
                self._care_for(pod)
            except RefusedError:
                pass  # it was deleted in between
        for uid in set(self._pods) - present:
            gone = self._pods.pop(uid)
            for container in gone.containers.values():
                container.kill()
                container.process.wait()
            shutil.rmtree(gone.folder, ignore_errors=True)

    def _care_for(self, pod: Object) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName", "")
        if pod["status"]["phase"] in ("Succeeded", "Failed") and uid not in self._pods:
            return
        if not node:
            self._schedule(pod)
            return
        if node in self._lost or node not in self._nodes:
            return
        here = self._pods.get(uid)
        if here is None:
            here = self._pods[uid] = _Pod(self._folder / uid, node)
            here.folder.mkdir(parents=True)
        self._note_ends(here)
        if "deletionTimestamp" in pod["metadata"]:
            self._end(pod, here)
        elif here.volumes is not None or self._make_volumes(pod, here):
            self._start_what_can(pod, here)
        self._report(pod, here)

    # ---- scheduling ----------------------------------------------------------------------------------------

    def _schedule(self, pod: Object) -> None:
        why: dict[str, int] = {}
        nodes = self._objects.select(NODES, None)
        for node in nodes:
            unfit = self._unfit(pod, node)
            if not unfit:
                with self._changing(pod) as found:
                    found["spec"]["nodeName"] = node["metadata"]["name"]
                    _set_condition(found, _condition("PodScheduled", "True"))
                return
            why[unfit] = why.get(unfit, 0) + 1
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(why.items())) or "no nodes available"
        message = f"0/{len(nodes)} nodes are available: {reasons}. preemption: 0/{len(nodes)} nodes are available: not helpful."
        with self._changing(pod) as found:
            _set_condition(found, _condition("PodScheduled", "False", "Unschedulable", message))

    def _unfit(self, pod: Object, node: Object) -> str:
        name, spec = node["metadata"]["name"], pod["spec"]
        if name in self._lost:
            return "node(s) had untolerated taint {node.kubernetes.io/unreachable: }"
        if node.get("spec", {}).get("unschedulable"):
            return "node(s) were unschedulable"
        for taint in node.get("spec", {}).get("taints", ()):
            if taint["effect"] != "PreferNoSchedule" and not any(
                _tolerates(one, taint) for one in spec.get("tolerations", ())
            ):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        labels = node["metadata"].get("labels", {})
        if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
            return "node(s) didn't match Pod's node affinity/selector"
        others = self._objects.select(
            PODS,
            None,
            lambda other: (
                other["spec"].get("nodeName") == name and other["status"]["phase"] not in ("Succeeded", "Failed")
            ),
        )
        for resource, wanted in (pod_rules.requests(pod) | {"pods": 1.0}).items():
            used = sum(1.0 if resource == "pods" else pod_rules.requests(other).get(resource, 0.0) for other in others)
            if used + wanted > pod_rules.quantity(
                node["status"]["allocatable"].get(resource, "1P" if "/" not in resource else 0)
            ):
                return "Too many pods" if resource == "pods" else f"Insufficient {resource}"
        return ""

    # ---- one pod -------------------------------------------------------------------------------------------

    def _make_volumes(self, pod: Object, here: _Pod) -> bool:
        """Whether they are there: a Secret that is missing leaves the pod waiting, with an event."""
        made: dict[str, Path] = {}
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes", ()):
            folder = here.folder / "volumes" / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            # The root of a file system in memory is sticky.
            folder.chmod(0o1777 if volume.get("emptyDir", {}).get("medium") == "Memory" else 0o777)
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                try:
                    secret = self._objects.get(SECRETS, namespace, name)
                except RefusedError:
                    self._warn(
                        pod, f'MountVolume.SetUp failed for volume "{volume["name"]}" : secret "{name}" not found'
                    )
                    return False
                for key, value in secret.get("data", {}).items():
                    (folder / key).write_bytes(base64.b64decode(value))
            elif "emptyDir" not in volume:
                self._warn(pod, f'MountVolume.SetUp failed for volume "{volume["name"]}" : this kind is not known here')
                return False
            made[volume["name"]] = folder
        here.volumes = made
        return True

    def _warn(self, pod: Object, message: str) -> None:
        metadata = pod["metadata"]
        known = self._objects.select(
            EVENTS, metadata["namespace"], lambda event: event["involvedObject"]["uid"] == metadata["uid"]
        )
        if any(event["message"] == message for event in known):
            return
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": "FailedMount",
            "message": message,
            "lastTimestamp": timestamp(),
        }
        self._objects.create(EVENTS, metadata["namespace"], event)

    def _start_what_can(self, pod: Object, here: _Pod) -> None:
        for container in pod["spec"].get("initContainers", ()):
            if container["name"] not in here.containers:
                self._start(pod, here, container)
            state = here.states.get(container["name"], {})
            if "terminated" not in state or state["terminated"]["exitCode"]:
                return
        for container in pod["spec"]["containers"]:
            if container["name"] not in here.containers:
                self._start(pod, here, container)

    def _start(self, pod: Object, here: _Pod, container: Object) -> None:
        name, image = container["name"], self._image(here, container)
        if image is None:
            return
        environment: dict[str, str] = {"HOSTNAME": pod["metadata"]["name"]}
        try:
            for variable in container.get("env", ()):
                environment[variable["name"]] = self._value(pod, variable)
            for source in container.get("envFrom", ()):
                secret = self._objects.get(SECRETS, pod["metadata"]["namespace"], source["secretRef"]["name"])
                environment |= {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
        except (RefusedError, KeyError) as error:
            here.states[name] = _waiting("CreateContainerConfigError", str(error.args[0]))
            return
        assert here.volumes is not None, "containers start after their volumes are there"
        folder = here.folder / f"{name}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        volumes, read_only = {}, set()
        for mount in container.get("volumeMounts", ()):
            source = here.volumes[mount["name"]] / mount.get("subPath", "")
            if not source.exists():
                source.mkdir()
                source.chmod(here.volumes[mount["name"]].stat().st_mode & 0o7777)
            volumes[mount["mountPath"]] = source
            if mount.get("readOnly"):
                read_only.add(mount["mountPath"])
        command = [*container.get("command", ()), *container.get("args", ())]
        security = container.get("securityContext", {})
        if security.get("runAsNonRoot") and "runAsUser" not in security:
            here.states[name] = _waiting(
                "CreateContainerConfigError",
                f"container has runAsNonRoot and image will run as root (container: {name})",
            )
            return
        user = f"{security['runAsUser']}:{security.get('runAsGroup', 0)}" if "runAsUser" in security else ""
        here.containers[name] = Container(
            folder, image, command, environment=environment, volumes=volumes, read_only=read_only, user=user
        )
        here.states[name] = {"running": {"startedAt": timestamp()}}

    def _image(self, here: _Pod, container: Object) -> Image | None:
        """The image, or None with why it is not there in the container's state."""
        name, image = container["name"], container["image"]
        if not _IMAGE.fullmatch(image):
            here.states[name] = _waiting(
                "InvalidImageName", f'Failed to apply default image tag "{image}": could not parse'
            )
        elif image in self.images:
            return self.images[image]
        elif container["imagePullPolicy"] == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            here.states[name] = _waiting("ErrImageNeverPull", message)
        elif "waiting" in here.states.get(name, {}):
            here.states[name] = _waiting("ImagePullBackOff", f'Back-off pulling image "{image}"')
        else:
            message = f'failed to pull and unpack image "{image}": not found'
            here.states[name] = _waiting("ErrImagePull", message)
        return None

    def _value(self, pod: Object, variable: Object) -> str:
        source = variable.get("valueFrom")
        if source is None:
            return str(variable.get("value", ""))
        if "secretKeyRef" in source:
            wanted, namespace = source["secretKeyRef"], pod["metadata"]["namespace"]
            try:
                secret = self._objects.get(SECRETS, namespace, wanted["name"])
            except RefusedError:
                raise KeyError(f'secret "{wanted["name"]}" not found') from None
            if wanted["key"] not in secret.get("data", {}):
                raise KeyError(f"couldn't find key {wanted['key']} in Secret {namespace}/{wanted['name']}")
            return base64.b64decode(secret["data"][wanted["key"]]).decode()
        return str(pod["metadata"].get(source["fieldRef"]["fieldPath"].rpartition(".")[2], ""))

    def _note_ends(self, here: _Pod) -> None:
        for name, container in here.containers.items():
            code = container.exit_code()
            if code is not None and "terminated" not in here.states[name]:
                reason = here.reasons.get(name, "Completed" if code == 0 else "Error")
                message = container.output()[-2048:] if code else ""
                ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": timestamp()}
                here.states[name] = {"terminated": ended}

    def _end(self, pod: Object, here: _Pod) -> None:
        """Go on with the deletion of a pod: SIGTERM, its grace, SIGKILL, and then it is gone."""
        now = time.monotonic()
        running = [one for name, one in here.containers.items() if "running" in here.states[name]]
        if not running:
            metadata = pod["metadata"]
            self._report(pod, here)
            self._objects.delete(PODS, metadata["namespace"], metadata["name"], {"gracePeriodSeconds": 0})
        elif here.kill_at is None:
            here.kill_at = now + pod["metadata"]["deletionGracePeriodSeconds"]
            for container in running:
                container.signal(signal.SIGTERM)
        elif now >= here.kill_at:
            for container in running:
                container.kill()

    def _report(self, pod: Object, here: _Pod) -> None:
        init = [container["name"] for container in pod["spec"].get("initContainers", ())]
        main = [container["name"] for container in pod["spec"]["containers"]]
        unborn = "PodInitializing" if init else "ContainerCreating"
        states = {name: here.states.get(name) or _waiting(unborn) for name in (*init, *main)}
        ended = {name: state["terminated"]["exitCode"] for name, state in states.items() if "terminated" in state}
        phase = "Pending"
        if any(ended.get(name) for name in init):
            phase = "Failed"
        elif all(name in ended for name in main):
            phase = "Failed" if any(ended[name] for name in main) else "Succeeded"
        elif any("running" in states[name] or name in ended for name in main):
            phase = "Running"
        images = {container["name"]: container["image"] for container in pod_rules.containers(pod)}
        ready = "True" if all("running" in states[name] for name in main) else "False"
        unready = "" if ready == "True" else "ContainersNotReady"
        with self._changing(pod) as found:
            status = found["status"]
            status["phase"] = phase
            status["initContainerStatuses"] = [_container_status(name, images[name], states[name]) for name in init]
            status["containerStatuses"] = [_container_status(name, images[name], states[name]) for name in main]
            for kind in ("Ready", "ContainersReady"):
                _set_condition(found, _condition(kind, ready, unready))

    def _changing(self, pod: Object) -> AbstractContextManager[Object]:
        return self._objects.changing(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])


def _container_status(name: str, image: str, state: Object) -> Object:
    running = "running" in state
    return {
        "name": name,
        "image": image,
        "imageID": f"sha256:{image}",
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": state,
    }


def _waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    found = {"type": kind, "status": status}
    return found | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _set_condition(found: Object, condition: Object) -> None:
    conditions = [one for one in found["status"].get("conditions", ()) if one["type"] != condition["type"]]
    found["status"]["conditions"] = [*conditions, condition]


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, taint["effect"]) or toleration.get("key") not in (None, taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
