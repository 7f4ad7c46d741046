"""Spec files to pipelines: read all, check all, order them, apply them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddock.client.archives import translated
from paddock.functions.code import CodeFolder
from paddock.functions.loading import load_pipelines
from paddock.model.addresses import parse_address
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, Problem
from paddock.model.records import DEFAULT_BRANCH, DEFAULT_PROJECT, AppliedPipeline, ApplyOutcome
from paddock.model.services import Paddock
from paddock.pipelines.documents import parse_specs
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.places import SpecText
from paddock.pipelines.spec import spec_to_json, validate_spec, validate_specs

STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """One checked spec. code: the local folder or file that `transform.code` names, resolved; that of a function is
    removed with `holder`.
    """

    spec: PipelineSpec
    code: Path | None
    warnings: tuple[str, ...]
    holder: CodeFolder | None = None

    @property
    def address(self) -> str:
        """`project/pipeline`."""
        return self.spec.address

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """(`project/repo`, branch) of every input, without repeats."""
        found = ((f"{leaf.project}/{leaf.repo}", leaf.branch) for leaf in leaves_of(self.spec))
        return tuple(dict.fromkeys(found))


def load_specs(files: Sequence[Path], *, default_project: str = DEFAULT_PROJECT) -> list[LoadedSpec]:
    """Read and check the specs of all files; `-` is standard input. A `.py` file is imported: its functions that are
    pipelines are specs, and come last.

    InvalidInput lists every fault of every file, each with its line; NotFound for a file that is not there.
    `transform.code` counts from its spec file's folder. Nothing is applied.
    """
    texts: list[SpecText] = []
    folders: list[Path] = []
    problems: list[Problem] = []
    modules = [file for file in files if file.suffix == ".py"]
    for file in files:
        if file in modules:
            continue
        try:
            found = parse_specs(_read(file), source_name=str(file))
        except InvalidInput as error:
            problems += error.problems or (Problem(str(file), error.message),)
            continue
        texts += found
        folders += [Path() if file == STANDARD_INPUT else file.parent] * len(found)
    try:
        valid = validate_specs(texts, default_project=default_project)
    except InvalidInput as error:
        raise InvalidInput(error.message, problems=(*problems, *error.problems)) from None
    loaded: list[LoadedSpec] = []
    for item, text, folder in zip(valid, texts, folders, strict=True):
        code = None if item.spec.transform.code is None else folder / item.spec.transform.code
        if code is not None and not code.exists():
            place = text.places.of(("transform", "code"))
            problems.append(Problem(place, f"{code} does not exist; name a folder or file beside the spec"))
        loaded.append(LoadedSpec(item.spec, code, item.warnings))
    if problems:
        raise InvalidInput("the specs can't be applied", problems=tuple(problems))
    return loaded + [spec for file in modules for spec in _load_module(file, default_project)]


def _load_module(file: Path, default_project: str) -> list[LoadedSpec]:
    loaded = []
    for function in load_pipelines(file):
        valid = validate_spec(function.spec, default_project=default_project)
        holder = function.code_folder()
        loaded.append(LoadedSpec(valid.spec, holder.path, tuple(valid.warnings), holder))
    return loaded


def load_input(text: str, *, default_project: str = DEFAULT_PROJECT, split: str | None = None) -> Mapping[str, Any]:
    """A spec, or an input alone, as plain data: from a file, from standard input (`-`), or from `repo[@branch]:/glob`.

    split: of an input given as `repo:/glob`, how its files are cut (`csv:1000`). InvalidInput: it stands beside a file.

    Names that give no project get `default_project`. NotFound: there is no such file; InvalidInput: it does not parse.
    """
    if text != str(STANDARD_INPUT) and ":" in text and not Path(text).exists():
        place, _, glob = text.partition(":")
        cut = {} if split is None else {"split": split}
        return in_project({"pfs": {**_branch_of(place), "glob": glob or "/", **cut}}, default_project)
    if split is not None:
        raise InvalidInput(f"{text} says itself how its inputs are split; leave --split out, or name repo:/glob")
    found = parse_specs(_read(Path(text)), source_name=text)
    if len(found) != 1:
        raise InvalidInput(f"{text} holds {len(found)} documents; a preview takes one spec or one input")
    data = found[0].data
    if "input" not in data:
        return in_project(data, default_project)
    (valid,) = validate_specs(found, default_project=default_project)
    return spec_to_json(valid.spec)


def in_project(node: Mapping[str, Any], project: str) -> Mapping[str, Any]:
    """An input whose `pfs` nodes all name a project."""
    placed: dict[str, Any] = {}
    for kind, value in node.items():
        if kind == "pfs" and isinstance(value, Mapping):
            placed[kind] = {"project": project, **value}
        elif isinstance(value, (list, tuple)):
            placed[kind] = [in_project(child, project) if isinstance(child, Mapping) else child for child in value]
        else:
            placed[kind] = value
    return placed


def _branch_of(text: str) -> dict[str, Any]:
    address = parse_address(text, default_ref=DEFAULT_BRANCH)
    named = {"project": address.repo.project} if "/" in text else {}
    return {**named, "repo": address.repo.repo, "branch": str(address.ref)}


def _read(file: Path) -> str:
    if file == STANDARD_INPUT:
        return sys.stdin.read()
    if file.is_dir():
        raise InvalidInput(f"{file} is a folder; name files with specs, as in {file / '*.yaml'}")
    with translated(file):
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{file} is not UTF-8 text ({error}); specs are YAML or JSON") from None


def upstream_first(specs: Sequence[LoadedSpec]) -> list[LoadedSpec]:
    """The specs so that each comes after those whose output it reads. Conflict names the pipelines of a cycle."""
    waiting = {spec.address: spec for spec in specs}
    ordered: list[LoadedSpec] = []
    while waiting:
        ready = [
            spec
            for spec in waiting.values()
            if not any(repo in waiting and repo != spec.address for repo, _ in spec.reads)
        ]
        if not ready:
            names = ", ".join(sorted(waiting))
            raise Conflict(f"the inputs of these pipelines form a cycle: {names}; remove one of the inputs")
        for spec in ready:
            del waiting[spec.address]
        ordered += ready
    return ordered


def apply_all(
    paddock: Paddock,
    specs: Sequence[LoadedSpec],
    *,
    reprocess: bool = False,
    hold: bool = False,
    keep_results: bool = False,
    audit: float | None = None,
) -> list[AppliedPipeline]:
    """Create or update every pipeline, in the given order. Those before a failing one stay applied."""
    applied: list[AppliedPipeline] = []
    for item in specs:
        data: Mapping[str, Any] = spec_to_json(item.spec)
        result = paddock.pipelines.apply(
            data, code=item.code, reprocess=reprocess, hold=hold, keep_results=keep_results, audit=audit
        )
        unchanged = result.outcome is ApplyOutcome.UNCHANGED
        # What only the server knows to say comes without the line.
        further = [told for told in result.warnings if not any(known.endswith(told) for known in item.warnings)]
        applied.append(replace(result, warnings=() if unchanged else (*item.warnings, *further)))
    return applied


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean …?)`, or nothing where no name is near."""
    found = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""
