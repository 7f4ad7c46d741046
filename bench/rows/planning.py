"""Planning a job over a million files: from nothing, without running anything."""

from __future__ import annotations

import pyarrow as pa
from blake3 import blake3
from measure import Budget, Result, Settings, median, samples_of

from paddock.model.ids import Digest
from paddock.pipelines.keys import transform_digest
from paddock.pipelines.spec import PipelineSpec, load_specs
from paddock.runtime.planner import InputCommit, plan_job
from paddock.storage.columnar import arrow_schema
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home

SPEC = """
pipeline: copy
transform: {cmd: [cp, "{in}", "{out}"]}
input: {pfs: {repo: data, glob: "/*/*"}}
"""


def plan(settings: Settings) -> Result:
    count = settings.size(1_000_000, 20_000)
    home = Home.open(settings.work / "home", create=True)
    tree = InputCommit(id="0" * 32, tree=wide_tree(home, count))
    spec = the_spec()
    transform = transform_digest(spec, None)

    def action() -> None:
        planned = plan_job(
            home,
            spec,
            transform=transform,
            inputs={("default", "data", "main"): tree},
            base=None,
            found=lambda keys: {},
            reuse=True,
        )
        if len(planned) != count:
            raise SystemExit(f"{count} datums should have been planned, not {len(planned)}")

    samples = samples_of(settings.repeats, lambda _: action)
    return Result(
        name="plan",
        what=f"plan {count:,} datums from a glob",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("< 5 s", median(samples), 5.0),),
    )


def the_spec() -> PipelineSpec:
    (checked,) = load_specs(SPEC, source_name="bench")
    return checked.spec


def wide_tree(home: Home, count: int) -> Digest:
    """A tree of `count` files, 1,000 to a folder, whose digests are made up: nothing reads their bytes."""
    digests = [blake3(number.to_bytes(8, "little")).digest() for number in range(count)]
    columns = {
        "path": [f"/d{number // 1000:04d}/f{number:07d}" for number in range(count)],
        "datum": [b""] * count,
        "size": [2048] * count,
        "digest": digests,
        "executable": [0] * count,
        "chunks": [[]] * count,
    }
    table = pa.table(columns, schema=arrow_schema(TREE))
    with home.chunks.writer() as writer:
        root = home.trees.merge(home.trees.empty(), table, [], [], writer)
        writer.flush()
    return root
