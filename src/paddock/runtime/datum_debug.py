"""One datum in the foreground: its inputs laid out, its environment and code as its worker had them, and a terminal.

Everything is made in a folder of its own and removed afterwards; nothing of the home is changed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from paddock.model.errors import InvalidInput, NotFound, Unavailable
from paddock.model.ids import CommitId
from paddock.runtime import sandbox
from paddock.runtime.datum_service import DatumService
from paddock.runtime.engines.machine import machine_capacity
from paddock.runtime.job_facts import job_facts
from paddock.runtime.job_records import find_job
from paddock.runtime.materialize import ENVIRONMENT_FILE, OUT_FOLDER, CodeFolder, InputFolder, remove_tree
from paddock.runtime.plan import Plan
from paddock.runtime.planner import plan_job
from paddock.runtime.protocol import BatchTask, DatumTask, TransformTask
from paddock.runtime.resources import need_of
from paddock.runtime.tasks import TaskBuilder, transform_task
from paddock.runtime.worker_environment import (
    base_environment,
    datum_environment,
    environment_file,
    expand,
    spec_environment,
    working_directory,
)
from paddock.storage.chunks import read_chunk
from paddock.versions.home import Home

SHELL = "/bin/sh"


@dataclasses.dataclass(frozen=True, slots=True)
class DebugRun:
    """How it ended. code: 0..255, or 128 + N where signal N ended it. files: what lies in /pfs/out, by path and size."""

    datum: str
    code: int
    files: tuple[tuple[str, int], ...]


def debug_datum(
    home: Home,
    job: str,
    datum: str,
    *,
    shell: bool,
    sandbox_mode: str = "auto",
    gpus: tuple[str, ...] | None = None,
    output: Path | None = None,
) -> DebugRun:
    """Run a datum's command (or a shell, with `shell`) on this terminal, in exactly its file system and environment.

    Memory, scratch, output and CPUs are limited as in a job (of a shell, memory and CPUs); time is not. gpus: those of the machine, of
    which the datum gets the first ones, whoever else has them. output: a directory that gets what lies in /pfs/out at the end. Waits until the command ends. Costs a whole plan of the job.
    NotFound: no such datum, or its inputs are gone. InvalidInput: it is warm, so that it has no command line of its own.
    """
    id = DatumService(home).inspect(job, datum).id
    transform, batch = _tasks(home, job, id, gpus)
    if transform.warm and not shell:
        raise InvalidInput(f"datum {id} of {job} runs in a warm process; use `paddock datum shell` to look into it")
    if output is not None and output.exists() and any(output.iterdir()):
        raise InvalidInput(f"{output} is not empty; name an empty or a new directory")
    scratch_root = home.path / "scratch"
    scratch_root.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=scratch_root))
    try:
        code = _run(home, scratch, transform, batch, shell=shell, mode=sandbox_mode)
        files = _output_files(scratch / "pfs" / OUT_FOLDER)
        if output is not None:
            shutil.copytree(scratch / "pfs" / OUT_FOLDER, output, symlinks=True, dirs_exist_ok=True)
        return DebugRun(id, code, files)
    finally:
        remove_tree(str(scratch))


def _tasks(home: Home, job: str, datum: str, gpus: tuple[str, ...] | None) -> tuple[TransformTask, BatchTask]:
    """What a worker would be sent for this one datum."""
    with home.catalog.read() as tx:
        row = find_job(tx, job)
    facts = job_facts(home, row)
    plan = plan_job(
        home,
        facts.spec,
        transform=facts.transform,
        inputs=facts.inputs,
        base=None,
        found=lambda keys: {},
        reuse=False,
    )
    name = f"{row.pipeline_id}.{row.version}"
    tasks = TaskBuilder(home, plan, job=CommitId(row.set_id), transform=name)
    (batch,) = tasks.batches([("debug", [_position(plan, datum)])])
    wanted = need_of(facts.spec).gpus
    if wanted:
        found = machine_capacity(home.path, workers=1, gpus=gpus).gpus
        batch = dataclasses.replace(batch, gpus=found[:wanted])
    task = transform_task(home, facts.spec, id=name, project=row.project, pipeline=row.pipeline, code=facts.code)
    return task, batch


def _position(plan: Plan, datum: str) -> int:
    wanted = bytes.fromhex(datum)
    for position in range(len(plan)):
        if plan.ids[position] == wanted:
            return position
    raise NotFound(f"the inputs of datum {datum} are not in the job's input commits any more; rerun the pipeline")


def _run(home: Home, scratch: Path, transform: TransformTask, batch: BatchTask, *, shell: bool, mode: str) -> int:
    (datum,) = batch.datums
    isolated = mode != "directory" and _can_isolate(scratch)
    if mode == "namespaces" and not isolated:
        raise Unavailable("this system gives no namespaces; use PADDOCK_SANDBOX=directory")
    pfs = sandbox.PFS if isolated else str(scratch / "pfs")
    _lay_out(home, scratch, transform, datum, protected=isolated)
    variables = datum_environment(batch, datum, pfs) | spec_environment(transform)
    (scratch / "pfs" / ENVIRONMENT_FILE).write_bytes(environment_file(variables))
    environment = base_environment(os.environb, transform, pfs) | variables
    cwd = working_directory(transform, pfs)
    environment[b"PWD"] = os.fsencode(cwd)
    temporary = scratch / "tmp"
    if any(each.kind in ("scratch", "disk") for each in transform.limits):
        temporary.mkdir()
        environment[b"TMPDIR"] = os.fsencode(temporary)
    words = _words(transform, datum, pfs, shell=shell)
    stdin = None if shell else "".join(f"{line}\n" for line in transform.stdin or ())
    document = {
        "words": words,
        "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
        "cwd": cwd,
        "stdin": stdin,
        "limits": [each for each in transform.limits if each.kind == "memory" or not shell],
        "cpus_max": transform.cpus_max,
        "out": f"{pfs}/{OUT_FOLDER}",
        "scratch": str(temporary),
        "shell": shell,
    }
    (scratch / "run.json").write_text(json.dumps(document), encoding="utf-8")
    return _enter(scratch, isolated=isolated)


def _words(transform: TransformTask, datum: DatumTask, pfs: str, *, shell: bool) -> Sequence[str]:
    if shell:
        return [os.environ.get("SHELL") or SHELL]
    return expand(transform.cmd, datum, pfs) if transform.placeholders else transform.cmd


def _lay_out(home: Home, scratch: Path, transform: TransformTask, datum: DatumTask, *, protected: bool) -> None:
    (scratch / "root").mkdir(exist_ok=True)
    pfs = scratch / "pfs"
    (pfs / OUT_FOLDER).mkdir(parents=True, exist_ok=True)
    read = partial(read_chunk, home.objects)
    CodeFolder(str(pfs), read, protected=protected).place(transform.id, transform.code)
    InputFolder(str(pfs), read, protected=protected, tick=lambda: None).place(datum.inputs)


def _can_isolate(scratch: Path) -> bool:
    (scratch / "root").mkdir(exist_ok=True)
    (scratch / "pfs" / OUT_FOLDER).mkdir(parents=True, exist_ok=True)
    document = {"words": ["true"], "environment": dict(os.environ), "cwd": "/", "stdin": "", "limits": []}
    (scratch / "run.json").write_text(json.dumps(document), encoding="utf-8")
    return _enter(scratch, isolated=True, quiet=True) == 0


def _enter(scratch: Path, *, isolated: bool, quiet: bool = False) -> int:
    command = [sys.executable, "-P", "-m", "paddock.runtime.datum_entry", str(scratch)]
    command += ["--isolated"] if isolated else []
    ended = subprocess.run(command, stderr=subprocess.DEVNULL if quiet else None, check=False)
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


def _output_files(folder: Path) -> tuple[tuple[str, int], ...]:
    found = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return tuple((f"/{path.relative_to(folder)}", path.lstat().st_size) for path in sorted(found))
