"""`docs/reference/spec.md` lists every field of a spec, with its default and its fate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paddock.model.globs import compile_glob
from paddock.pipelines.documents import parse_specs
from paddock.pipelines.fields import IDLE, IGNORED, IN_PODS_ONLY, OLD, REFUSED, REFUSED_OUTSIDE_PODS, children_of
from paddock.pipelines.inputs import DATUMS_MAX
from paddock.pipelines.models import (
    Gpu,
    Input,
    PfsInput,
    PipelineRef,
    PipelineSpec,
    PodSecret,
    SchedulingSpec,
    SpecModel,
    Split,
    Toleration,
    Transform,
)
from paddock.pipelines.spec import validate_specs

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "spec.md").read_text(encoding="utf-8")
SECTIONS: dict[type[SpecModel], str] = {
    PipelineSpec: "The top of a spec",
    PipelineRef: "`pipeline`",
    Transform: "`transform`",
    Input: "`input`",
    PfsInput: "`input.pfs`",
    Gpu: "`gpu`",
    Split: "`split`",
    PodSecret: "`transform.secrets`",
    **{
        # Of fields of one kind the first one has the section.
        model: f"`{name}`"
        for name, model in reversed(children_of(PipelineSpec).items())
        if model not in (PipelineRef, Transform, Input)
    },
}
FIELDS = [(model, name) for model in SECTIONS for name in model.model_fields]
PREFIXES: dict[type[SpecModel], str] = {
    PipelineSpec: "",
    Transform: "transform.",
    Input: "input.",
    PfsInput: "input.pfs.",
    Split: "input.pfs.split.",
}


def section(title: str) -> str:
    match = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"the page has no section {title!r}"
    return match[1]


def row(model: type[SpecModel], name: str) -> list[str]:
    found = re.findall(rf"^\| `{name}` \|(.*)\|$", section(SECTIONS[model]), re.MULTILINE)
    assert len(found) == 1, f"{SECTIONS[model]} has {len(found)} rows for {name!r}"
    return [cell.strip() for cell in found[0].split(" | ")]


def spelled(default: bool | int | str) -> str:
    """A default as one writes it in a spec."""
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) or '""'


def test_every_model_has_a_section() -> None:
    reached: set[type[SpecModel]] = {PipelineSpec}
    for _ in range(3):
        reached |= {child for model in reached for child in children_of(model).values()}
    assert reached == set(SECTIONS)


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_has_a_row_with_its_default_and_status(model: type[SpecModel], name: str) -> None:
    kind, status, meaning = row(model, name)
    info = model.model_fields[name]
    assert meaning
    if info.is_required():
        assert "required" in kind or name in ("project", "name")
    elif isinstance(info.default, (bool, int, str)):
        assert f"`{spelled(info.default)}`" in kind
    ignored = name in IGNORED.get(model, {}) or name == "debug"
    in_pods = name in IN_PODS_ONLY.get(model, {}) or name in REFUSED_OUTSIDE_PODS.get(model, {})
    in_pods = in_pods or model in (PodSecret, SchedulingSpec, Toleration)
    assert status.startswith("recorded" if ignored else "served")
    assert ("(Kubernetes)" in status) == in_pods


def test_no_row_is_left_over() -> None:
    for model, title in SECTIONS.items():
        rows = re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE)
        assert set(rows) == set(model.model_fields)


def test_fields_without_an_effect_are_named() -> None:
    top = section("The top of a spec")
    for name in (*IDLE[PipelineSpec], *OLD[PipelineSpec]):
        assert f"`{name}" in top


@pytest.mark.parametrize("place", [PREFIXES[model] + name for model, fields in REFUSED.items() for name in fields])
def test_refused_fields_are_named(place: str) -> None:
    assert re.search(rf"^\|.*`{re.escape(place)}(: true)?`.*\|.*\|$", section("What is refused"), re.MULTILINE)


def test_the_example_is_valid_and_the_limit_is_true() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    ((spec, warnings),) = validate_specs(parse_specs(example[1], source_name="spec.md"))
    assert (spec.address, warnings) == ("default/edges", ())
    assert f"{DATUMS_MAX:,}" in PAGE
    match = compile_glob("/*/(*)-(*).json").match("/x/a-b.json")
    assert match is not None
    assert match.expand("$2") == "b"
