"""What field names a spec may use: Pachyderm's snake and camel case, shorthands, and the fate of each field
not served.

A spec is translated here into the canonical names of `paddock.pipelines.models`; nothing about values is
checked but whether a field that is not served is in use. Four fates: *served* (a field of the models),
*ignored* (accepted with a warning, because leaving it out can't change a result on one machine), *idle*
(accepted in silence: it has nothing to do here), *refused* (a result would differ, so the spec is wrong
until the field is removed). Fields that only Kubernetes serves are ignored or refused where another engine runs the pipeline.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, get_args

from paddock.model.dataclass import dataclass
from paddock.model.records import EngineName
from paddock.pipelines.models import Input, PfsInput, PipelineRef, PipelineSpec, SpecModel, Transform
from paddock.pipelines.places import FieldPath

_IN_PODS = "concerns Kubernetes pods, and this engine has none; recorded"

IGNORED: Mapping[type[SpecModel], Mapping[str, str]] = {
    PipelineSpec: {
        "autoscaling": "workers start when there is work and stop after it, so it changes nothing",
        "maximum_expected_uptime": "no alert is raised about it; recorded",
    },
    Transform: {
        "dockerfile": "has no effect; recorded",
    },
    PfsInput: {"lazy": "all files are present before the command starts, which reads them the same way"},
}
"""Served fields of which a user should know that they have no effect yet: field -> what happens instead."""

OLD: Mapping[type[SpecModel], tuple[str, ...]] = {
    PipelineSpec: ("enable_stats", "cache_size", "max_queue_size"),
}
"""Fields of Pachyderm 1.x that never changed a result; dropped with a warning."""

IDLE: Mapping[type[SpecModel], tuple[str, ...]] = {
    PipelineSpec: ("update", "salt", "spec_commit", "reprocess"),
}
"""Dropped in silence while they ask for nothing; `_ASKING` says what they may not ask for."""

_ASKING = {
    "reprocess": "has no effect in a spec file; use `paddock pipeline apply --reprocess`",
}

_ALWAYS: frozenset[str] = frozenset({"spout", "service", "cron", "git", "tf_job", "egress", "determined", "trigger"})
"""Refused even where their value is empty: a message that is present has a meaning in protobuf."""

REFUSED: Mapping[type[SpecModel], Mapping[str, str]] = {
    PipelineSpec: {
        "tf_job": "TensorFlow jobs are not supported; start the training from transform.cmd",
        "egress": "results are not pushed elsewhere; remove it and copy them with `paddock get`",
        "service": "services are not supported; serve what `paddock get` copies with a program of your own",
        "spout": "spouts are not supported; let a program write its data with `paddock put`",
        "s3_out": "there is no S3 gateway for outputs; write them to /pfs/out",
        "determined": "Determined AI is not supported; call it from transform.cmd",
        "dry_run": "a dry run would change nothing, and applying the spec does; remove it to apply the spec",
    },
    Transform: {
        "datum_batching": "a command runs once per datum; remove it and let the command handle one datum",
        "build": "images are not built; name the directory of the program in transform.code",
    },
    Input: {
        "cron": "cron inputs are not supported; let the system's cron `paddock put` a file into a repo",
        "git": "git inputs are not supported; put the working tree into a repo with `paddock put`",
    },
    PfsInput: {
        "trigger": "triggers are not supported; every commit on the branch starts a job",
        "s3": "there is no S3 gateway; the files are in /pfs/<name>, so remove it",
        "commit": "an input is a branch, not a commit; make a branch with that head and name it",
        "reference": "every input is part of the datum key; remove it (changes of this input then recompute)",
        "propagation_spec": "every commit on the branch starts a job; remove it",
    },
}
"""Fields that would change results if they were ignored: field -> why, and what to do."""

IN_PODS_ONLY: Mapping[type[SpecModel], Mapping[str, str]] = {
    PipelineSpec: dict.fromkeys(
        (
            "sidecar_resource_requests",
            "sidecar_resource_limits",
            "scheduling_spec",
            "tolerations",
            "pod_spec",
            "pod_patch",
        ),
        _IN_PODS,
    ),
    Transform: {
        "image_pull_secrets": "this engine pulls no image; recorded",
        "memory_volume": "inputs and outputs lie on disk; recorded",
    },
}
"""Fields that are served where the engine is `kubernetes`, and ignored elsewhere: field -> what happens instead."""

LOCALLY_IGNORED: Mapping[type[SpecModel], Mapping[str, str]] = {
    Transform: {"image": "recorded, and part of the datum key; without a container engine, commands run right here"},
}
"""Fields that are served by the engines of clusters, and ignored by `local`: field -> what happens instead."""

REFUSED_OUTSIDE_PODS: Mapping[type[SpecModel], Mapping[str, str]] = {
    Transform: {
        "secrets": "only pods are given secrets; put them into the environment of the workers and remove it, or set engine: kubernetes",
        "user": "commands run as the user that runs Paddock; remove it, or set engine: kubernetes",
    },
}
"""Fields that are served where the engine is `kubernetes`, and would change results elsewhere: field -> why, and what to do."""

_ALIASES: Mapping[type[SpecModel], Mapping[str, str]] = {
    PipelineSpec: {"chunk_spec": "datum_set_spec", "standby": "autoscaling"},
    Input: {"atom": "pfs"},
}
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


@dataclass(slots=True)
class Translation:
    """A spec in canonical names. `origins`: where each value stood, by its canonical place."""

    engine: EngineName | None = None
    """What runs the pipeline; None where that is not known here."""
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[FieldPath, FieldPath] = field(default_factory=dict)
    problems: list[tuple[FieldPath, str]] = field(default_factory=list)
    """(place in the user's document, message)"""
    warnings: list[tuple[FieldPath, str]] = field(default_factory=list)
    filled: set[FieldPath] = field(default_factory=set)
    """Canonical places of values that were filled in from another field; `origins` leads to that one."""
    excused: set[FieldPath] = field(default_factory=set)
    """Canonical places of inputs with a refused or unknown field, which so may seem to be of no kind."""

    def origin(self, path: FieldPath) -> FieldPath:
        """The place in the user's document of a canonical place, or what it would be for a field that is
        not there."""
        known = path
        while known and known not in self.origins:
            known = known[:-1]
        return (*self.origins.get(known, ()), *path[len(known) :])


def translate(data: Mapping[str, Any], *, default_project: str, default_engine: EngineName | None) -> Translation:
    """Canonical names, shorthands written out, projects and input names filled in. Never raises: see
    `problems`. default_engine: of a spec that names none; None where only the server knows."""
    result = Translation(engine=data.get("engine") or default_engine)
    shaped, moved = _expand_name(data)
    result.data = _mapping(result, shaped, PipelineSpec, (), ())
    for canonical, original in moved.items():
        result.origins[canonical] = original
    reference = result.data.get("pipeline")
    project = reference.setdefault("project", default_project) if isinstance(reference, dict) else default_project
    _fill_inputs(result, result.data.get("input"), ("input",), project)
    return result


def children_of(model: type[SpecModel]) -> dict[str, type[SpecModel]]:
    """Fields of a model that hold another model, or a list of them."""
    found: dict[str, type[SpecModel]] = {}
    for name, info in model.model_fields.items():
        nested = _nested_model(info.annotation)
        if nested is not None:
            found[name] = nested
    return found


def _nested_model(annotation: Any) -> type[SpecModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _nested_model(part)) is not None), None)


def _expand_name(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[FieldPath, FieldPath]]:
    """`pipeline: name`, `pipeline: project/name`, or `name:` with `project:` at the top, as `pipeline:
    {project, name}`."""
    shaped = dict(data)
    reference = shaped.get("pipeline")
    moved: dict[FieldPath, FieldPath] = {}
    if isinstance(reference, str):
        project, slash, name = reference.rpartition("/")
        shaped["pipeline"] = {"project": project, "name": name} if slash else {"name": name}
        moved = dict.fromkeys((("pipeline",), ("pipeline", "name"), ("pipeline", "project")), ("pipeline",))
    elif reference is None and isinstance(shaped.get("name"), str):
        shaped["pipeline"] = {"name": shaped.pop("name")}
        moved = dict.fromkeys((("pipeline",), ("pipeline", "name")), ("name",))
    named = shaped.get("pipeline")
    if isinstance(named, dict) and isinstance(named.get("project"), dict) and set(named["project"]) == {"name"}:
        shaped["pipeline"] = named = {**named, "project": named["project"]["name"]}
    if isinstance(named, dict) and "project" not in named and isinstance(shaped.get("project"), str):
        shaped["pipeline"] = {**named, "project": shaped.pop("project")}
        moved["pipeline", "project"] = ("project",)
    return shaped, moved


def _mapping(result: Translation, value: Any, model: type[SpecModel], path: FieldPath, origin: FieldPath) -> Any:
    """`value` with canonical field names; anything but a mapping is left for the models to complain about."""
    if not isinstance(value, Mapping):
        return value
    translated: dict[str, Any] = {}
    nested = children_of(model)
    for key, item in value.items():
        place = (*origin, str(key))
        name = _canonical_name(model, str(key))
        if model is Input and (name is None or name in REFUSED[Input]):
            result.excused.add(path)
        if name is None:
            result.problems.append((place, _unknown(model, str(key))))
        elif item is None or _is_dropped(result, model, name, item, place):
            continue  # protobuf's JSON writes null for a field that is not set
        elif name in translated:
            result.problems.append((place, f"{key!r} gives {name!r} a second time; keep one of them"))
        else:
            here = (*path, name)
            result.origins[here] = place
            translated[name] = _child(result, item, nested.get(name), here, place)
    return translated


def _child(result: Translation, item: Any, model: type[SpecModel] | None, path: FieldPath, origin: FieldPath) -> Any:
    if model is None:
        return item
    if isinstance(item, (list, tuple)):
        return [_mapping(result, part, model, (*path, index), (*origin, index)) for index, part in enumerate(item)]
    return _mapping(result, item, model, path, origin)


def _is_dropped(result: Translation, model: type[SpecModel], name: str, item: Any, place: FieldPath) -> bool:
    """Whether the field has no canonical form; notes why where that matters. Also notes ignored fields in
    use."""
    used = not _is_empty(item)
    if name in REFUSED.get(model, {}):
        if used or name in _ALWAYS:
            result.problems.append((place, REFUSED[model][name]))
        return True
    if name in IDLE.get(model, ()):
        if used and name in _ASKING:
            result.warnings.append((place, _ASKING[name]))
        return True
    if name in OLD.get(model, ()):
        result.warnings.append((place, "a field of Pachyderm 1.x that has no effect; remove it"))
        return True
    if used and name in IGNORED.get(model, {}):
        result.warnings.append((place, IGNORED[model][name]))
    if used and result.engine == "local" and name in LOCALLY_IGNORED.get(model, {}):
        result.warnings.append((place, LOCALLY_IGNORED[model][name]))
    if used and result.engine not in (None, "kubernetes"):
        if name in IN_PODS_ONLY.get(model, {}):
            result.warnings.append((place, IN_PODS_ONLY[model][name]))
        if name in REFUSED_OUTSIDE_PODS.get(model, {}):
            result.problems.append((place, REFUSED_OUTSIDE_PODS[model][name]))
    return False


def _is_empty(item: Any) -> bool:
    """Whether protobuf would call the value unset."""
    if isinstance(item, Mapping):
        return all(_is_empty(part) for part in item.values())
    return item in (None, False, 0, "", [], ())


def _canonical_name(model: type[SpecModel], key: str) -> str | None:
    snake = _CAPITAL.sub(r"_\1", key).lower()
    snake = _ALIASES.get(model, {}).get(snake, snake)
    return snake if snake in known_names(model) else None


def known_names(model: type[SpecModel]) -> list[str]:
    """Every canonical name that a spec may give in this place, whatever its fate."""
    return [*model.model_fields, *REFUSED.get(model, {}), *IDLE.get(model, ()), *OLD.get(model, ())]


def _unknown(model: type[SpecModel], key: str) -> str:
    snake = _CAPITAL.sub(r"_\1", key).lower()
    near = difflib.get_close_matches(snake, known_names(model), n=1)
    if near:
        return f"unknown field {key!r}; did you mean {near[0]!r}?"
    homes = [prefix for prefix, other in _HOMES if other is not model and snake in other.model_fields]
    if homes:
        return f"unknown field {key!r}; it belongs under {homes[0]!r}"
    return f"unknown field {key!r}; the fields here are {', '.join(model.model_fields)}"


_HOMES: tuple[tuple[str, type[SpecModel]], ...] = (
    ("transform", Transform),
    ("input.pfs", PfsInput),
    ("pipeline", PipelineRef),
    ("input", Input),
    ("the top of the spec", PipelineSpec),
)


def _fill_inputs(result: Translation, node: Any, path: FieldPath, project: Any) -> None:
    """Give every `pfs` input its project, and its name where none is given."""
    if not isinstance(node, dict):
        return
    leaf = node.get("pfs")
    if isinstance(leaf, dict):
        here = (*path, "pfs")
        if "project" not in leaf:
            leaf["project"] = project
            _note_filled(result, (*here, "project"), ("pipeline", "project"))
        if "name" not in leaf:
            _note_filled(result, (*here, "name"), (*here, "repo"))
            if "repo" in leaf:
                leaf["name"] = leaf["repo"]
    for kind in ("cross", "union", "join", "group"):
        parts = node.get(kind)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            _fill_inputs(result, part, (*path, kind, index), project)


def _note_filled(result: Translation, path: FieldPath, source: FieldPath) -> None:
    result.filled.add(path)
    result.origins[path] = result.origin(source)
