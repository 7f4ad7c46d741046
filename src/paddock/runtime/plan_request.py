"""What a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.pipelines.inputs import Leaf, leaves_of
from paddock.pipelines.models import Input, PipelineSpec
from paddock.runtime.plan import InputCommit

Place = tuple[str, str, str]
"""(project, repo, branch)"""


@dataclass(frozen=True, slots=True)
class Base:
    """The last good job of the pipeline: its datums table, its output tree, and what it was made from.

    inputs: the tree of each place that it read. settled: every one of its datums has a result that may be used again.
    """

    datums: Digest
    tree: Digest
    input: Input
    transform: Digest
    inputs: Mapping[Place, Digest]
    settled: bool


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One job to plan. inputs: the commit of each place that the spec reads. reuse: whether kept results count.

    whole: have all datums in the plan's columns, also those that stay as the base has them.
    """

    spec: PipelineSpec
    transform: Digest
    inputs: Mapping[Place, InputCommit]
    base: Base | None
    reuse: bool
    whole: bool = False

    def commit_of(self, leaf: Leaf) -> InputCommit:
        return self.inputs[place_of(leaf)]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return leaves_of(self.spec)


def place_of(leaf: Leaf) -> Place:
    return leaf.project, leaf.repo, leaf.branch
