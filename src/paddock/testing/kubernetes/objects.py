"""The objects of a cluster and their rules: versions and conflicts, finalizers, owners, graceful deletion, quotas, history."""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from paddock.testing.kubernetes import pod_rules, schemas
from paddock.testing.kubernetes.kinds import BY_NAME, NAMESPACES, PODS, QUOTAS, Kind
from paddock.testing.kubernetes.selectors import Selector
from paddock.testing.kubernetes.statuses import Object, RefusedError, conflict, expired, forbidden, invalid, not_found

Key = tuple[Kind, str, str]
"""Kind, namespace (empty for what has none) and name."""
Admission = Callable[[Kind, Object], None]
"""Looks at an object that is to be created; RefusedError: it may not."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_FIXED = (
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "name",
    "namespace",
)


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    kind: Kind
    found: Object
    before: Object | None
    """Before this change; None where it is new."""


class Objects:
    """All objects of a cluster. Thread-safe; what it returns is the caller's own copy."""

    def __init__(self, *, history_max: int = 1000) -> None:
        """history_max: changes that a watch can begin before; older ones are gone (410)."""
        self.changed = threading.Condition(threading.RLock())
        """Notified after each change."""
        self.admission: list[Admission] = [self._admit_quota, self._admit_security]
        self.version = 0
        self._oldest = 0
        self._history: deque[Change] = deque()
        self._history_max = history_max
        self._objects: dict[Key, Object] = {}
        for name in ("default", "kube-system"):
            self.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # ---- reading -------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        with self.changed:
            return _copy(self._find(kind, namespace, name))

    def select(self, kind: Kind, namespace: str | None, select: Selector = lambda _: True) -> list[Object]:
        """In order of namespace and name. namespace: None for all."""
        with self.changed:
            found = [
                self._objects[key]
                for key in sorted(self._objects, key=lambda key: key[1:])
                if key[0] == kind and namespace in (None, key[1])
            ]
            return [_copy(one) for one in found if select(one)]

    def changes(self, since: int) -> list[Change]:
        """What happened after a version. Refused (410): that is too long ago."""
        with self.changed:
            if since < self._oldest:
                raise expired(f"too old resource version: {since} ({self._oldest})")
            return [change for change in self._history if change.version > since]

    def forget_history(self) -> None:
        """As etcd's compaction: no watch can begin before now."""
        with self.changed:
            self._history.clear()
            self._oldest = self.version
            self.changed.notify_all()

    # ---- writing -------------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        with self.changed:
            found = _copy(body)
            schemas.check(found)
            metadata = found["metadata"]
            if metadata.get("namespace", namespace) != namespace:
                raise RefusedError(
                    400, "BadRequest", "the namespace of the object does not match the namespace on the request"
                )
            if kind.namespaced:
                metadata["namespace"] = namespace
                self._check_namespace(kind, namespace)
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
            _check_metadata(kind, metadata)
            if (kind, namespace, metadata["name"]) in self._objects:
                raise RefusedError(409, "AlreadyExists", f'{kind.full_plural} "{metadata["name"]}" already exists')
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(), "generation": 1}
            metadata.pop("deletionTimestamp", None)
            found.pop("status", None)
            if kind == PODS:
                pod_rules.check(found)
                pod_rules.fill_in(found)
            for admit in self.admission:
                admit(kind, found)
            self._put(kind, found, None)
            self._collect()
            return _copy(found)

    def update(self, kind: Kind, namespace: str, name: str, body: Object, *, status: bool = False) -> Object:
        """Replace all but the status, or the status alone. Refused (409): its resourceVersion is not the present one."""
        with self.changed:
            before = self._find(kind, namespace, name)
            version = body.get("metadata", {}).get("resourceVersion")
            if version not in (None, "", before["metadata"]["resourceVersion"]):
                raise conflict(
                    kind.full_plural,
                    name,
                    "the object has been modified; please apply your changes to the latest version and try again",
                )
            if status:
                found = {**_copy(before), "status": _copy(body.get("status") or {})}
            else:
                found = _copy(body)
                if "status" in before:
                    found["status"] = _copy(before["status"])
                found["metadata"] |= {key: before["metadata"][key] for key in _FIXED if key in before["metadata"]}
            schemas.check(found)
            _check_metadata(kind, found["metadata"])
            if kind == PODS and not status and _placed(found["spec"]) != _placed(before["spec"]):
                raise invalid("Pod", name, "spec", "Forbidden: pod updates may not change fields other than its image")
            if found == before:
                return _copy(before)
            if found.get("spec") != before.get("spec"):
                found["metadata"]["generation"] = before["metadata"]["generation"] + 1
            self._put(kind, found, before)
            self._finish_deletion(kind, found)
            return _copy(found)

    def delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        """Remove it, or begin to: finalizers and a pod's grace come first."""
        with self.changed:
            before = self._find(kind, namespace, name)
            wanted = options.get("preconditions", {})
            for field in ("uid", "resourceVersion"):
                if wanted.get(field) not in (None, before["metadata"][field]):
                    why = f"Precondition failed: {field} in precondition: {wanted[field]}, {field} in object meta: "
                    raise conflict(kind.full_plural, name, why + str(before["metadata"][field]))
            found = _copy(before)
            metadata = found["metadata"]
            policy = options.get("propagationPolicy", "Background")
            if policy in ("Foreground", "Orphan"):
                finalizer = "foregroundDeletion" if policy == "Foreground" else "orphan"
                metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
            grace = self._grace(kind, before, options.get("gracePeriodSeconds"))
            if grace or metadata.get("finalizers"):
                if "deletionTimestamp" in metadata and grace >= metadata["deletionGracePeriodSeconds"]:
                    return _copy(before)
                end = datetime.now(UTC) + timedelta(seconds=grace)
                metadata |= {"deletionTimestamp": timestamp(end), "deletionGracePeriodSeconds": grace}
                self._put(kind, found, before)
                self._finish_deletion(kind, found)
                return _copy(found)
            self._remove(kind, before)
            return _copy(before)

    @contextmanager
    def changing(self, kind: Kind, namespace: str, name: str) -> Iterator[Object]:
        """Change an object as its controller would: whatever was changed is put, the status too."""
        with self.changed:
            before = self._find(kind, namespace, name)
            found = _copy(before)
            yield found
            if found != before:
                schemas.check(found)
                self._put(kind, found, before)
                self._finish_deletion(kind, found)

    # ---- inside --------------------------------------------------------------------------------------------

    def _find(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self._objects.get((kind, namespace, name))
        if found is None:
            raise not_found(kind.full_plural, name)
        return found

    def _put(self, kind: Kind, found: Object, before: Object | None) -> None:
        self.version += 1
        metadata = found["metadata"]
        metadata["resourceVersion"] = str(self.version)
        self._objects[kind, metadata.get("namespace", ""), metadata["name"]] = found
        self._note(Change(self.version, "MODIFIED" if before else "ADDED", kind, _copy(found), before))

    def _remove(self, kind: Kind, found: Object) -> None:
        self.version += 1
        metadata = found["metadata"]
        del self._objects[kind, metadata.get("namespace", ""), metadata["name"]]
        last = _copy(found)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._note(Change(self.version, "DELETED", kind, last, found))
        if kind == NAMESPACES:
            for key in [key for key in self._objects if key[1] == metadata["name"]]:
                if key in self._objects:  # what the last one owned is gone already
                    self._remove(key[0], self._objects[key])
        self._collect()

    def _note(self, change: Change) -> None:
        self._history.append(change)
        while len(self._history) > self._history_max:
            self._oldest = self._history.popleft().version
        self.changed.notify_all()

    def _finish_deletion(self, kind: Kind, found: Object) -> None:
        """Remove an object whose deletion has begun, once nothing holds it any more."""
        metadata = found["metadata"]
        if "deletionTimestamp" not in metadata:
            return
        mine = metadata["uid"]
        if "orphan" in metadata.get("finalizers", ()):
            for key, other in list(self._objects.items()):
                owners = other["metadata"].get("ownerReferences", ())
                if any(owner["uid"] == mine for owner in owners):
                    freed = _copy(other)
                    freed["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != mine]
                    self._put(key[0], freed, other)
            self._drop_finalizer(kind, found, "orphan")
        elif "foregroundDeletion" in metadata.get("finalizers", ()):
            for key, other in self._dependents(mine):
                if "deletionTimestamp" not in other["metadata"]:
                    self.delete(key[0], key[1], key[2], {})
            if not self._dependents(mine):
                self._drop_finalizer(kind, found, "foregroundDeletion")
        elif not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds"):
            self._remove(kind, found)

    def _drop_finalizer(self, kind: Kind, found: Object, finalizer: str) -> None:
        after = _copy(found)
        after["metadata"]["finalizers"].remove(finalizer)
        self._put(kind, after, found)
        self._finish_deletion(kind, after)

    def _dependents(self, uid: str) -> list[tuple[Key, Object]]:
        return [
            (key, other)
            for key, other in self._objects.items()
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences", ()))
        ]

    def _collect(self) -> None:
        """The garbage collector: begin to delete what has owners of which none exists, and go on with owners that wait for theirs."""
        present = {found["metadata"]["uid"] for found in self._objects.values()}
        for (kind, namespace, name), found in list(self._objects.items()):
            owners = found["metadata"].get("ownerReferences", ())
            if owners and not any(owner["uid"] in present for owner in owners):
                if (kind, namespace, name) in self._objects and "deletionTimestamp" not in found["metadata"]:
                    self.delete(kind, namespace, name, {})
            elif "foregroundDeletion" in found["metadata"].get("finalizers", ()):
                self._finish_deletion(kind, found)

    def _grace(self, kind: Kind, found: Object, asked: int | None) -> int:
        """Seconds that a pod gets: none where it was never given to a node, or has ended."""
        if kind != PODS or not found["spec"].get("nodeName"):
            return 0
        if found["status"].get("phase") in ("Succeeded", "Failed") and asked is None:
            return 0
        return int(found["spec"]["terminationGracePeriodSeconds"] if asked is None else asked)

    def _check_namespace(self, kind: Kind, namespace: str) -> None:
        found = self._objects.get((NAMESPACES, "", namespace))
        if found is None:
            raise not_found("namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            raise forbidden(
                kind.plural, "", f"unable to create new content in namespace {namespace} because it is being terminated"
            )

    def _admit_security(self, kind: Kind, found: Object) -> None:
        if kind != PODS:
            return
        metadata = found["metadata"]
        namespace = self._find(NAMESPACES, "", metadata["namespace"])
        level = namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce", "")
        if faults := pod_rules.security_faults(found, level):
            raise forbidden("pods", metadata["name"], f'violates PodSecurity "{level}:latest": {", ".join(faults)}')

    def _admit_quota(self, kind: Kind, found: Object) -> None:
        if kind != PODS:
            return
        namespace = found["metadata"]["namespace"]
        asked = {"pods": 1.0} | {f"requests.{name}": value for name, value in pod_rules.requests(found).items()}
        pods = [
            other
            for key, other in self._objects.items()
            if key[0] == PODS and key[1] == namespace and other["status"]["phase"] not in ("Succeeded", "Failed")
        ]
        for key, quota in self._objects.items():
            if key[0] != QUOTAS or key[1] != namespace:
                continue
            for name, hard in quota["spec"].get("hard", {}).items():
                used = sum(
                    1.0 if name == "pods" else pod_rules.requests(pod).get(name.removeprefix("requests."), 0.0)
                    for pod in pods
                )
                if used + asked.get(name, 0.0) > pod_rules.quantity(hard):
                    why = f"exceeded quota: {key[2]}, requested: {name}={asked.get(name, 0):g}, used: {name}={used:g}, limited: {name}={hard}"
                    raise forbidden("pods", found["metadata"]["name"], why)


def kind_of(found: Object) -> Kind:
    return BY_NAME[found["apiVersion"], found["kind"]]


def timestamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _copy(found: Object) -> Object:
    copied: Object = json.loads(json.dumps(found))
    return copied


def _placed(spec: Object) -> Object:
    """What of a pod's spec no update may change."""
    free = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds")
    fixed: Object = {key: value for key, value in _copy(spec).items() if key not in free}
    for container in (*fixed.get("initContainers", ()), *fixed["containers"]):
        container.pop("image", None)
    return fixed


def _check_metadata(kind: Kind, metadata: Object) -> None:
    name = metadata.get("name", "")
    if not name:
        raise invalid(kind.name, "", "metadata.name", "Required value: name or generateName is required")
    if not _NAME.fullmatch(name):
        raise invalid(
            kind.name,
            name,
            "metadata.name",
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "-" or "."',
        )
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise invalid(
                kind.name,
                name,
                "metadata.labels",
                f'Invalid value: "{key}: {value}": a valid label must be at most 63 characters',
            )
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        if not owner.get("uid") or not owner.get("name"):
            raise invalid(
                kind.name, name, f"metadata.ownerReferences[{index}].uid", "Required value: must not be empty"
            )
