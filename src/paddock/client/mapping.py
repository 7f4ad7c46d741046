"""`paddock map`: a command over every match in a folder. The work behind the command, for any `Paddock`.

A map is a repo and a pipeline in the project `map`, named after the absolute source and target, so that the same map
run again finds what it did before, and two maps never trigger each other.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paddock.client.archives import translated
from paddock.client.run_parts import RunReport, ensure_current, ensure_repo, get_output, has_head
from paddock.client.working import OnProgress, newest_jobs, work_off
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.records import DEFAULT_BRANCH, PipelineState
from paddock.model.services import OnTransfer, Paddock

MAP_PROJECT = "map"
INPUT_NAME = "in"
DEFAULT_GLOB = "/*"
SLUG_LENGTH = 24
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class MapNames:
    """Where a map lives: `map/<repo>` holds the source's files, `map/<pipeline>` the results."""

    repo: str
    pipeline: str


def map_names(source: Path, target: Path) -> MapNames:
    """Names that depend on both absolute paths; readable, and within the length of names."""
    key = hashlib.sha256(os.fsencode(source) + b"\0" + os.fsencode(target)).hexdigest()[:16]
    return MapNames(f"{MAP_PROJECT}/{_slug(source)}-in-{key}", f"{MAP_PROJECT}/{_slug(target)}-out-{key}")


def _slug(path: Path) -> str:
    return _FOREIGN.sub("-", path.name).strip("-")[:SLUG_LENGTH] or "folder"


def map_folder(
    paddock: Paddock,
    source: Path,
    target: Path,
    command: Sequence[str],
    *,
    glob: str = DEFAULT_GLOB,
    split: str | None = None,
    code: Path | None = None,
    function: str | None = None,
    workers: int | None = None,
    no_cache: bool = False,
    audit: float | None = None,
    on_transfer: OnTransfer | None = None,
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Run `command` once for every match of `glob` in the folder `source`; mirror the results into `target`.

    The command runs in the present directory, with the datum at `/pfs/in` and `/pfs/out`; `{in}` and `{out}` in its
    words stand for the datum's path and the output folder. split: cut each matched file into datums of records, as a spec's
    `split` says it in short (`csv:1000`). code: a folder that is versioned with the command; without
    it, files below the present directory that words of the command name. function: `module:function`, found from the
    present directory, instead of a command (which is empty then) and code. A failed job leaves `target` as it was.
    no_cache, audit: `reprocess` and `audit` of `Pipelines.apply`.
    """
    started = time.monotonic()
    source, target = _checked_folders(source, target)
    names = map_names(source, target)
    paddock.expect_work(workers=workers)
    _check_running(paddock, names.pipeline)
    chosen = None
    if function is not None:
        # What reads functions and their environment is 40 ms, which a command need not wait for.
        from paddock.client.mapped_function import mapped_function

        chosen = mapped_function(function, command, code, input_name=INPUT_NAME)
    transform = _command_transform(command) if chosen is None else chosen.transform
    spec = _spec(names, source, target, transform, (glob, split))
    before = newest_jobs(paddock, [names.pipeline])
    ensure_repo(paddock, names.repo)
    own_code = code if chosen is None else chosen.code.path
    with _code_folder(command, own_code, outside=(source, target)) as folder:
        applied = paddock.pipelines.apply(spec, code=folder, hold=True, reprocess=no_cache, audit=audit)
    branch = f"{names.repo}@{DEFAULT_BRANCH}"
    put = paddock.files.put_tree(branch, source, mirror=True, on_transfer=on_transfer)
    if has_head(paddock, branch):
        ensure_current(paddock, names.pipeline)
    jobs = work_off(paddock, before, workers=workers, on_progress=on_progress)
    get_output(paddock, names.pipeline, DEFAULT_BRANCH, target, on_transfer)
    return RunReport(jobs, (applied,), (put,), time.monotonic() - started)


def _checked_folders(source: Path, target: Path) -> tuple[Path, Path]:
    if not source.exists():
        raise NotFound(f"{source} does not exist; name the folder whose files are to be worked on")
    if not source.is_dir():
        raise InvalidInput(f"{source} is not a folder; name the folder that holds it, and choose it with --glob")
    found, wanted = source.resolve(), target.resolve()
    if found == wanted or found in wanted.parents or wanted in found.parents:
        raise InvalidInput(f"the target {target} and the source {source} lie in one another; name separate folders")
    if wanted.exists() and not wanted.is_dir():
        raise Conflict(f"{target} is not a folder; move it away, or name another target")
    return found, wanted


def _check_running(paddock: Paddock, pipeline: str) -> None:
    try:
        stopped = paddock.pipelines.inspect(pipeline).state is PipelineState.STOPPED
    except NotFound:
        return
    if stopped:
        raise Conflict(f"pipeline {pipeline} is stopped; start it with `paddock pipeline start {pipeline}`")


def _command_transform(command: Sequence[str]) -> dict[str, Any]:
    if not command or not command[0]:
        raise InvalidInput("no command is given; write it after --, as in: paddock map photos -o out -- cp {in} {out}")
    return {"cmd": [*command], "working_dir": str(Path.cwd()), "placeholders": True}


def _spec(
    names: MapNames, source: Path, target: Path, transform: Mapping[str, Any], cut: tuple[str, str | None]
) -> dict[str, Any]:
    """cut: glob and split."""
    glob, split = cut
    return {
        "pipeline": {"project": MAP_PROJECT, "name": names.pipeline.partition("/")[2]},
        "description": f"paddock map {source} -o {target}",
        "transform": transform,
        "input": {
            "pfs": {
                "project": MAP_PROJECT,
                "repo": names.repo.partition("/")[2],
                "branch": DEFAULT_BRANCH,
                "name": INPUT_NAME,
                "glob": glob,
                **({} if split is None else {"split": split}),
            }
        },
    }


@contextmanager
def _code_folder(command: Sequence[str], code: Path | None, *, outside: Sequence[Path]) -> Iterator[Path | None]:
    """The folder to version with the command: the one named, else copies of the files that its words name."""
    if code is not None:
        if not code.exists():
            raise NotFound(f"--code {code} does not exist; name a folder or a file")
        yield code
        return
    here = Path.cwd()
    scripts = dict.fromkeys(path for word in command if (path := _script(word, here, outside)) is not None)
    if not scripts:
        yield None
        return
    with TemporaryDirectory(prefix="paddock-code-") as name:
        for script in scripts:
            copy = Path(name) / script.relative_to(here)
            with translated(script):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(script, copy)
        yield Path(name)


def _script(word: str, here: Path, outside: Sequence[Path]) -> Path | None:
    """The file below the present directory that a word of the command names, if it names one."""
    try:
        path = (here / word).resolve() if word else here
        inside = path.is_relative_to(here) and not any(path.is_relative_to(folder) for folder in outside)
        return path if inside and path.is_file() else None
    except (OSError, ValueError):
        # A word may be anything: too long for a path, or with a NUL in it.
        return None
