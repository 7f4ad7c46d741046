"""Which pool serves a pipeline: what shapes a worker names it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.model.addresses import check_name
from paddock.pipelines.models import PipelineSpec, Transform
from paddock.pipelines.spec import validate_spec
from paddock.pipelines.worker_pools import NOT_SHAPING, SHAPING, worker_pool

PLAIN = {
    "pipeline": "p",
    "transform": {"cmd": ["true"], "image": "debian:13"},
    "input": {"pfs": {"repo": "a", "glob": "/*"}},
    "engine": "kubernetes",
}


def spec(**fields: Any) -> PipelineSpec:
    return validate_spec({**PLAIN, **fields}).spec


def test_every_field_of_a_spec_shapes_workers_or_does_not() -> None:
    """A new field belongs to one of the two lists of `worker_pools`."""
    names = set(PipelineSpec.model_fields) - {"transform"} | {f"transform.{name}" for name in Transform.model_fields}
    shaping = {name for fields in SHAPING.values() for name in fields}
    assert shaping | set(NOT_SHAPING) == names
    assert not shaping & set(NOT_SHAPING)


@pytest.mark.parametrize(
    "fields",
    [
        {"pool": "gpu"},
        {"transform": {"cmd": ["true"], "image": "debian:12"}},
        {"resource_requests": {"memory": "1Gi"}},
        {"resource_limits": {"gpu": {"number": 1}}},
        {"tolerations": [{"key": "spot", "operator": "EXISTS"}]},
        {"transform": {"cmd": ["true"], "image": "debian:13", "secrets": [{"name": "a", "mount_path": "/a"}]}},
        {"engine": "slurm"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_shapes_a_worker_makes_another_pool(fields: dict[str, Any]) -> None:
    assert worker_pool(spec(**fields), "local") != worker_pool(spec(), "local")


def test_pipelines_whose_workers_are_alike_share_them() -> None:
    other = spec(
        pipeline="q",
        transform={"cmd": ["cat"], "image": "debian:13", "warm": True, "env": {"A": "b"}},
        parallelism_spec={"constant": 9, "minimum": 1, "cool_down": "5s"},
        datum_timeout="9s",
        resource_requests={},
        tolerations=[],
        pod_spec="",
    )
    pool = worker_pool(spec(), "local")
    assert worker_pool(other, "local") == pool
    # One that names no engine has the server's, and so may share them too.
    assert worker_pool(spec(engine=None), "kubernetes") == pool
    assert check_name("pool", pool) == pool
    assert len(pool) <= 63
    assert pool.startswith("kubernetes-")
    # For ever the same: a server of another version finds the workers of this one.
    assert pool == "kubernetes-5b76ad000bad"


def test_the_local_engine_has_the_pool_that_the_spec_names() -> None:
    assert worker_pool(spec(engine=None), "local") == "default"
    assert worker_pool(spec(engine="local", pool="lab"), "kubernetes") == "lab"


def test_a_minimum_above_the_most_is_refused() -> None:
    with pytest.raises(Exception, match="5 workers are more than the most"):
        spec(parallelism_spec={"constant": 4, "minimum": 5})
