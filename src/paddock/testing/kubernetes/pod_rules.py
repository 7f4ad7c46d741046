"""What the API server asks of a pod beyond the schema, and what it fills in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from paddock.testing.kubernetes.statuses import Object, RefusedError, invalid

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"([+-]?[0-9.]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_FACTORS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)
}


def quantity(value: object) -> float:
    """ValueError: it is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"quantities must match the regular expression '{_QUANTITY.pattern}'")
    return float(match[1]) * _FACTORS[match[2] or ""]


def fill_in(pod: Object) -> None:
    spec = pod["spec"]
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("schedulerName", "default-scheduler")
    for container in containers(pod):
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
        resources = container.setdefault("resources", {})
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable"}


def containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def requests(pod: Object) -> dict[str, float]:
    """What its containers ask for together; init containers run before them, and count where they ask for more."""
    total: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        for name, value in container.get("resources", {}).get("requests", {}).items():
            total[name] = total.get(name, 0.0) + quantity(value)
    for container in pod["spec"].get("initContainers", ()):
        for name, value in container.get("resources", {}).get("requests", {}).items():
            total[name] = max(total.get(name, 0.0), quantity(value))
    return total


def check(pod: Object) -> None:
    """Refused (422) with the field and why."""
    name = pod["metadata"]["name"]
    for field, why in _faults(pod):
        raise invalid("Pod", name, field, why)


def security_faults(pod: Object, level: str) -> list[str]:
    """How a pod breaks a level of the Pod Security Standards, in the API server's words; as much of it as Paddock's pods could break."""
    if level != "restricted":
        return []
    faults = []
    shared = pod["spec"].get("securityContext", {})
    for container in containers(pod):
        own = {**shared, **container.get("securityContext", {})}
        place = f'container "{container["name"]}"'
        if own.get("allowPrivilegeEscalation") is not False:
            faults.append(f"allowPrivilegeEscalation != false ({place} must set it to false)")
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            faults.append(f'unrestricted capabilities ({place} must set securityContext.capabilities.drop=["ALL"])')
        if own.get("runAsNonRoot") is not True:
            faults.append(f"runAsNonRoot != true ({place} must set securityContext.runAsNonRoot=true)")
        if own.get("runAsUser") == 0:
            faults.append(f"runAsUser=0 ({place} must not set runAsUser=0)")
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            faults.append(f"seccompProfile ({place} must set securityContext.seccompProfile.type)")
    return faults


def _faults(pod: Object) -> Iterator[tuple[str, str]]:
    spec = pod["spec"]
    if spec.get("restartPolicy") not in (None, "Always", "OnFailure", "Never"):
        yield "spec.restartPolicy", f'Unsupported value: "{spec["restartPolicy"]}"'
    volumes = [volume["name"] for volume in spec.get("volumes", ())]
    seen: set[str] = set()
    for list_name in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(list_name, ())):
            place = f"spec.{list_name}[{index}]"
            if not _LABEL.fullmatch(container["name"]):
                yield f"{place}.name", f'Invalid value: "{container["name"]}": a lowercase RFC 1123 label'
            if container["name"] in seen:
                yield f"{place}.name", f'Duplicate value: "{container["name"]}"'
            seen.add(container["name"])
            if not container.get("image"):
                yield f"{place}.image", "Required value"
            yield from _mount_faults(container, place, volumes)
            yield from _resource_faults(container, place)
    for index, volume in enumerate(volumes):
        if volumes.index(volume) != index:
            yield f"spec.volumes[{index}].name", f'Duplicate value: "{volume}"'
    yield from _toleration_faults(spec)


def _mount_faults(container: Object, place: str, volumes: list[str]) -> Iterator[tuple[str, str]]:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if mount["name"] not in volumes:
            yield f"{place}.volumeMounts[{index}].name", f'Not found: "{mount["name"]}"'
        if mount["mountPath"] in paths:
            yield f"{place}.volumeMounts[{index}].mountPath", f'Invalid value: "{mount["mountPath"]}": must be unique'
        paths.add(mount["mountPath"])


def _resource_faults(container: Object, place: str) -> Iterator[tuple[str, str]]:
    resources = container.get("resources", {})
    for group in ("requests", "limits"):
        for name, value in resources.get(group, {}).items():
            field = f"{place}.resources.{group}[{name}]"
            try:
                amount = quantity(value)
            except ValueError as error:
                raise RefusedError(400, "BadRequest", f"Pod in version can not be handled: {error}") from None
            limit = resources.get("limits", {}).get(name)
            if group == "requests" and limit is not None and quantity(limit) < amount:
                yield field, f'Invalid value: "{value}": must be less than or equal to {name} limit of {limit}'
            if group == "requests" and "/" in name and limit is None:
                yield field, "Limit must be set for non overcommitable resources"


def _toleration_faults(spec: Object) -> Iterator[tuple[str, str]]:
    for index, toleration in enumerate(spec.get("tolerations", ())):
        place = f"spec.tolerations[{index}]"
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            yield f"{place}.operator", "Invalid value: value must be empty when `operator` is 'Exists'"
        if not toleration.get("key") and toleration.get("operator") != "Exists":
            yield f"{place}.operator", "Invalid value: operator must be Exists when `key` is empty"
        if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
            yield f"{place}.effect", "Invalid value: effect must be 'NoExecute' when `tolerationSeconds` is set"
