"""What Slurm says of a task, in words that a user can act on. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from paddock.runtime.engines.provisioner import MemberState


class Standing(NamedTuple):
    """As in `Member`."""

    state: MemberState
    reason: str = ""
    retry: bool = True
    taken: bool = False


_RUNNING = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"})
_ENDED = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
    }
)  # fmt: skip

_NEVER_FITS = (
    "no node of the partition ever has what it asks for; lower resource_requests, or change slurm.partition, slurm.constraint or"
    " slurm.gres"
)
_WAITING: Mapping[str, tuple[str, bool]] = {
    "Resources": ("it is the next to start when enough CPUs, memory and GPUs are free", True),
    "Priority": ("jobs of higher priority come first", True),
    "JobArrayTaskLimit": ("as many as may run at once are running", True),
    "BeginTime": ("it may not begin before the time that --begin names", True),
    "Licenses": ("all licenses of what it asks for are in use", True),
    "Reservation": ("its reservation has not begun", True),
    "Prolog": ("the node is being prepared", True),
    "Cleaning": ("the node is still being cleaned up", True),
    "NodeDown": ("a node that it needs is down; ask the administrators of the cluster if that lasts", True),
    "PartitionDown": (
        "the partition is closed for now; wait, name another in slurm.partition, or ask the administrators",
        True,
    ),
    "PartitionInactive": (
        "the partition is out of use; name another in slurm.partition, or ask the administrators",
        True,
    ),
    "ReservationDeleted": ("its reservation is gone; change --reservation in slurm.options", False),
    "JobHeldAdmin": ("an administrator holds it; ask them", True),
    "JobHeldUser": ("somebody holds it; `scontrol release` lets it go", True),
    "Dependency": ("the jobs that --dependency in slurm.options names have not ended", True),
    "DependencyNeverSatisfied": (
        "what --dependency in slurm.options asks for can't happen any more; remove it",
        False,
    ),
    "PartitionTimeLimit": (
        "the partition takes no job that long; lower slurm.time_limit, or name another in slurm.partition",
        False,
    ),
    "PartitionNodeLimit": (
        "the partition takes no job of so many nodes; lower resource_requests, or name another in slurm.partition",
        False,
    ),
    "PartitionConfig": (_NEVER_FITS, False),
    "BadConstraints": (_NEVER_FITS, False),
    "InvalidAccount": ("the account may not be used; change slurm.account", False),
    "AccountNotAllowed": ("the partition does not take the account; change slurm.account or slurm.partition", False),
    "InvalidQOS": ("the quality of service may not be used; change slurm.qos", False),
    "QOSNotAllowed": (
        "the partition does not take the quality of service; change slurm.qos or slurm.partition",
        False,
    ),
    "DeadLine": ("it can't end before its deadline any more; remove --deadline from slurm.options", False),
}
"""Slurm's reason (its first word): what it means with what to do, and whether it may pass by itself."""

_SENTENCES: Mapping[str, str] = {
    "account not permitted to use this partition": "AccountNotAllowed",
    "QOS not permitted to use this partition": "QOSNotAllowed",
}
"""What Slurm says in place of a reason's name."""
_ALWAYS_TOO_MUCH = re.compile(r"Max\w*Per(Job|Node)|Max\w*(Wall|MinutesPerJob)|Min[A-Z]|MaxMemPerLimit")
"""Limits that a single job breaks, whatever else runs."""
_ENDS: Mapping[str, str] = {
    "BOOT_FAIL": "its node{nodes} could not be booted; another is started",
    "LAUNCH_FAILED": "it could not be launched on its node{nodes}; another is started",
    "NODE_FAIL": "its node{nodes} failed; its datums run again elsewhere",
    "PREEMPTED": "a job of higher priority took its place{where}; its datums run again",
    "REVOKED": "another cluster of the federation took it",
    "CANCELLED": "somebody cancelled it (scancel); its datums run again",
    "DEADLINE": "its deadline came before its end; remove --deadline from slurm.options",
    "TIMEOUT": "its time limit ({limit}) came before its datum ended, which runs again; raise slurm.time_limit or"
    " slurm.drain_time if that repeats",
    "OUT_OF_MEMORY": "it took more memory than it had asked for{where}; raise resource_requests.memory",
}  # fmt: skip


_TAKEN = frozenset({"BOOT_FAIL", "CANCELLED", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "REVOKED"})
"""Ends that say nothing of the datum at work, however often they come."""


def standing_of(state: str, reason: str) -> Standing:
    """Of a task that has not ended in bad order; its state and reason as `squeue` gives them."""
    if state in _RUNNING:
        return Standing(MemberState.STARTED, "Slurm has suspended it" if state == "SUSPENDED" else "")
    if state in _ENDED:
        return Standing(MemberState.ENDED)
    if state == "CONFIGURING":
        return Standing(MemberState.WAITING, "its node is being booted (Slurm: CONFIGURING)")
    if not reason:
        return Standing(MemberState.WAITING)
    why, passing = why_waiting(reason)
    return Standing(MemberState.WAITING, f"{why} (Slurm: {reason})", passing)


def fetching(said: str) -> Standing:
    """Of a task that runs and makes ready. said: the last line that its worker has printed."""
    return Standing(MemberState.WAITING, f"its worker is {said}, which may take minutes (Slurm: RUNNING)")


def end_of(state: str, facts: Mapping[str, str], output: str | None) -> Standing:
    """Of a task that has ended. facts: as `scontrol show job` gives them; may be empty. output: the end of what it printed; None
    where that was not found."""
    if state == "COMPLETED":
        return Standing(MemberState.ENDED)
    nodes = facts.get("NodeList", "")
    nodes = f" {nodes}" if nodes not in ("", "(null)") else ""
    where = f" on{nodes}" if nodes else ""
    found = _ENDS.get(state)
    if found is None:
        return _failure(facts, where, output)
    why = found.format(nodes=nodes, where=where, limit=facts.get("TimeLimit", "of its partition"))
    retry = state not in ("OUT_OF_MEMORY", "DEADLINE")
    return Standing(MemberState.ENDED, f"{why} (Slurm: {state})", retry, state in _TAKEN)


def _failure(facts: Mapping[str, str], where: str, output: str | None) -> Standing:
    """Its command failed, or could not be run at all."""
    why, passing = why_waiting(facts.get("Reason", ""))
    if not passing:
        return Standing(MemberState.ENDED, f"{why} (Slurm: {facts['Reason']})", False)
    code, _, signal = facts.get("ExitCode", "").partition(":")
    how = f"was killed by signal {signal}" if signal not in ("", "0") else f"ended with exit code {code or 'unknown'}"
    if output is None:
        said = "; its output is not here, so see whether nodes share the folder that PADDOCK_SLURM_FOLDER names"
    else:
        said = f": {output}" if output else " and printed nothing"
    return Standing(MemberState.ENDED, f"the worker{where} {how}{said} (Slurm: FAILED)")


def why_waiting(reason: str) -> tuple[str, bool]:
    """What Slurm's reason means, with what to do; and whether it may pass by itself."""
    word = re.split(r"[,:( ]", reason, maxsplit=1)[0]
    word = next((name for text, name in _SENTENCES.items() if text in reason), word)
    if word in _WAITING:
        return _WAITING[word]
    if word == "ReqNodeNotAvail" or "DOWN, DRAINED" in reason:
        return (
            "nodes that it needs are down, drained or reserved; wait, name other nodes, or ask the administrators",
            True,
        )
    if re.match(r"(QOS|Assoc|Max)", word):
        whose = "slurm.qos" if word.startswith("QOS") else "slurm.account"
        if _ALWAYS_TOO_MUCH.search(word):
            if "Wall" in word:
                return f"a job may not last so long under its limits; lower slurm.time_limit, or change {whose}", False
            return f"a job may not ask for that under its limits; change resource_requests or {whose}", False
        return f"the limits of user, account or QOS are used up; it starts when other jobs end, or change {whose}", True
    if "launch failed" in reason:
        return "it could not be launched, and Slurm holds it; ask the administrators about its node", True
    return "it waits in the queue", True
