"""Inputs of a pipeline, as Python calls: the `input` of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock.model.addresses import parse_repo
from paddock.model.records import DEFAULT_BRANCH

InputSpec = Mapping[str, Any]
"""A node of a spec's `input`."""


def glob(
    repo: str,
    pattern: str = "/*",
    *,
    name: str | None = None,
    branch: str = DEFAULT_BRANCH,
    join_on: str = "",
    outer_join: bool = False,
    group_by: str = "",
    empty_files: bool = False,
    split: str | Mapping[str, Any] | None = None,
) -> InputSpec:
    """One datum for each match of `pattern` in `repo` (`[project/]repo`).

    split: cut matched files into datums of records, as in a spec: `"csv:1000"` or `{"format": "csv", "records": 1000}`.
    name: of the function's parameter that gets it; the repo's name if None. Without a project: the pipeline's.
    """
    address = parse_repo(repo)
    fields: dict[str, Any] = {"repo": address.repo, "glob": pattern, "branch": branch, "name": name or address.repo}
    if "/" in repo:
        fields["project"] = address.project
    options: dict[str, Any] = {
        "join_on": join_on,
        "outer_join": outer_join,
        "group_by": group_by,
        "empty_files": empty_files,
        "split": split,
    }
    return {"pfs": fields | {key: value for key, value in options.items() if value}}


def cross(*inputs: InputSpec) -> InputSpec:
    """Every combination of one datum of each input."""
    return {"cross": list(inputs)}


def union(*inputs: InputSpec) -> InputSpec:
    """The datums of all inputs; a datum has one of them, and the parameters of the others are None."""
    return {"union": list(inputs)}


def join(*inputs: InputSpec) -> InputSpec:
    """Combinations whose `join_on` agree."""
    return {"join": list(inputs)}


def group(*inputs: InputSpec) -> InputSpec:
    """One datum for all matches whose `group_by` agree; take them as `dict[str, bytes]` or `Path`."""
    return {"group": list(inputs)}


def input_names(node: InputSpec) -> list[str]:
    """The names of all inputs at or below `node`, in order, without repeats."""
    leaf = node.get("pfs")
    if leaf is not None:
        return [leaf["name"]]
    return list(dict.fromkeys(name for parts in node.values() for part in parts for name in input_names(part)))
