"""The environment and the words of a user command: what of Paddock it can see."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from paddock.runtime.materialize import CODE_FOLDER, OUT_FOLDER
from paddock.runtime.protocol import BatchTask, DatumTask, InputTask, TransformTask

_PLACEHOLDER = re.compile(r"\{(in|out|python)\}")


def base_environment(inherited: Mapping[bytes, bytes], transform: TransformTask, pfs: str) -> dict[bytes, bytes]:
    """What is the same for all datums of a transform: the worker's own environment without `PADDOCK_*`, and
    the pipeline's names.
    """
    environment = {name: value for name, value in inherited.items() if not name.startswith(b"PADDOCK_")}
    environment.pop(b"OLDPWD", None)
    environment |= encoded(
        {
            "PACH_IN_WORKER": "true",
            "PPS_PROJECT_NAME": transform.project,
            "PPS_PIPELINE_NAME": transform.pipeline,
            "PADDOCK_PIPELINE": f"{transform.project}/{transform.pipeline}",
            "PADDOCK_PFS": pfs,
        }
    )
    if transform.code is not None:
        environment[b"PADDOCK_CODE"] = os.fsencode(f"{pfs}/{CODE_FOLDER}")
    return environment


def datum_environment(batch: BatchTask, datum: DatumTask, pfs: str) -> dict[bytes, bytes]:
    """`datum_variables` as a process gets them."""
    return encoded(datum_variables(batch, datum, pfs))


def datum_variables(batch: BatchTask, datum: DatumTask, pfs: str) -> dict[str, str]:
    """What differs from datum to datum. Of a group's elements of one name, the last is the one that is named."""
    variables = {
        "PACH_JOB_ID": batch.job,
        "PACH_DATUM_ID": datum.id,
        "PACH_OUTPUT_COMMIT_ID": batch.output_commit,
        "PADDOCK_JOB_ID": batch.job,
        "PADDOCK_DATUM_ID": datum.id,
    }
    variables |= gpu_environment(batch.gpus)
    for each in datum.inputs:
        variables[each.name] = input_path(each, pfs)
        variables[f"{each.name}_COMMIT"] = each.commit
        if each.join_on:
            variables[f"PACH_DATUM_{each.name}_JOIN_ON"] = each.join_on
        if each.group_by:
            variables[f"PACH_DATUM_{each.name}_GROUP_BY"] = each.group_by
    return variables


def gpu_environment(gpus: Sequence[str]) -> dict[str, str]:
    """What shows a command the GPUs that are its own; nothing where it asked for none."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def environment_file(variables: Mapping[bytes, bytes]) -> bytes:
    """Content of `/pfs/.env`: `NAME=value`, one a line, as the values are (one with a newline spans lines)."""
    return b"".join([b"%s=%s\n" % item for item in variables.items()])


def spec_environment(transform: TransformTask) -> dict[bytes, bytes]:
    """`transform.env`, which has the last word."""
    return encoded(transform.env or {})


def input_path(each: InputTask, pfs: str) -> str:
    """Where user code finds what the glob matched."""
    return f"{pfs}/{each.name}{each.path.rstrip('/')}"


def expand(words: Sequence[str], datum: DatumTask, pfs: str, python: str = sys.executable) -> list[str]:
    """Replace `{in}` by the path of the datum's first input, `{out}` by the output directory, and `{python}` by
    `python` (by default the one that runs this worker); nothing else.
    """
    first = input_path(datum.inputs[0], pfs) if datum.inputs else pfs
    values = {"in": first, "out": f"{pfs}/{OUT_FOLDER}", "python": python}
    return [_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in words]


def working_directory(transform: TransformTask, pfs: str, container: str | None = None) -> str:
    """`working_dir` if given (a relative one counts from where commands run by default), else the code, else that of the
    `container`, where commands run in one, else `cwd`, else `/`.
    """
    default = f"{pfs}/{CODE_FOLDER}" if transform.code is not None else container or transform.cwd or "/"
    wanted = transform.working_dir
    if wanted == "/pfs" or wanted.startswith("/pfs/"):
        return pfs + wanted.removeprefix("/pfs")
    return os.path.join(default, wanted) if wanted else default


def encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    """Names and values as the system takes them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
