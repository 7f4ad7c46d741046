"""The datums that an input makes on the present heads, and what looks wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paddock.catalog import branches as branches_sql
from paddock.catalog.database import Transaction
from paddock.model.addresses import RepoAddress
from paddock.model.ids import Digest
from paddock.model.plans import InputPreview, MatchCount, PreviewDatum, PreviewFile
from paddock.model.splits import file_of
from paddock.pipelines.affected import keys_of
from paddock.pipelines.inputs import Leaf, leaves_of, plan_datums, preview_datums
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.runtime.cut_files import CutFiles
from paddock.runtime.job_facts import input_commit
from paddock.runtime.leaf_matches import LeafMatches
from paddock.storage.matching import Matches
from paddock.versions.home import Home
from paddock.versions.resolve import require_repo


class _Place(NamedTuple):
    path: str
    piece: str = ""
    first_record: int | None = None
    last_record: int | None = None


def preview_input(home: Home, spec: Mapping[str, Any], *, limit: int) -> InputPreview:
    """See `Datums.preview`."""
    checked = _checked(spec)
    leaves = leaves_of(checked)
    with home.catalog.read() as tx:
        trees = [_tree(tx, home, leaf) for leaf in leaves]
    found = LeafMatches(home.trees, CutFiles(home).find)
    matches = [found.all(leaf, tree) for leaf, tree in zip(leaves, trees, strict=True)]
    preview = preview_datums(checked.input, matches)
    counts = tuple(
        MatchCount(leaf.name, leaf.address, leaf.glob, found)
        for leaf, found in zip(leaves, preview.matches, strict=True)
    )
    return InputPreview(preview.datums, counts, _first_datums(found, checked, trees, matches, limit), preview.warnings)


def _checked(spec: Mapping[str, Any]) -> PipelineSpec:
    """A whole spec, or one around an input alone."""
    whole = spec if "input" in spec else {"pipeline": "preview", "transform": {"cmd": ["true"]}, "input": spec}
    return validate_spec(whole).spec


def _tree(tx: Transaction, home: Home, leaf: Leaf) -> Digest:
    repo = require_repo(tx, RepoAddress(leaf.project, leaf.repo))
    branch = branches_sql.find(tx, repo.id, leaf.branch)
    return input_commit(tx, home, None if branch is None else branch.head_id).tree


def _first_datums(
    leaf_matches: LeafMatches, spec: PipelineSpec, trees: Sequence[Digest], matches: Sequence[Matches], limit: int
) -> tuple[PreviewDatum, ...]:
    leaves = leaves_of(spec)
    planned = plan_datums(spec.input, matches)
    keys = keys_of(spec.input, matches)

    def file(leaf: int, match: int) -> PreviewFile:
        found, values, place = matches[leaf], keys[leaf], found_place(leaf, match)
        return PreviewFile(
            name=leaves[leaf].name,
            path=place.path,
            directory=bool(found.directories[match]),
            size_bytes=int(found.sizes[match]),
            captures=tuple(column[match] for column in found.captures),
            key="" if values is None else values[match],
            piece=place.piece,
            first_record=place.first_record,
            last_record=place.last_record,
        )

    def found_place(leaf: int, match: int) -> _Place:
        path, tree = matches[leaf].paths[match], trees[leaf]
        if leaves[leaf].split is None:
            return _Place(path)
        file = file_of(path)
        return _Place(file, path[len(file) + 1 :], *leaf_matches.records(leaves[leaf], tree, [path])[path])

    shown = []
    for datum in range(min(limit, len(planned))):
        span = slice(planned.offsets[datum], planned.offsets[datum + 1])
        pairs = zip(planned.leaf[span].tolist(), planned.match[span].tolist(), strict=True)
        shown.append(PreviewDatum(tuple(file(leaf, match) for leaf, match in pairs)))
    return tuple(shown)
