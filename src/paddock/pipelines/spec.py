"""Specs from plain data to the canonical, validated form, with every fault of a spec found in one go."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from paddock.model.errors import Bug, InvalidInput, Problem
from paddock.model.records import DEFAULT_PROJECT, EngineName
from paddock.pipelines.checks import check
from paddock.pipelines.fields import Translation, translate
from paddock.pipelines.models import Input, PipelineSpec
from paddock.pipelines.places import NO_PLACES, FieldPath, Places, SpecText, type_name

_MISSING = {
    "pipeline": "the pipeline has no name; write pipeline: {name: …}",
    "name": "the pipeline has no name; write pipeline: {name: …}",
    "transform": "says what to run, and is missing; write transform: {cmd: [program, argument, …]}",
    "cmd": 'names the program to run, and is missing; write for example cmd: ["python3", "run.py"]',
    "input": "says what to read, and is missing; write for example input: {pfs: {repo: …, glob: /*}}",
    "repo": "an input must name a repo; write repo: …",
    "operator": "says how a taint is compared, and is missing; write EXISTS, or EQUAL with a value",
    "glob": "says how the repo is cut into datums, and is missing; write / for one, or /* for one per entry",
}


class ValidSpec(NamedTuple):
    """A checked spec, and what its author should know (each with its place)."""

    spec: PipelineSpec
    warnings: tuple[str, ...]


def validate_specs(texts: Iterable[SpecText], *, default_project: str = DEFAULT_PROJECT) -> list[ValidSpec]:
    """Validate specs that are applied together; no two may have one name. InvalidInput lists the faults of
    all."""
    valid: list[ValidSpec] = []
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for text in texts:
        try:
            result = validate_spec(text.data, places=text.places, default_project=default_project)
        except InvalidInput as error:
            problems += error.problems
            continue
        valid.append(result)
        place = text.places.of(("pipeline",))
        if result.spec.address in first:
            message = f"pipeline {result.spec.address} is also defined at {first[result.spec.address]}; keep one"
            problems.append(Problem(place, message))
        first.setdefault(result.spec.address, place)
    if problems:
        raise InvalidInput(_headline(problems), problems=tuple(problems))
    return valid


def validate_spec(
    data: Mapping[str, Any],
    *,
    places: Places = NO_PLACES,
    default_project: str = DEFAULT_PROJECT,
    default_engine: EngineName | None = None,
) -> ValidSpec:
    """Check one spec in any accepted spelling.

    The result is canonical: defaults filled in, inputs sorted by name (so their order in the file doesn't
    matter), and equal for specs that mean the same. default_engine: the server's; None where it is not known, and what
    depends on it is left for the server to say. InvalidInput lists every fault, in the order of the file.
    """
    translation = translate(data, default_project=default_project, default_engine=default_engine)
    findings = check(translation.data, excused=translation.excused)
    problems = dict.fromkeys(translation.problems)
    problems |= dict.fromkeys((translation.origin(path), message) for path, message in findings.problems)
    spec: PipelineSpec | None = None
    try:
        spec = PipelineSpec.model_validate(translation.data)
    except ValidationError as error:
        reported = {path for path, _ in problems}
        found = _field_problems(translation, error)
        problems |= dict.fromkeys((path, message) for path, message in found if path not in reported)
    if problems or spec is None:
        listed = _in_file_order([Problem(places.of(path), message) for path, message in problems], places)
        raise InvalidInput(_headline(listed), problems=tuple(listed))
    spec = spec.model_copy(update={"input": _sorted(spec.input)})
    warnings = translation.warnings + [(translation.origin(path), text) for path, text in findings.warnings]
    return ValidSpec(spec, tuple(f"{places.of(path)}: {text}" for path, text in warnings))


def spec_to_json(spec: PipelineSpec) -> dict[str, Any]:
    """The effective spec as plain JSON data, which `validate_spec` reads back as the same spec."""
    return spec.model_dump(mode="json", exclude_none=True)


def load_spec(data: Mapping[str, Any]) -> PipelineSpec:
    """Rebuild a spec from its canonical JSON, as the catalog keeps it. Bug where it is not canonical."""
    try:
        return PipelineSpec.model_validate(data)
    except ValidationError as error:
        raise Bug(f"a stored pipeline spec does not read back: {error}") from None


def _headline(problems: Sequence[Problem]) -> str:
    count = len(problems)
    return "the spec has a problem:" if count == 1 else f"the spec has {count} problems:"


def _in_file_order(problems: list[Problem], places: Places) -> list[Problem]:
    def line(problem: Problem) -> int:
        head = problem.place.removeprefix(f"{places.source_name}:").split(":")[0]
        return int(head) if places.lines and head.isdecimal() else 0

    return sorted(problems, key=line)


# ---- messages of single fields
# -----------------------------------------------------------------------------------


def _field_problems(translation: Translation, error: ValidationError) -> Iterable[tuple[FieldPath, str]]:
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        if path in translation.filled:
            continue  # reported at the field that it was filled in from
        if detail["type"] == "too_short" and detail["input"]:
            continue  # items were left out for faults of their own
        yield translation.origin(path), _explain(detail)


def _explain(detail: ErrorDetails) -> str:
    """Say what is wrong with a value, and what to write, in the user's words."""
    field = next((part for part in reversed(detail["loc"]) if isinstance(part, str)), "")
    value = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return _MISSING.get(field, "is missing")
        case "too_short":
            return _MISSING[field].replace("missing", "empty") if field in _MISSING else "the list is empty"
        case "value_error":
            return str(context["error"])
        case "tuple_type":
            return _explain_list(field, value)
        case "string_type":
            return _explain_text(value)
        case "bool_type":
            return f"write true or false, not {type_name(value)}"
        case "literal_error":
            return f"write {context['expected']}, not {type_name(value)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {value}; leave the field out for the default"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {value}"
        case "model_type" | "dict_type":
            return f"write a mapping of fields, not {type_name(value)}"
    return f"{detail['msg']}, not {type_name(value)}"


def _explain_list(field: str, value: Any) -> str:
    if not isinstance(value, str) or field not in ("cmd", "err_cmd", "stdin", "err_stdin"):
        return f"write a list, not {type_name(value)}"
    if field.endswith("stdin"):
        return f"write a list of lines, not one text: {json.dumps(value.splitlines(), ensure_ascii=False)}"
    try:
        words = shlex.split(value)
    except ValueError:
        words = value.split()
    return f"write a list of words, not one text: {json.dumps(words, ensure_ascii=False)}"


def _explain_text(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return f"write text, not {type_name(value)}; put it in quotes: {json.dumps(json.dumps(value))}"
    return f"write text, not {type_name(value)}"


# ---- canonical order
# ---------------------------------------------------------------------------------------------


def _sorted(node: Input) -> Input:
    """The node with the inputs below it in order of their names, then of all else that tells them apart."""
    if node.pfs is not None:
        return node
    children = sorted((_sorted(child) for child in node.children), key=_sort_key)
    return node.model_copy(update={node.kind: tuple(children)})


def _sort_key(node: Input) -> tuple[str, str]:
    return _name_of(node), json.dumps(node.model_dump(mode="json", exclude_none=True), sort_keys=True)


def _name_of(node: Input) -> str:
    return node.pfs.name if node.pfs is not None else _name_of(node.children[0])
