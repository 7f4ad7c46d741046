"""Which pool of workers a pipeline is served by.

On an engine that starts workers, a pool is what its workers are alike in: its name is a digest of all fields of the spec that
shape a worker (design note 032). Elsewhere it is the one that the spec names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from paddock.model.records import EngineName
from paddock.pipelines.models import PipelineSpec

_CONTEXT = b"paddock.worker-pool.v1\0"
_DIGITS = 12

SHAPING: Mapping[EngineName, tuple[str, ...]] = {
    "slurm": ("pool", "resource_requests", "resource_limits", "slurm", "transform.image"),
    "kubernetes": (
        "pool",
        "metadata",
        "pod_patch",
        "pod_spec",
        "resource_limits",
        "resource_requests",
        "scheduling_spec",
        "sidecar_resource_limits",
        "sidecar_resource_requests",
        "tolerations",
        "transform.image",
        "transform.image_pull_secrets",
        "transform.memory_volume",
        "transform.secrets",
        "transform.user",
    ),
}
"""Fields that decide what a worker is like, by the engine that starts it: pipelines that differ in one of them share no workers. A
field of an engine that is new in the spec belongs here, or to `NOT_SHAPING`."""

NOT_SHAPING = (
    "pipeline",
    "description",
    "input",
    "output_branch",
    "parallelism_spec",
    "engine",
    "datum_set_spec",
    "datum_tries",
    "datum_timeout",
    "job_timeout",
    "reprocess_spec",
    "flow",
    "autoscaling",
    "datum_limits",
    "maximum_expected_uptime",
    "transform.cmd",
    "transform.stdin",
    "transform.env",
    "transform.working_dir",
    "transform.accept_return_code",
    "transform.err_cmd",
    "transform.err_stdin",
    "transform.code",
    "transform.placeholders",
    "transform.warm",
    "transform.warm_datums_max",
    "transform.warm_memory_max",
    "transform.debug",
    "transform.dockerfile",
)
"""Fields that any worker does justice to, for each datum or job."""


def engine_of(spec: PipelineSpec, default: EngineName) -> EngineName:
    """default: the server's."""
    return spec.engine or default


def worker_pool(spec: PipelineSpec, default: EngineName) -> str:
    """The name of the pool whose workers serve a pipeline. default: the server's engine.

    `ENGINE-DIGITS` where the engine starts workers: a valid name of a pool, a Kubernetes label and a DNS label.
    """
    engine = engine_of(spec, default)
    if engine == "local":
        return spec.pool
    # Fields that are as if unset are left out, so that a new field renames no pool.
    written = {"pool": spec.pool} | spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    shape = {path: value for path in SHAPING[engine] if (value := _at(written, path)) not in (None, "", {}, [])}
    text = json.dumps([engine, shape], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{engine}-{blake3(_CONTEXT + text.encode()).hexdigest(_DIGITS // 2)}"


def _at(written: Mapping[str, Any], path: str) -> Any:
    value: Any = written
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
