"""Planning a job over a million files, without running anything: from nothing, and after one change."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from blake3 import blake3
from measure import Budget, Result, Settings, median, samples_of

from paddock.model.ids import Digest
from paddock.pipelines.documents import parse_specs
from paddock.pipelines.keys import transform_digest
from paddock.pipelines.spec import validate_specs
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.plan import InputCommit, Plan
from paddock.runtime.plan_request import Base
from paddock.runtime.planner import plan_job
from paddock.storage.columnar import arrow_schema
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

FOLDER_FILES = 1000
PLACE = ("default", "data", "main")
SPEC = """
pipeline: copy
transform: {cmd: [cp, "{in}", "{out}"]}
input: {pfs: {repo: data, glob: "/*/*"}}
"""
JOIN = """
pipeline: copy
transform: {cmd: [cp, "{in}", "{out}"]}
input:
  join:
    - pfs: {name: file, repo: data, glob: "/(*)/*", join_on: $1}
    - pfs: {name: folder, repo: data, glob: "/(*)", join_on: $1}
"""
GROUP = """
pipeline: copy
transform: {cmd: [cp, "{in}", "{out}"]}
input:
  group:
    - pfs: {repo: data, glob: "/(*)/*", group_by: $1}
"""
CROSS = """
pipeline: copy
transform: {cmd: [cp, "{in}", "{out}"]}
input:
  cross:
    - pfs: {name: file, repo: data, glob: "/d0000/*"}
    - pfs: {name: other, repo: data, glob: "/d0001/*"}
"""


def plan(settings: Settings) -> Result:
    count = settings.size(1_000_000, 20_000)
    bench = Bench(settings.work, count)
    samples = samples_of(settings.repeats, lambda _: lambda: expect(bench.plan(bench.tree, None).total, count))
    return Result(
        name="plan",
        what=f"plan {count:,} datums from a glob",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("< 5 s", median(samples), 5.0),),
    )


def plan_change(settings: Settings) -> Result:
    """The next job, after one file of the million has changed."""
    return _change(settings, "plan-change", SPEC, 1)


def plan_change_join(settings: Settings) -> Result:
    """Each file with its folder, by the folder's name: a change of one file reaches all files of its folder."""
    return _change(settings, "plan-change-join", JOIN, FOLDER_FILES)


def plan_change_group(settings: Settings) -> Result:
    return _change(settings, "plan-change-group", GROUP, 1)


def plan_change_cross(settings: Settings) -> Result:
    """The files of one folder with those of another: the changed file meets each of them."""
    few, many = CROSS.replace("/d0001/*", "/d0001/*00"), CROSS
    spec, reached = (few, FOLDER_FILES // 100) if settings.quick else (many, FOLDER_FILES)
    return _change(settings, "plan-change-cross", spec, reached)


def _change(settings: Settings, name: str, spec: str, reached: int) -> Result:
    count = settings.size(1_000_000, 20_000)
    bench = Bench(settings.work, count, spec)
    base = bench.finished(bench.plan(bench.tree, None))
    changed = bench.write(wide_table(range(7, 8), made_up=b"changed"), bench.tree)
    samples = samples_of(9, lambda _: lambda: expect(len(bench.plan(changed, base)), reached))
    return Result(
        name=name,
        what=f"plan again after 1 of {count:,} files changed; {reached:,} to run",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("< 0.1 s", median(samples), 0.1),),
    )


class Bench:
    """A home with one wide tree, and a pipeline that is planned and never run."""

    def __init__(self, work: Path, count: int, spec: str = SPEC) -> None:
        self.home = Home.open(work / "home", create=True)
        (checked,) = validate_specs(parse_specs(spec, source_name="bench"))
        self.spec = checked.spec
        self.transform = transform_digest(self.spec, None)
        self.tree = self.write(wide_table(range(count)), self.home.trees.empty())

    def write(self, table: pa.Table, base: Digest) -> Digest:
        with self.home.chunks.writer() as writer:
            root = self.home.trees.merge(base, table, [], [], writer)
            writer.flush()
        return root

    def plan(self, tree: Digest, base: Base | None) -> Plan:
        return plan_job(
            self.home,
            self.spec,
            transform=self.transform,
            inputs={PLACE: InputCommit(id="0" * 32, tree=tree)},
            base=base,
            found=lambda keys: {},
            reuse=True,
        )

    def finished(self, plan: Plan) -> Base:
        """What the job would leave, had each of its datums been computed in one batch."""
        for position in range(len(plan)):
            plan.results.set(position, b"b" * 32, position, b"j" * 16)
        plan.successes[:] = True
        with self.home.chunks.writer() as writer:
            datums = self.home.tables.merge_sorted(DATUMS, plan.base_datums, plan.tables(), (), writer)
            writer.flush()
        return Base(
            datums=datums,
            tree=self.home.trees.empty(),
            input=self.spec.input,
            transform=self.transform,
            inputs={PLACE: self.tree},
            settled=True,
        )


def expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise SystemExit(f"{wanted} datums should have been planned, not {found}")


def wide_table(numbers: range, *, made_up: bytes = b"") -> pa.Table:
    """Rows of a tree, 1,000 files to a folder, with digests that are made up: nothing reads their bytes."""
    columns = {
        "path": [f"/d{number // 1000:04d}/f{number:07d}" for number in numbers],
        "datum": [b""] * len(numbers),
        "size": [2048] * len(numbers),
        "digest": [blake3(number.to_bytes(8, "little") + made_up).digest() for number in numbers],
        "executable": [0] * len(numbers),
        "chunks": [[]] * len(numbers),
    }
    return pa.table(columns, schema=arrow_schema(TREE))
