"""What a pod's status means for a member: its state, and where something is wrong, a reason with the next step. Pure.

A reason is: what happened, Kubernetes' own words, what to do. Kubernetes heals much by itself (it pulls again, it schedules when
there is room), so a member that waits keeps waiting; `retry` says whether it helps to start another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from paddock.model.dataclass import dataclass
from paddock.model.sizes import format_size
from paddock.runtime.engines.kubernetes.objects import Object
from paddock.runtime.engines.kubernetes.pods import USER, WORKER
from paddock.runtime.engines.provisioner import MemberState

UNCONFIRMED_SECONDS = 30.0
"""A pod that should be gone for so long is on a node that does not answer."""
MESSAGE_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Seen:
    state: MemberState
    reason: str = ""
    retry: bool = True
    mounting: bool = False
    """It is on a node, and nothing of it runs yet: only its events tell what it waits for, if it is for long."""
    taken: bool = False
    """As in `Member`."""


def read_pod(pod: Object, now: datetime) -> Seen:
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded":
        return Seen(MemberState.ENDED)
    if phase == "Failed":
        return _failed(pod)
    if "deletionTimestamp" in pod["metadata"]:
        return _leaving(pod, now)
    if (waits := _waits(pod)) is not None:
        return waits
    worker, user = _container(pod, WORKER), _container(pod, USER)
    if _state(worker, "terminated") is not None:
        return _failed(pod) if _exit_code(worker) else Seen(MemberState.ENDED)
    if (ended := _state(user, "terminated")) is not None:
        return Seen(MemberState.STARTED, _died(USER, ended, pod))
    if _state(worker, "running") is None or _state(user, "running") is None:
        return Seen(MemberState.WAITING, mounting=bool(pod["spec"].get("nodeName")))
    if _is_out_of_touch(pod):
        node = pod["spec"].get("nodeName", "")
        return Seen(MemberState.STARTED, f"node {node} does not answer; what ran there goes to other workers")
    return Seen(MemberState.STARTED)


def read_events(events: Iterable[Object]) -> str:
    """Why nothing of a pod runs yet, from its events; empty where they tell of no trouble."""
    troubles = [event for event in events if event.get("type") == "Warning" and event.get("reason") in _EVENTS]
    if not troubles:
        return ""
    last = max(troubles, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    what, then = _EVENTS[str(last["reason"])]
    return f"{what}: {_words(last.get('message'))}; {then}"


_EVENTS: Mapping[str, tuple[str, str]] = {
    "FailedMount": ("a volume can't be mounted", "create the Secret or volume that is missing, or mend the spec"),
    "FailedAttachVolume": ("a volume can't be attached", "mend the volume that the pod names"),
    "FailedCreatePodSandBox": ("the node can't make room for the pod", "look at the node's runtime and network"),
}


# ---- pods that wait --------------------------------------------------------------------------------------------


def _waits(pod: Object) -> Seen | None:
    """What holds a pod up that is to run, if Kubernetes says so."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        if scheduled.get("reason") == "SchedulingGated":
            return Seen(
                MemberState.WAITING, "something holds the pod back (a scheduling gate); look who set it on the pod"
            )
        return Seen(MemberState.WAITING, _unschedulable(_words(scheduled.get("message"))))
    for container in _containers(pod):
        waiting = _state(container, "waiting")
        if waiting is not None and waiting.get("reason") in _WAITING:
            what, then = _WAITING[waiting["reason"]]
            name, image = container["name"], container.get("image", "")
            words = _words(waiting.get("message"))
            if "runAsNonRoot" in words:
                then = "name a user by its number in transform.user, such as 65532"
            what = what.format(container=_called(name), image=image)
            return Seen(MemberState.WAITING, f"{what}{f': {words}' if words else ''}; {then}", retry=False)
    return None


_PULL = "check the name (transform.image), the registry, and image_pull_secrets where it is private; it is tried again"
_WAITING: Mapping[str, tuple[str, str]] = {
    "ErrImagePull": ("image {image} can't be pulled", _PULL),
    "ImagePullBackOff": ("image {image} can't be pulled", _PULL),
    "RegistryUnavailable": ("the registry of image {image} does not answer", _PULL),
    "ImageInspectError": ("image {image} can't be read on the node", _PULL),
    "InvalidImageName": ("{image!r} is not the name of an image", "mend transform.image"),
    "ErrImageNeverPull": (
        "image {image} is not on the node, and the pull policy is Never",
        "load it on every node, or set PADDOCK_IMAGE_PULL_POLICY",
    ),
    "CreateContainerConfigError": (
        "{container} can't be set up",
        "create the Secret or key that is missing, or mend transform.secrets; it is tried again",
    ),
    "CreateContainerError": ("{container} can't be made", "mend what it names; it is tried again"),
    "RunContainerError": ("{container} can't be started", "mend what it names; it is tried again"),
    "CrashLoopBackOff": ("{container} ends again and again", "look at its log: kubectl logs POD -c CONTAINER"),
}


def _unschedulable(message: str) -> str:
    message = re.split(r"\s*(?:preemption|no new claims to deallocate)[:,]", message)[0].rstrip(". ")
    then = "add nodes, or change what the spec asks of them"
    if "Insufficient" in message or "Too many pods" in message:
        then = "ask for less (resource_requests), add nodes, or wait for room"
    elif "node affinity" in message:
        then = "mend scheduling_spec.node_selector, or label a node"
    elif "taint" in message:
        then = "add to tolerations, or take the taint off a node"
    return f"no node can take the pod: {message or 'no reason is given'}; {then}"


# ---- pods that end ---------------------------------------------------------------------------------------------


def _leaving(pod: Object, now: datetime) -> Seen:
    if _state(_container(pod, WORKER), "terminated") is not None:
        return _failed(pod) if _disruption(pod) else Seen(MemberState.ENDED)
    until = datetime.strptime(pod["metadata"]["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if now > until + timedelta(seconds=UNCONFIRMED_SECONDS):
        node = pod["spec"].get("nodeName", "")
        return Seen(
            MemberState.ENDED, f"node {node} does not confirm that the pod has ended; it may be lost", taken=True
        )
    disruption = _disruption(pod)
    if _state(_container(pod, WORKER), "running") is None:
        return Seen(MemberState.ENDED, disruption, taken=_is_taken(pod))
    return Seen(MemberState.STARTED, disruption)


def _is_out_of_touch(pod: Object) -> bool:
    """Whether the pod's node has been silent for so long that the node controller says for it that its pods are not ready.

    It changes nothing but that (`MarkPodsNotReady`), while a node itself always says why a pod is not ready.
    """
    ready, containers = _condition(pod, "Ready"), _condition(pod, "ContainersReady")
    return ready.get("status") == "False" and not ready.get("reason") and containers.get("status") == "True"


def _failed(pod: Object) -> Seen:
    status = pod["status"]
    if disruption := _disruption(pod):
        return Seen(MemberState.ENDED, disruption, taken=_is_taken(pod))
    for init in status.get("initContainerStatuses") or ():
        if _exit_code(init):
            return _container_failed(init, pod)
    # The worker reports and ends after what it works with has died, so the other one's reason comes first.
    for name in (USER, WORKER):
        container = _container(pod, name)
        if _exit_code(container):
            return _container_failed(container, pod)
    reason, words = str(status.get("reason") or ""), _words(status.get("message"))
    return Seen(MemberState.ENDED, f"the pod failed: {words or reason or 'no reason is given'}; another one is started")


def _container_failed(container: Object, pod: Object) -> Seen:
    ended = _state(container, "terminated") or {}
    cannot_start = ended.get("reason") in ("StartError", "ContainerCannotRun")
    return Seen(MemberState.ENDED, _died(container["name"], ended, pod), retry=not cannot_start)


def _died(name: str, ended: Object, pod: Object) -> str:
    """Why a container is no more."""
    called, code, words = _called(name), ended.get("exitCode"), _words(ended.get("message"), last=True)
    match ended.get("reason"):
        case "OOMKilled":
            field = "resource_limits.memory" if name == USER else "sidecar_resource_limits.memory"
            limit = _memory_limit(pod, name)
            most = f" (its limit is {limit})" if limit else ""
            return f"{called} needed more memory than it may have{most}, and was ended; raise {field}"
        case "StartError" | "ContainerCannotRun":
            return f"{called} can't be started: {words}; is the image for this kind of machine?"
    if name not in (USER, WORKER):
        return f"{called} failed with exit code {code}{f': {words}' if words else ''}; is PADDOCK_WORKER_IMAGE Paddock's image?"
    return f"{called} ended with exit code {code}{f': {words}' if words else ''}"


def _is_taken(pod: Object) -> bool:
    """Whether what ended the pod says nothing of what it ran: an eviction for want of memory, and a deadline, may."""
    found = _condition(pod, "DisruptionTarget")
    causes = {pod["status"].get("reason"), found.get("reason") if found.get("status") == "True" else None}
    return bool(causes & (_DISRUPTIONS.keys() - {"DeadlineExceeded"}))


def _disruption(pod: Object) -> str:
    """What ended the pod from outside; empty where nothing did."""
    status = pod["status"]
    reason, words = str(status.get("reason") or ""), _words(status.get("message"))
    found = _condition(pod, "DisruptionTarget")
    cause = str(found.get("reason") or "") if found.get("status") == "True" else ""
    if reason == "Evicted" or cause == "TerminationByKubelet":
        if "shutdown" in words.lower():
            return f"its node was shut down: {words}; another one is started"
        words = words or _words(found.get("message"))
        return f"its node ended the pod to stay in work: {words}; ask for more (resource_requests), so that it is placed where there is enough"
    for known, sentence in _DISRUPTIONS.items():
        if known in (reason, cause):
            return sentence.format(words=words or _words(found.get("message")), node=pod["spec"].get("nodeName", ""))
    if reason.startswith("OutOf") or reason in ("UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError"):
        return f"node {pod['spec'].get('nodeName', '')} refused the pod ({reason}): {words}; another one is started"
    return ""


_GONE = "node {node} is gone; another one is started"
_DISRUPTIONS: Mapping[str, str] = {
    "PreemptionByScheduler": "a pod of higher priority took its place; another one is started (scheduling_spec.priority_class_name)",
    "Preempting": "a pod of higher priority took its place; another one is started (scheduling_spec.priority_class_name)",
    "EvictionByEvictionAPI": "its node is being drained; another one is started elsewhere",
    "DeletionByTaintManager": "node {node} does not answer or has a new taint; another one is started elsewhere",
    "DeletionByPodGC": _GONE,
    "NodeLost": _GONE,
    "Shutdown": "its node was shut down: {words}; another one is started",
    "NodeShutdown": "its node was shut down: {words}; another one is started",
    "Terminated": "its node was shut down: {words}; another one is started",
    "DeadlineExceeded": "the pod ran longer than its activeDeadlineSeconds (pod_spec); another one is started",
}


# ---- parts of a status -----------------------------------------------------------------------------------------


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _container(pod: Object, name: str) -> Object:
    return next((found for found in _containers(pod) if found.get("name") == name), {})


def _state(container: Object, state: str) -> Object | None:
    found: Object | None = (container.get("state") or {}).get(state)
    return found


def _exit_code(container: Object) -> int:
    return int((_state(container, "terminated") or {}).get("exitCode") or 0)


def _condition(pod: Object, kind: str) -> Object:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == kind), {})


def _memory_limit(pod: Object, name: str) -> str:
    for container in pod["spec"]["containers"]:
        if container["name"] == name:
            limit = str(container.get("resources", {}).get("limits", {}).get("memory", ""))
            return format_size(int(limit)) if limit.isdecimal() else limit
    return ""


def _called(name: str) -> str:
    return {USER: "the container of the user's image", WORKER: "Paddock's container"}.get(name, f"container {name}")


def _words(message: object, *, last: bool = False) -> str:
    """A message as a part of a sentence: one line (the last one, of a log), not too long."""
    text = str(message or "").strip()
    if last:
        text = text.splitlines()[-1] if text else ""
    text = " ".join(text.split()).rstrip(".;")
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 1] + "…"
