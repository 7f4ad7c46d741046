"""From a pool's template to what `sbatch` is asked for: options, and the script of a task. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.pipelines.models import PipelineSpec, SlurmOptions
from paddock.runtime.engines.provisioner import MEMBER_PATIENCE, PoolTemplate
from paddock.runtime.resources import need_of

TOKEN_VARIABLE = "PADDOCK_WORKER_TOKEN"
DRAIN_SECONDS = 120.0
"""How long before its time limit a worker begins no more datums, where the spec says nothing; a quarter of a short limit."""
WORKER_BYTES = 256 << 20
"""Memory of the worker itself beside its datum's: two Python processes, and a pack that is being written."""
_MEBIBYTE = 1 << 20
_FOR_WORKERS = frozenset({"PADDOCK_SANDBOX", "PADDOCK_GRACE_SECONDS", "PADDOCK_DEBUG", "PADDOCK_GPUS", "SLURM_CONF"})
_NOT_FOR_JOBS = ("PADDOCK_", "PGPASS", "SLURM_", "SLURMD_", "SRUN_", "SQUEUE_", "SCANCEL_", "SBATCH_WAIT")


def submission(template: PoolTemplate, count: int, *, job_name: str, folder: Path) -> Sequence[str]:
    """Options of `sbatch` for an array of `count` members. folder: for what they print."""
    spec, options = template.spec, template.spec.slurm or SlurmOptions()
    words = [
        f"--array=0-{count - 1}",
        f"--job-name={job_name}",
        f"--output={folder}/%A_%a.log",
        "--open-mode=append",
        "--chdir=/",
        "--export=ALL",
        "--no-requeue",
        f"--signal=B:TERM@{_drain_seconds(options)}",
        "--nodes=1",
        "--ntasks=1",
        *_resources(spec),
    ]
    named = (
        ("partition", options.partition),
        ("account", options.account),
        ("qos", options.qos),
        ("constraint", options.constraint),
        ("gres", _gres(spec, options)),
        ("time", _minutes(options.time_limit)),
    )
    words += [f"--{name}={value}" for name, value in named if value]
    return [*words, *options.options]


def script(template: PoolTemplate, *, url: str, command: Sequence[str], direct: bool = False) -> str:
    """What a task runs. The worker takes the place of the shell, so that Slurm's signals reach it. command: starts `paddock`.

    direct: it reads and writes the home's store itself.
    """
    options = template.spec.slurm or SlurmOptions()
    words = [*command, "--url", url, "worker", "--slots", "1", "--patience", MEMBER_PATIENCE]
    words += ["--direct"] if direct else []
    words += _container(template.spec, options)
    name = f'--name "{MEMBER_PREFIX}${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"'
    return "\n".join(["#!/bin/bash", *options.setup, f"exec {shlex.join(words)} {name}", ""])


MEMBER_PREFIX = "slurm-"


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Of the server's environment, what Slurm's commands and jobs are given.

    That is all but what concerns the server alone (its catalog's password is among that), a job that it runs in itself, and
    habits of its user that would hide jobs from `squeue`. `SLURM_CONF` stays, since it says where Slurm is.
    """
    return {
        name: value for name, value in environment.items() if name in _FOR_WORKERS or not name.startswith(_NOT_FOR_JOBS)
    }


def _container(spec: PipelineSpec, options: SlurmOptions) -> list[str]:
    if not (spec.transform.image and options.container):
        return []
    # Without it a container sees no GPU of its node.
    gpu = ["--nv"] if need_of(spec).gpus and not {"--nv", "--rocm"} & set(options.container_options) else []
    return ["--image", spec.transform.image, *(f"--image-option={each}" for each in (*gpu, *options.container_options))]


def _resources(spec: PipelineSpec) -> list[str]:
    need = need_of(spec)
    most = spec.resource_limits.memory if spec.resource_limits is not None else None
    memory = max(need.memory_bytes, most or 0)
    words = [f"--cpus-per-task={math.ceil(need.millicpus / 1000)}"]
    if memory:
        words.append(f"--mem={math.ceil((memory + WORKER_BYTES) / _MEBIBYTE)}M")
    if need.disk_bytes:
        words.append(f"--tmp={math.ceil(need.disk_bytes / _MEBIBYTE)}M")
    return words


def _gres(spec: PipelineSpec, options: SlurmOptions) -> str:
    """The spec's own, and the GPUs that its datums ask for if it does not name any."""
    need = need_of(spec)
    if not need.gpus or "gpu" in options.gres:
        return options.gres
    # A type such as nvidia.com/gpu is Kubernetes' name for all of them.
    kind = f":{need.gpu_type}" if need.gpu_type and "/" not in need.gpu_type else ""
    return ",".join(each for each in (f"gpu{kind}:{need.gpus}", options.gres) if each)


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else str(math.ceil(seconds / 60))


def _drain_seconds(options: SlurmOptions) -> int:
    if options.drain_time is not None:
        return math.ceil(options.drain_time)
    if options.time_limit is None:
        return round(DRAIN_SECONDS)
    return round(min(DRAIN_SECONDS, options.time_limit / 4))
