"""What the members of a pool are in Kubernetes: a pod from a spec, and the Secret that owns it (design note 034). Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, Problem
from paddock.model.json_patches import apply_operations, merge
from paddock.pipelines.models import PipelineSpec, Resources, Toleration
from paddock.runtime.engines.kubernetes.objects import Object
from paddock.runtime.engines.provisioner import MEMBER_PATIENCE

USER = "user"
WORKER = "paddock"
HOME_LABEL = "paddock/home"
POOL_LABEL = "paddock/pool"
OWN_LABELS: Mapping[str, str] = {
    "app.kubernetes.io/name": "paddock",
    "app.kubernetes.io/component": "worker",
    "app.kubernetes.io/managed-by": "paddock",
}
RUNNER = "/usr/local/lib/paddock/runner"
"""In our image."""
SHARED = "/paddock"
SOCKET = f"{SHARED}/runner.sock"
TOKEN_FOLDER = "/var/run/paddock"
UID = 65532
"""Of our containers, and the group of the shared folders."""
GRACE_SECONDS = 300
SIDECAR_CPU = 0.1
SIDECAR_MEMORY = 256 << 20
DEFAULT_GPU = "nvidia.com/gpu"
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute"}
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What is alike in all pods. url: where workers reach the server. cpu: asked for where a spec asks for none.

    storage_secret: a Secret whose values are variables of the worker, with which it reaches the object store itself; empty: the worker
    goes through the server. pull_policy: empty for Kubernetes' own choice. restricted: the user's container keeps to the strictest
    level of Pod Security, too.
    """

    worker_image: str
    url: str
    user_image: str = ""
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    storage_secret: str = ""
    cpu: float = 1.0
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class PoolIdentity:
    """home: the id of the home. pool: the pool's name."""

    home: str
    pool: str

    @property
    def prefix(self) -> str:
        """What the names of the pool's objects begin with: a DNS label of at most 49 characters."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.pool.lower())[:30].strip("-")
        return f"paddock-{self.home[:8]}-{readable}".rstrip("-")

    @property
    def labels(self) -> dict[str, str]:
        return {**OWN_LABELS, HOME_LABEL: self.home, POOL_LABEL: self.pool}


def build_secret(identity: PoolIdentity, token: str, owner: Object | None) -> Object:
    """The Secret with a pool's token. owner: an object with which it goes."""
    metadata: Object = {"name": identity.prefix, "labels": identity.labels}
    if owner is not None:
        metadata["ownerReferences"] = [reference_to(owner)]
    data = {"token": base64.b64encode(token.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def reference_to(owner: Object) -> Object:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def build_pod(spec: PipelineSpec, settings: PodSettings, identity: PoolIdentity, name: str, secret: Object) -> Object:
    """One member. secret: as the API server has it. InvalidInput: a patch can't be applied, or breaks what the worker needs."""
    pod_spec = _patched(spec, _pod_spec(spec, settings, name, secret["metadata"]["name"]))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {**spec.metadata.labels, **identity.labels},
            "annotations": {**spec.metadata.annotations},
            # As its controller: `kubectl drain` evicts pods that have one, and refuses those that nobody would start again.
            "ownerReferences": [{**reference_to(secret), "controller": True}],
        },
        "spec": pod_spec,
    }


def check_pod(spec: PipelineSpec) -> None:
    """InvalidInput with each field of a spec that would make no pod: what can be known before Kubernetes is asked."""
    problems = [Problem(place, message) for place, message in _label_faults(spec)]
    settings = PodSettings(worker_image="paddock", url="http://localhost")
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "paddock", "uid": "none"}}
    try:
        build_pod(spec, settings, PoolIdentity("0" * 32, "check"), "paddock-check", secret)
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput("no pod can be made of the spec:", problems=tuple(problems))


def _label_faults(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    for kind, entries in (("labels", spec.metadata.labels), ("annotations", spec.metadata.annotations)):
        for key, value in entries.items():
            place = f"metadata.{kind}.{key}"
            if not _LABEL_KEY.fullmatch(key):
                yield (
                    place,
                    "is no key for Kubernetes; use letters, digits, '-', '_' and '.', 63 at most, after an optional example.com/",
                )
            elif kind == "labels" and not _LABEL_VALUE.fullmatch(value):
                yield (
                    place,
                    f"{value!r} is no label's value; use letters, digits, '-', '_' and '.', 63 at most, or an annotation",
                )
    for key, value in _node_selector(spec).items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield f"scheduling_spec.node_selector.{key}", f"no node can have the label {key}={value}; mend it"


def _node_selector(spec: PipelineSpec) -> Mapping[str, str]:
    return {} if spec.scheduling_spec is None else spec.scheduling_spec.node_selector


# ---- the pod ---------------------------------------------------------------------------------------------------


def _pod_spec(spec: PipelineSpec, settings: PodSettings, name: str, secret_name: str) -> Object:
    transform = spec.transform
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {"fsGroup": UID, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_init_container(spec, settings)],
        "containers": [_user_container(spec, settings), _worker_container(spec, settings, name)],
        "volumes": _volumes(spec, secret_name),
        "nodeSelector": {"kubernetes.io/os": "linux", **_node_selector(spec)},
    }
    pull_secrets = dict.fromkeys((*settings.pull_secrets, *(transform.image_pull_secrets or ())))
    if pull_secrets:
        pod["imagePullSecrets"] = [{"name": one} for one in pull_secrets]
    if spec.scheduling_spec is not None and spec.scheduling_spec.priority_class_name:
        pod["priorityClassName"] = spec.scheduling_spec.priority_class_name
    if spec.tolerations:
        pod["tolerations"] = [_toleration(one) for one in spec.tolerations]
    return pod


def _init_container(spec: PipelineSpec, settings: PodSettings) -> Object:
    return {
        "name": "runner",
        **_image(settings.worker_image, settings),
        # The folder for outputs, too: the worker has to own it, since a node makes it sticky where the volume is in memory.
        "command": [RUNNER, "--install", f"{SHARED}/runner", "/pfs/out"],
        # It runs before the worker, so that this adds nothing to what the pod asks for; quotas want limits of every container.
        "resources": _sidecar_resources(spec),
        "securityContext": _own_security(),
        "volumeMounts": [{"name": "paddock", "mountPath": SHARED}, {"name": "pfs", "mountPath": "/pfs"}],
    }


def _user_container(spec: PipelineSpec, settings: PodSettings) -> Object:
    transform = spec.transform
    container: Object = {
        "name": USER,
        **_image(transform.image or settings.user_image or settings.worker_image, settings),
        "command": [f"{SHARED}/runner", SOCKET],
        "resources": _resources(spec.resource_requests, spec.resource_limits, cpu=settings.cpu, memory=None),
        "volumeMounts": [
            {"name": "paddock", "mountPath": SHARED},
            # Inputs are protected by the mount itself (note 035).
            {"name": "pfs", "mountPath": "/pfs", "readOnly": True},
            {"name": "pfs", "mountPath": "/pfs/out", "subPath": "out"},
            *(
                {"name": f"secret-{index}", "mountPath": secret.mount_path, "readOnly": True}
                for index, secret in enumerate(transform.secrets or ())
                if secret.mount_path
            ),
        ],
    }
    variables = [
        {"name": secret.env_var, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for secret in transform.secrets or ()
        if secret.env_var
    ]
    if variables:
        container["env"] = variables
    if security := _user_security(transform.user or "", restricted=settings.restricted):
        container["securityContext"] = security
    return container


def _user_security(name: str, *, restricted: bool) -> Object:
    """Nothing but a user that can be told by its number, where the image is to run as it says."""
    security: Object = dict(_UNPRIVILEGED) if restricted else {}
    user, _, group = name.partition(":")
    if user.isdecimal() and (group.isdecimal() or not group):
        security |= {"runAsUser": int(user)} | ({"runAsGroup": int(group)} if group else {})
    return security


def _worker_container(spec: PipelineSpec, settings: PodSettings, name: str) -> Object:
    words = ["--url", settings.url, "worker", "--name", name, "--token-file", f"{TOKEN_FOLDER}/token", "--slots", "1"]
    words += ["--patience", MEMBER_PATIENCE]
    direct = ["--direct"] if settings.storage_secret else []
    wanted, most = spec.resource_requests or Resources(), spec.resource_limits or Resources()
    memory, gpu = wanted.memory or most.memory, wanted.gpu or most.gpu
    # The worker sees its own container, and the datums' is the other one.
    gpus = ",".join(str(number) for number in range(gpu.number)) if gpu is not None else ""
    environment = {
        "HOME": "/tmp",
        "PADDOCK_GPUS": gpus or "none",
        **({"PADDOCK_MEMORY": str(memory)} if memory else {}),
    }
    container: Object = {
        "name": WORKER,
        **_image(settings.worker_image, settings),
        "command": [RUNNER, "--init", "paddock", *words, *direct, "--runner", SOCKET, "--pfs", "/pfs"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": _sidecar_resources(spec),
        "securityContext": _own_security(),
        "volumeMounts": [
            {"name": "paddock", "mountPath": SHARED},
            {"name": "pfs", "mountPath": "/pfs"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    }
    if settings.storage_secret:
        container["envFrom"] = [{"secretRef": {"name": settings.storage_secret}}]
    return container


def _volumes(spec: PipelineSpec, secret_name: str) -> list[Object]:
    return [
        {"name": "paddock", "emptyDir": {}},
        {"name": "pfs", "emptyDir": {"medium": "Memory"} if spec.transform.memory_volume else {}},
        {"name": "tmp", "emptyDir": {}},
        # Readable for the group, which is ours.
        {"name": "token", "secret": {"secretName": secret_name, "defaultMode": 0o440}},
        *(
            {"name": f"secret-{index}", "secret": {"secretName": secret.name}}
            for index, secret in enumerate(spec.transform.secrets or ())
            if secret.mount_path
        ),
    ]


def _image(image: str, settings: PodSettings) -> Object:
    # A container that fails leaves the end of its log as the reason, which so needs no right to read logs.
    found = {"image": image, "terminationMessagePolicy": "FallbackToLogsOnError"}
    return found | ({"imagePullPolicy": settings.pull_policy} if settings.pull_policy else {})


_UNPRIVILEGED: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""What `restricted` asks of each container, beside the seccomp profile that the pod has."""


def _own_security() -> Object:
    return {**_UNPRIVILEGED, "runAsUser": UID, "runAsGroup": UID, "readOnlyRootFilesystem": True}


def _sidecar_resources(spec: PipelineSpec) -> Object:
    return _resources(
        spec.sidecar_resource_requests, spec.sidecar_resource_limits, cpu=SIDECAR_CPU, memory=SIDECAR_MEMORY
    )


def _resources(requests: Resources | None, limits: Resources | None, *, cpu: float, memory: int | None) -> Object:
    """cpu, memory: asked for where neither requests nor limits say how much; what limits alone say is asked for, too."""
    wanted, most = requests or Resources(), limits or Resources()
    asked = _amounts(
        cpu=wanted.cpu or most.cpu or cpu,
        memory=wanted.memory or most.memory or memory,
        disk=wanted.disk or most.disk,
    )
    allowed = _amounts(cpu=most.cpu, memory=most.memory, disk=most.disk)
    gpu = wanted.gpu or most.gpu
    if gpu is not None and gpu.number:
        # Of what can't be shared Kubernetes wants request and limit alike.
        asked[gpu.type or DEFAULT_GPU] = allowed[gpu.type or DEFAULT_GPU] = str(gpu.number)
    return {"requests": asked} | ({"limits": allowed} if allowed else {})


def _amounts(*, cpu: float | None = None, memory: int | None = None, disk: int | None = None) -> dict[str, str]:
    amounts = {
        "cpu": f"{max(1, round(cpu * 1000))}m" if cpu else "",
        "memory": str(memory or ""),
        "ephemeral-storage": str(disk or ""),
    }
    return {name: amount for name, amount in amounts.items() if amount}


def _toleration(toleration: Toleration) -> Object:
    found: Object = {"operator": toleration.operator.capitalize()}
    if toleration.key:
        found["key"] = toleration.key
    if toleration.value:
        found["value"] = toleration.value
    if toleration.effect in _EFFECTS:
        found["effect"] = _EFFECTS[toleration.effect]
    if toleration.toleration_seconds is not None:
        found["tolerationSeconds"] = toleration.toleration_seconds
    return found


# ---- patches ---------------------------------------------------------------------------------------------------


def _patched(spec: PipelineSpec, pod: Object) -> Object:
    if not spec.pod_spec and not spec.pod_patch:
        return pod
    merged = merge(pod, spec.pod_spec or {})
    _require_worker(merged, "pod_spec")
    try:
        changed = apply_operations(merged, spec.pod_patch or ())
    except ValueError as error:
        problem = Problem("pod_patch", f"{error}; paths begin at the PodSpec, /containers/0 is the user's")
        raise InvalidInput("the patch of the pod can't be applied:", problems=(problem,)) from None
    _require_worker(changed, "pod_patch")
    found: Object = changed
    return found


def _require_worker(pod: Any, field: str) -> None:
    """InvalidInput where a patch has taken away what makes the pod a worker."""
    broken = ""
    if not isinstance(pod, dict) or _names(pod.get("containers"))[:2] != [USER, WORKER]:
        broken = f"leaves the pod without its containers {USER} and {WORKER}; add to /containers/- and change single fields, in pod_patch"
    elif pod.get("restartPolicy") != "Never":
        broken = "changes restartPolicy; leave it at Never, Paddock starts another pod by itself"
    elif not {"paddock", "pfs", "token"} <= set(_names(pod.get("volumes"))):
        broken = "takes away a volume of Paddock's (paddock, pfs, token); add yours to /volumes/-, in pod_patch"
    if broken:
        raise InvalidInput("the patch of the pod can't be applied:", problems=(Problem(field, broken),))


def _names(items: Any) -> list[Any]:
    return [item.get("name") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
