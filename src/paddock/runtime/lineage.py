"""Where a file came from: from output to datum to inputs, and on back to what users put."""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import NamedTuple

from paddock.catalog import commits as commits_sql
from paddock.catalog import jobs as jobs_sql
from paddock.model.addresses import parse_address
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.ids import Digest
from paddock.model.records import CommitState, Datum, Origin
from paddock.runtime.datum_service import DatumService
from paddock.versions.home import Home
from paddock.versions.records import commit_record
from paddock.versions.resolve import resolve_commit

DEPTH_MAX = 64
"""Pipelines in a chain; far above any real one, it bounds the answer."""


class _Budget(NamedTuple):
    inputs_max: int
    depth: int


def why(home: Home, address: str, inputs_max: int = 20) -> Origin:
    """See `Paddock.why`. A missing path is an error; a directory came from its files. Cost: one datum look-up for each step shown."""
    parsed = parse_address(address)
    if parsed.path is None or parsed.path == "/":
        raise InvalidInput(f"address {address!r} names no file; write repo@branch:/path/of/file")
    with home.catalog.read() as tx:
        commit = resolve_commit(tx, parsed)
    return _origin(home, commit.id, parsed.path, _Budget(inputs_max, DEPTH_MAX))


def _origin(home: Home, commit_id: int, path: str, budget: _Budget) -> Origin:
    with home.catalog.read() as tx:
        commit = commits_sql.get(tx, commit_id)
        record = commit_record(tx, commit)
        job = jobs_sql.find_by_commit(tx, commit_id)
        upstream = {
            f"{each.project}/{each.repo}@{each.branch}": each.upstream_id
            for each in commits_sql.provenance(tx, [commit_id])
        }
    place = f"{record.project}/{record.repo}@{record.id}:{path}"
    if record.state is CommitState.FORGOTTEN:
        return Origin(place, record, None, None if job is None else job.version, (), 0)
    root = Digest(bytes.fromhex(commit.tree)) if commit.tree else home.trees.empty()
    row = home.trees.row(root, path)
    if row is None and home.trees.info(root, path) is None:
        raise NotFound(f"{place} does not exist; `paddock ls {record.repo}@{record.id}` shows what does")
    if job is None:
        return Origin(place, record, None, None, (), 0)
    if row is None:
        return _directory(home, Origin(place, record, None, job.version, (), 0), commit_id, root, path, budget)
    datum = DatumService(home).inspect(f"{job.project}/{job.pipeline}@{job.set_id}", row.datum.hex())
    if budget.depth == 0:
        return Origin(place, record, datum, job.version, (), len(datum.inputs))
    return _with_inputs(home, Origin(place, record, datum, job.version, (), 0), datum, upstream, budget)


def _directory(home: Home, origin: Origin, commit_id: int, root: Digest, path: str, budget: _Budget) -> Origin:
    """A directory that a datum read came from the files below it."""
    info = home.trees.info(root, path)
    assert info is not None, f"{path} was found"
    files = islice(home.trees.walk(root, path), budget.inputs_max)
    shown = tuple(_origin(home, commit_id, file.path, budget) for file in files)
    return dataclasses.replace(origin, inputs=shown, truncated=info.files - len(shown))


def _with_inputs(home: Home, origin: Origin, datum: Datum, upstream: dict[str, int | None], budget: _Budget) -> Origin:
    below = _Budget(budget.inputs_max, budget.depth - 1)
    shown = []
    for each in datum.inputs[: budget.inputs_max]:
        commit_id = upstream.get(each.repo)
        assert commit_id is not None, f"datum {datum.id} read {each.path}, so {each.repo} had a commit"
        shown.append(_origin(home, commit_id, each.path, below))
    return dataclasses.replace(origin, inputs=tuple(shown), truncated=len(datum.inputs) - len(shown))
