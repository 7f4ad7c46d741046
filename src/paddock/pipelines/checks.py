"""Checks of a translated spec that concern several fields at once. They read plain data, so that every
fault is found in one go even where single fields are wrong too; anything of a wrong type is left to the
models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import field
from typing import Any

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.globs import compile_glob, compile_template
from paddock.pipelines.places import FieldPath
from paddock.pipelines.split_text import parse_split

COMBINATIONS = ("cross", "union", "join", "group")
KINDS = ("pfs", *COMBINATIONS)
NO_KIND = f"this input is of no kind; write one of {', '.join(KINDS)}"
RESERVED_INPUT_NAMES = ("out", ".env")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Findings:
    """(canonical place, message) of each fault and of each warning."""

    problems: list[tuple[FieldPath, str]] = field(default_factory=list)
    warnings: list[tuple[FieldPath, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _LeafPlace:
    """A `pfs` input, where it stands, and the kinds of the nodes around it."""

    data: dict[str, Any]
    path: FieldPath
    above: frozenset[str]


def check(data: dict[str, Any], *, excused: Set[FieldPath] = frozenset()) -> Findings:
    """All faults and warnings of a translated spec. excused: inputs that may be of no kind."""
    findings = Findings()
    transform = data.get("transform")
    if isinstance(transform, dict):
        _check_transform(findings, transform)
    _check_parallelism(findings, data.get("parallelism_spec"))
    _check_tolerations(findings, data.get("tolerations"))
    _check_batches(findings, data.get("datum_set_spec"))
    node = data.get("input")
    if isinstance(node, dict):
        leaves = list(_walk(findings, node, ("input",), frozenset()))
        findings.problems = [
            (path, problem) for path, problem in findings.problems if path not in excused or problem != NO_KIND
        ]
        reference = data.get("pipeline")
        for leaf in leaves:
            _check_name(findings, leaf)
            _check_templates(findings, leaf)
            _check_split(findings, leaf)
            if isinstance(reference, dict):
                _check_not_own_output(findings, leaf, reference)
        _check_duplicates(findings, node, ("input",))
    return findings


def _check_transform(findings: Findings, transform: dict[str, Any]) -> None:
    path = ("transform",)
    command = transform.get("cmd")
    if isinstance(command, (list, tuple)) and command and command[0] == "":
        findings.problems.append(((*path, "cmd", 0), "the program's name is empty; write for example python3"))
    environment = transform.get("env")
    for name in environment if isinstance(environment, dict) else ():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            problem = f"{name!r} can't name an environment variable; use letters, digits and '_'"
            findings.problems.append(((*path, "env", str(name)), problem))
    if transform.get("err_stdin") and not transform.get("err_cmd"):
        findings.warnings.append(((*path, "err_stdin"), "has no effect without err_cmd"))
    _check_warm(findings, transform)
    _check_secrets(findings, transform.get("secrets"))
    if transform.get("code") == "":
        problem = "the path is empty; name the directory of the program, or leave the field out"
        findings.problems.append(((*path, "code"), problem))


def _check_warm(findings: Findings, transform: dict[str, Any]) -> None:
    path = ("transform",)
    if transform.get("warm") is not True:
        for name in ("warm_datums_max", "warm_memory_max"):
            if transform.get(name) is not None:
                findings.warnings.append(((*path, name), "has no effect without warm: true"))
        return
    command = transform.get("cmd")
    if transform.get("placeholders") is True and isinstance(command, (list, tuple)):
        for index, word in enumerate(command):
            if isinstance(word, str) and "{in}" in word:
                problem = "a warm command is started before its datums are known; read `in` from each datum's line"
                findings.problems.append(((*path, "cmd", index), problem))


def _check_secrets(findings: Findings, secrets: Any) -> None:
    mounted: set[str] = set()
    for index, secret in enumerate(secrets if isinstance(secrets, (list, tuple)) else ()):
        if not isinstance(secret, dict):
            continue
        path = ("transform", "secrets", index)
        place, variable = secret.get("mount_path"), secret.get("env_var")
        if not place and not variable:
            problem = (
                "is given neither as files nor as a variable; write mount_path: /a/folder, or env_var: NAME with key"
            )
            findings.problems.append((path, problem))
        if variable and not secret.get("key"):
            problem = "says not which value of the secret the variable is; write key: …"
            findings.problems.append(((*path, "key"), problem))
        if isinstance(variable, str) and variable and not _VARIABLE.fullmatch(variable):
            problem = f"{variable!r} can't name an environment variable; use letters, digits and '_'"
            findings.problems.append(((*path, "env_var"), problem))
        if isinstance(place, str) and place:
            if fault := _mount_fault(place.rstrip("/") or "/", mounted):
                findings.problems.append(((*path, "mount_path"), fault))
            mounted.add(place.rstrip("/"))


def _mount_fault(place: str, mounted: Set[str]) -> str:
    if not place.startswith("/") or ".." in place.split("/"):
        return f"{place!r} is not an absolute path; write for example /secrets/db"
    for taken in ("/pfs", "/paddock"):
        if place == taken or place.startswith(f"{taken}/"):
            return f"{taken} is taken; mount the secret elsewhere, for example at /secrets/db"
    if place == "/" or place in mounted:
        return f"{place} has something else already; mount each secret in a folder of its own"
    return ""


def _check_tolerations(findings: Findings, tolerations: Any) -> None:
    for index, toleration in enumerate(tolerations if isinstance(tolerations, (list, tuple)) else ()):
        if not isinstance(toleration, dict):
            continue
        path = ("tolerations", index)
        operator = str(toleration.get("operator", "")).upper()
        if operator == "EQUAL" and not toleration.get("key"):
            findings.problems.append(((*path, "key"), "EQUAL compares a taint's value, so it needs key; write key: …"))
        if operator == "EXISTS" and toleration.get("value"):
            problem = "EXISTS looks at no value; remove it, or write operator: EQUAL"
            findings.problems.append(((*path, "value"), problem))
        effect = str(toleration.get("effect", "")).upper().replace("_", "")
        if toleration.get("toleration_seconds") is not None and effect != "NOEXECUTE":
            problem = "counts from an eviction, which only the effect NO_EXECUTE makes; write effect: NO_EXECUTE"
            findings.problems.append(((*path, "toleration_seconds"), problem))


def _check_parallelism(findings: Findings, parallelism: Any) -> None:
    if not isinstance(parallelism, dict):
        return
    minimum, constant = parallelism.get("minimum"), parallelism.get("constant")
    if isinstance(minimum, int) and isinstance(constant, int) and minimum > constant > 0:
        problem = (
            f"{minimum} workers are more than the most, which is constant: {constant}; lower one or raise the other"
        )
        findings.problems.append((("parallelism_spec", "minimum"), problem))


def _check_batches(findings: Findings, batches: Any) -> None:
    if isinstance(batches, dict) and "per_worker" in batches and ("number" in batches or "size_bytes" in batches):
        warning = "has no effect beside number or size_bytes"
        findings.warnings.append((("datum_set_spec", "per_worker"), warning))


def _walk(findings: Findings, node: Any, path: FieldPath, above: frozenset[str]) -> Iterator[_LeafPlace]:
    """The `pfs` inputs at or under `node`; notes nodes that are not exactly one kind of input."""
    if not isinstance(node, dict):
        return
    kinds = [kind for kind in KINDS if kind in node]
    if len(kinds) > 1:
        several = " and ".join(kinds)
        problem = f"this input is {several} at once; keep one, or combine them by cross or union"
        findings.problems.append((path, problem))
    if not kinds:
        findings.problems.append((path, NO_KIND))
    if isinstance(node.get("pfs"), dict):
        yield _LeafPlace(node["pfs"], (*path, "pfs"), above)
    for kind in kinds:
        parts = node[kind]
        if kind == "pfs" or not isinstance(parts, (list, tuple)):
            continue
        if not parts:
            findings.problems.append(((*path, kind), f"{kind} combines nothing; list at least one input"))
        for index, part in enumerate(parts):
            yield from _walk(findings, part, (*path, kind, index), above | {kind})


def _check_name(findings: Findings, leaf: _LeafPlace) -> None:
    name = leaf.data.get("name")
    if not isinstance(name, str):
        return
    if name in RESERVED_INPUT_NAMES:
        problem = f"an input can't be named {name!r}, which is taken under /pfs; give it another `name`"
        findings.problems.append(((*leaf.path, "name"), problem))
    elif not _VARIABLE.fullmatch(name):
        warning = f"a shell can't name a variable {name!r}; give the input a `name` of letters, digits and '_'"
        findings.warnings.append(((*leaf.path, "name"), warning))


def _check_templates(findings: Findings, leaf: _LeafPlace) -> None:
    groups = _groups_of(leaf.data.get("glob"))
    for kind, name in (("join", "join_on"), ("group", "group_by")):
        template = leaf.data.get(name)
        if kind in leaf.above and not template:
            problem = f"every pfs input in a {kind} needs {name}; write for example {name}: $1 and /(*) in the glob"
            findings.problems.append(((*leaf.path, name), problem))
        elif isinstance(template, str) and groups is not None:
            try:
                compile_template(template, groups)
            except InvalidInput as error:
                findings.problems.append(((*leaf.path, name), error.message))
    if leaf.data.get("outer_join") is True and "join" not in leaf.above:
        findings.warnings.append(((*leaf.path, "outer_join"), "has no effect outside of a join"))


def _check_split(findings: Findings, leaf: _LeafPlace) -> None:
    path = (*leaf.path, "split")
    try:
        split = parse_split(leaf.data.get("split"))
    except ValueError:
        return  # the model says what is wrong
    if not isinstance(split, dict):
        return
    if split.get("records") is not None and split.get("bytes") is not None:
        findings.problems.append(((*path, "bytes"), "a piece is limited by records or by bytes; keep one of them"))
    if split.get("by") == "content" and split.get("bytes") is not None:
        problem = "pieces by content are limited by records; write `records`, or by: position"
        findings.problems.append(((*path, "by"), problem))
    if split.get("header") is True and split.get("format") not in ("csv", "lines"):
        problem = f"{split.get('format')} files have no header line; leave the field out"
        findings.problems.append(((*path, "header"), problem))
    glob = leaf.data.get("glob")
    if isinstance(glob, str) and glob.strip() in ("/", ""):
        problem = "split cuts files, and / is the whole repo; write a glob that matches files, as /* or /**"
        findings.problems.append(((*leaf.path, "glob"), problem))


def _groups_of(glob: Any) -> int | None:
    if not isinstance(glob, str):
        return None
    try:
        return compile_glob(glob).groups
    except InvalidInput:
        return None


def _check_not_own_output(findings: Findings, leaf: _LeafPlace, reference: dict[str, Any]) -> None:
    own = (reference.get("project"), reference.get("name"))
    if own[1] is not None and (leaf.data.get("project"), leaf.data.get("repo")) == own:
        problem = f"pipeline {own[1]!r} can't read its own output; name another repo"
        findings.problems.append(((*leaf.path, "repo"), problem))


def _check_duplicates(findings: Findings, node: Any, path: FieldPath) -> list[tuple[str, FieldPath]]:
    """(name, place) of the inputs at or under `node`; notes names that one datum would hold twice."""
    if not isinstance(node, dict):
        return []
    leaf = node.get("pfs")
    if isinstance(leaf, dict):
        name = leaf.get("name")
        return [(name, (*path, "pfs", "name"))] if isinstance(name, str) else []
    kind = next((kind for kind in COMBINATIONS if isinstance(node.get(kind), (list, tuple))), None)
    if kind is None:
        return []
    named = [
        pair
        for index, part in enumerate(node[kind])
        for pair in _check_duplicates(findings, part, (*path, kind, index))
    ]
    unique = dict(reversed(named))
    if kind != "union":
        twice = Counter(name for name, _ in named)
        for name, place in named:
            if twice[name] > 1 and unique[name] != place:
                problem = f"input name {name!r} is used more than once in a {kind}; give each input its own `name`"
                findings.problems.append((place, problem))
    return list(unique.items())
