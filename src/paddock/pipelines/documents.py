"""Spec files as text to plain data with the line of every field: YAML or JSON, several documents, or lists
of specs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import yaml

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, Problem
from paddock.pipelines.places import FieldPath, Places, SpecText, type_name

_UNREADABLE = re.compile(r"[^\t\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML's character set leaves out, line ends aside."""
NODES_MAX = 100_000
"""Values in one document, aliases counted as often as they are used; stops documents that expand without
end."""
DEPTH_MAX = 100


def parse_specs(text: str, *, source_name: str) -> list[SpecText]:
    """Cut a file into specs, in order. source_name: how problems name the file.

    InvalidInput, with the line, for text that is neither YAML nor JSON, a field given twice in one mapping,
    a value that JSON has no form for, a document that is not a mapping (or list of mappings), and a file
    without any spec.
    """
    text = text.removeprefix("\ufeff")
    specs: list[SpecText] = []
    problems: list[Problem] = []
    for document in _documents(text, source_name):
        items = document.data if isinstance(document.data, list) else [document.data]
        for index, item in enumerate(items):
            base: FieldPath = (index,) if isinstance(document.data, list) else ()
            places = Places(source_name, _below(document.lines, base))
            if isinstance(item, dict):
                specs.append(SpecText(item, places))
            else:
                problems.append(Problem(places.of(()), f"a spec is a mapping of fields, not {type_name(item)}"))
        problems += [Problem(f"{source_name}:{line}", message) for line, message in document.problems]
    if not specs and not problems:
        problems.append(
            Problem(source_name, "the file holds no pipeline spec; write at least pipeline, input and transform")
        )
    if problems:
        raise InvalidInput(f"{source_name} can't be read as pipeline specs:", problems=tuple(problems))
    return specs


@dataclass(frozen=True, slots=True)
class _Document:
    data: Any
    lines: Mapping[FieldPath, int]
    problems: tuple[tuple[int, str], ...]


def _below(lines: Mapping[FieldPath, int], base: FieldPath) -> Mapping[FieldPath, int]:
    if not base:
        return lines
    return {path[len(base) :]: line for path, line in lines.items() if path[: len(base)] == base}


def _documents(text: str, source_name: str) -> Iterator[_Document]:
    """JSON documents one after another (as `pachctl` takes them), else a stream of YAML documents."""
    pieces = _json_pieces(text)
    if pieces is not None:
        for start, end in pieces:
            # JSON may be indented by tabs, which YAML refuses; inside JSON strings there are none.
            piece = text[start:end].replace("\t", " ")
            yield from _yaml_documents(piece, source_name, first_line=text.count("\n", 0, start) + 1)
        return
    yield from _yaml_documents(text, source_name, first_line=1)


def _json_pieces(text: str) -> list[tuple[int, int]] | None:
    decoder = json.JSONDecoder()
    pieces: list[tuple[int, int]] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            _, end = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            return None
        pieces.append((position, end))
        position = end
    return pieces or None


def _yaml_documents(text: str, source_name: str, *, first_line: int) -> Iterator[_Document]:
    _check_characters(text, source_name, first_line)
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            reader = _Reader(loader, source_name, first_line)
            document = reader.read(node)
            if document.data is not None or document.problems:
                yield document
    except yaml.reader.ReaderError as error:
        _refuse(source_name, first_line, f"the character U+{error.character:04X} can't stand in a spec; remove it")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        reason = " ".join(part for part in (error.context, error.problem) if part)
        _refuse(source_name, line, f"this is neither YAML nor JSON: {reason}")
    except RecursionError:
        _refuse(source_name, first_line, f"values are nested more than {DEPTH_MAX} deep; flatten the document")
    finally:
        loader.dispose()


def _check_characters(text: str, source_name: str, first_line: int) -> None:
    for number, line in enumerate(text.split("\n"), start=first_line):
        bad = _UNREADABLE.search(line)
        if bad is not None:
            _refuse(source_name, number, f"the character U+{ord(bad[0]):04X} can't stand in a spec; remove it")


def _refuse(source_name: str, line: int, message: str) -> NoReturn:
    problem = Problem(f"{source_name}:{line}", message)
    raise InvalidInput(f"{source_name} can't be read as pipeline specs:", problems=(problem,))


class _Reader:
    """Turns one YAML node tree into plain data and the line of each value."""

    def __init__(self, loader: yaml.SafeLoader, source_name: str, first_line: int) -> None:
        self._loader = loader
        self._source_name = source_name
        self._first_line = first_line
        self._lines: dict[FieldPath, int] = {}
        self._problems: list[tuple[int, str]] = []
        self._visited = 0
        self._checked: set[int] = set()

    def read(self, node: yaml.Node) -> _Document:
        data = self._value(node, ())
        return _Document(data, self._lines, tuple(self._problems))

    def _line(self, node: yaml.Node) -> int:
        return self._first_line + int(node.start_mark.line)

    def _value(self, node: yaml.Node, path: FieldPath) -> Any:
        self._visited += 1
        if self._visited > NODES_MAX or len(path) > DEPTH_MAX:
            _refuse(
                self._source_name,
                self._line(node),
                f"the document has more than {NODES_MAX} values or {DEPTH_MAX} levels; write a smaller one",
            )
        self._lines.setdefault(path, self._line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError):
            value = object()
        if isinstance(value, str):
            return self._whole_characters(node, value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        self._problems.append((self._line(node), f"{node.value!r} is not plain text or a number; put it in quotes"))
        return str(node.value)

    def _whole_characters(self, node: yaml.Node, text: str) -> str:
        """JSON may write one character as two escapes (a surrogate pair), which YAML reads as two."""
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self._problems.append((self._line(node), f"{text!a} holds half a character; write it whole"))
            return ""

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if id(node) not in self._checked:
            self._checked.add(id(node))
            self._check_keys(node)
            self._loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = str(key_node.value)
                self._lines[(*path, key)] = self._line(key_node)
                result[key] = self._value(value_node, (*path, key))
        return result

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.append((line, "a field name must be text"))
            elif key_node.value in seen:
                first = seen[key_node.value]
                self._problems.append(
                    (
                        line,
                        f"{key_node.value!r} is given twice in one mapping (first in line {first}); keep one",
                    )
                )
            else:
                seen[key_node.value] = line
