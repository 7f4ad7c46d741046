"""Reused results, computed again and compared (design note 025).

Which ones follows from the job's row and the datums' ids, so that a job that is planned again audits the same. What comes out
changes nothing: the kept results stay in the output and in the cache, and the job does not fail.
"""

from __future__ import annotations

import json
import math
from dataclasses import field
from typing import Any

import numpy as np

from paddock.model.dataclass import dataclass
from paddock.model.records import DatumState
from paddock.runtime.outputs import BatchResults
from paddock.runtime.plan import FOUND, KEPT, Integers, Plan

FINDINGS_MAX = 100
"""Datums that are named of those that differ."""
NAMES_MAX = 10
"""Inputs and files that are named of each."""
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class Audit:
    """The datums of a plan that are computed again, and what they came to: position to (batch, ordinal, state, reason)."""

    positions: Integers
    outcomes: dict[int, tuple[bytes, int, DatumState, str]] = field(default_factory=dict)
    _chosen: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self._chosen = frozenset(self.positions.tolist())

    def __contains__(self, position: int) -> bool:
        return position in self._chosen

    def waiting(self) -> Integers:
        """Those that have not ended; ascending."""
        return np.array([each for each in self.positions.tolist() if each not in self.outcomes], np.int64)


NO_AUDIT = Audit(np.zeros(0, np.int64))


def choose(plan: Plan, share: float, job: int) -> Audit:
    """Pick a share (0 to 1) of the datums that a job reuses, at least one of them; carried results are known to be of other code.

    The plan must hold the kept datums too (`PlanRequest.whole`).
    """
    reused = np.flatnonzero((plan.actions == KEPT) | (plan.actions == FOUND))
    count = math.ceil(share * len(reused))
    if not count:
        return NO_AUDIT
    ids = np.frombuffer(b"".join(plan.ids.take(reused)), np.uint64).reshape(len(reused), -1)[:, 0]
    order = (ids ^ np.uint64(job * int(_ODD) % (1 << 64))) * _ODD
    return Audit(np.sort(reused[np.argsort(order, kind="stable")[:count]]))


def report(plan: Plan, audit: Audit, results: BatchResults) -> str:
    """What the audit found, as the JSON that the catalog keeps; empty where nothing was audited."""
    findings: list[dict[str, Any]] = []
    differing = 0
    for position, (batch, ordinal, state, reason) in sorted(audit.outcomes.items()):
        kept = plan.results.get(position)
        assert kept is not None, "an audited datum has a kept result"
        failed = state is not DatumState.SUCCESS
        files = [] if failed else _differences(results.named(kept[0], kept[1]), results.named(batch, ordinal))
        if not failed and not files:
            continue
        differing += 1
        if len(findings) < FINDINGS_MAX:
            inputs = [
                f"{plan.leaves[leaf].name}:{plan.matches[leaf].paths[at]}" for leaf, at in plan.files_of(position)
            ]
            findings.append(
                {
                    "datum": plan.ids[position].hex(),
                    "inputs": inputs[:NAMES_MAX],
                    "files": files[:NAMES_MAX],
                    "reason": f"the second run failed: {reason}" if failed else "",
                }
            )
    if not audit.outcomes:
        return ""
    return json.dumps({"checked": len(audit.outcomes), "differing": differing, "findings": findings})


def _differences(kept: dict[str, tuple[bytes, int]], again: dict[str, tuple[bytes, int]]) -> list[str]:
    found = []
    for path in sorted(kept.keys() | again.keys()):
        if path not in again:
            found.append(f"{path} removed")
        elif path not in kept:
            found.append(f"{path} added")
        elif kept[path] != again[path]:
            found.append(f"{path} changed")
    return found
