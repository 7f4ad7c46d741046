"""Planning a job: which datums its input has, which of them have a result already, and which must run.

Two ways to one answer. `plan_changed` maps what changed in the inputs since the base to the datums that this reaches, so its cost
follows the change. `plan_whole` enumerates all datums and compares them with the base; it is taken where the first does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paddock.model.ids import Digest
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.carrying import Carried, FindResults, carry
from paddock.runtime.cut_files import CutFiles
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan import FOUND, KEPT, RUN, InputCommit, Plan
from paddock.runtime.plan_changed import plan_changed
from paddock.runtime.plan_request import Base, PlanRequest
from paddock.runtime.plan_whole import plan_whole
from paddock.versions.home import Home

__all__ = ["FOUND", "KEPT", "RUN", "Base", "Carried", "FindResults", "InputCommit", "Plan", "plan_job"]


def plan_job(
    home: Home,
    spec: PipelineSpec,
    *,
    transform: Digest,
    inputs: Mapping[tuple[str, str, str], InputCommit],
    base: Base | None,
    found: FindResults,
    reuse: bool,
    carries: Sequence[Carried] = (),
    whole: bool = False,
) -> Plan:
    """Plan one job.

    inputs: the commit of each (project, repo, branch) that the spec reads. found: looks results up by datum key.
    carries: other transforms whose results count too, the first ones before others. whole: see `PlanRequest`.
    With `reuse` false every datum runs. Reads trees and tables only; writes nothing but how it cut files that are split (a cache).
    InvalidInput: such a file is not of its format. Cost: in proportion to what changed since
    `base` where that can be told, else one pass over the matched paths, about 3 µs a datum.
    """
    request = PlanRequest(spec=spec, transform=transform, inputs=inputs, base=base, reuse=reuse, whole=whole)
    matches = LeafMatches(home.trees, CutFiles(home).find)
    plan = plan_changed(matches, request)
    if plan is None:
        plan = plan_whole(matches, request)
    if reuse:
        _look_up(plan, found)
        for each in carries:
            carry(home.trees, plan, base, each)
    return plan


def _look_up(plan: Plan, found: FindResults) -> None:
    wanted = np.flatnonzero(plan.actions == RUN)
    keys = plan.keys.take(wanted) if len(wanted) < len(plan) else plan.keys
    results = found(keys) if len(keys) else {}
    for position, key in zip(wanted.tolist(), keys, strict=True) if results else ():
        result = results.get(key)
        if result is not None:
            plan.reuse(position, FOUND, *result)
