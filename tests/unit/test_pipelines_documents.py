"""Spec files to plain data: formats, lines, and what can't be read."""

from __future__ import annotations

import pytest

from paddock.model.errors import InvalidInput
from paddock.pipelines.documents import parse_specs
from paddock.pipelines.places import NO_PLACES, Places


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_specs(text, source_name="p.yaml")
    assert caught.value.message == "p.yaml can't be read as pipeline specs:"
    return [str(problem) for problem in caught.value.problems]


def test_yaml_documents_and_lists_are_specs_in_order() -> None:
    text = "# first\npipeline: a\n---\n- pipeline: b\n- pipeline:\n    name: c\n---\n# nothing\n"
    specs = parse_specs(text, source_name="p.yaml")
    assert [spec.data for spec in specs] == [{"pipeline": "a"}, {"pipeline": "b"}, {"pipeline": {"name": "c"}}]
    assert specs[0].places.of(("pipeline",)) == "p.yaml:2: pipeline"
    assert specs[2].places.of(("pipeline", "name")) == "p.yaml:6: pipeline.name"


def test_json_documents_may_follow_one_another_with_tabs() -> None:
    text = '{\n\t"pipeline": "a"\n}\n\n{"pipeline":\n\t\t"b\\ud83d\\ude00\\/"}\n[{"x": 1}]'
    specs = parse_specs(text, source_name="p.json")
    assert [spec.data for spec in specs] == [{"pipeline": "a"}, {"pipeline": "b😀/"}, {"x": 1}]
    assert specs[1].places.of(("pipeline",)) == "p.json:5: pipeline"
    assert specs[2].places.of(("x",)) == "p.json:7: x"


def test_places_name_the_nearest_line() -> None:
    (spec,) = parse_specs("input:\n  cross:\n  - pfs: {repo: a}\n", source_name="p.yaml")
    assert spec.places.of(("input", "cross", 0, "pfs", "glob")) == "p.yaml:3: input.cross[0].pfs.glob"
    assert spec.places.of(("transform",)) == "p.yaml:1: transform"
    assert spec.places.of(()) == "p.yaml:1"
    assert Places("p.yaml").of(("a",)) == "p.yaml: a"
    assert NO_PLACES.of(("a", 0, "b")) == "a[0].b"


def test_anchors_and_merges_work() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, x: 3}\ntwo: *b\n"
    (spec,) = parse_specs(text, source_name="p.yaml")
    assert spec.data == {"base": {"x": 1, "y": 2}, "one": {"x": 3, "y": 2}, "two": {"x": 1, "y": 2}}


def test_a_byte_order_mark_is_dropped() -> None:
    assert parse_specs("\ufeffa: 1", source_name="p.yaml")[0].data == {"a": 1}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + last] * 9)}]\n" for last, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "p.yaml: the file holds no pipeline spec; write at least pipeline, input and transform"),
        ("# only a comment", "p.yaml: the file holds no pipeline spec"),
        ("[]", "p.yaml: the file holds no pipeline spec"),
        ("x: 1\ny: [", "p.yaml:2: this is neither YAML nor JSON: while parsing a flow node"),
        ("x: {\n\ty: 1}", "p.yaml:2: this is neither YAML nor JSON: while scanning for the next token"),
        ("x: *nowhere", "p.yaml:1: this is neither YAML nor JSON: found undefined alias 'nowhere'"),
        ("x: !!python/name:os.system y", "p.yaml:1: this is neither YAML nor JSON: could not determine"),
        ("just text", "p.yaml:1: a spec is a mapping of fields, not the text 'just text'"),
        ("a: 1\n---\n- b: 1\n- 3", "p.yaml:4: a spec is a mapping of fields, not the number 3"),
        ("- true", "p.yaml:1: a spec is a mapping of fields, not true"),
        ("- [1]", "p.yaml:1: a spec is a mapping of fields, not a list"),
        ("x: 1\ny: 2\nx: 3", "p.yaml:3: 'x' is given twice in one mapping (first in line 1); keep one"),
        ('{"x": 1,\n"x": 2}', "p.yaml:2: 'x' is given twice in one mapping (first in line 1); keep one"),
        ("? [a]\n: 1", "p.yaml:1: a field name must be text"),
        ("x: 2020-01-01", "p.yaml:1: '2020-01-01' is not plain text or a number; put it in quotes"),
        ("x: 2020-99-99", "p.yaml:1: '2020-99-99' is not plain text or a number; put it in quotes"),
        ('{"x": "\\ud83d"}', "p.yaml:1: '\\ud83d' holds half a character; write it whole"),
        ("ok: 1\nx: \x01", "p.yaml:2: the character U+0001 can't stand in a spec; remove it"),
        ("x: \ud800", "p.yaml:1: the character U+D800 can't stand in a spec; remove it"),
        (BOMB, "p.yaml:1: the document has more than 100000 values or 100 levels; write a smaller one"),
        ("x: &x [*x]", "p.yaml:1: the document has more than 100000 values or 100 levels"),
        ("x: " + "[" * 3000 + "]" * 3000, "p.yaml:1: "),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, expected: str) -> None:
    found = problems_of(text)
    assert found[0].startswith(expected), found


def test_all_faults_of_a_file_are_listed() -> None:
    found = problems_of("a: 1\na: 2\n---\n- 1\n---\nb: 2020-01-01\n")
    assert [problem.split(":")[1] for problem in found] == ["2", "4", "6"]
