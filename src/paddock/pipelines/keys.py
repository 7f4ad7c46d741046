"""Names of datums: which element of the input each is (id), and what would be computed for it (key).

Both are BLAKE3 over a context string and then, for each file of the datum in leaf order, fields that each say
their length first (4 bytes, little-endian), so no two lists of fields read the same:

    id   16 bytes   "paddock.datum-id.v1", then (project, repo, branch, input name, path) of each file
    key  32 bytes   "paddock.datum-key.v1", the transform's digest, then (input name, path, digest, flags,
    join_on, group_by)

flags is one byte: 1 for `empty_files`, 2 for a directory; the digest and flags have a fixed length and so
carry none. A datum's sort name is its first path and its id, so that neighbours in the tree are neighbours
in the datum table. These formats are for ever: kept results are found by them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from paddock.model.ids import Digest
from paddock.pipelines.inputs import DatumSet, Integers, Leaf, Matches, group_values, join_values
from paddock.pipelines.models import PipelineSpec

_ID_CONTEXT = b"paddock.datum-id.v1\0"
_KEY_CONTEXT = b"paddock.datum-key.v1\0"
_TRANSFORM_CONTEXT = b"paddock.transform.v1\0"
BLOCK_DATUMS = 32_768
"""Datums named at a time: bounds the memory for the encoded fields of their files."""


class DatumNames(NamedTuple):
    """Names of the datums of a set, one position each."""

    ids: list[bytes]
    keys: list[bytes]
    sort_names: list[str]


def transform_digest(spec: PipelineSpec, code_root: Digest | None) -> Digest:
    """What decides a command's result besides its inputs. Descriptions, parallelism, tries and timeouts
    don't."""
    transform = spec.transform
    content = {
        "accept_return_code": sorted(set(transform.accept_return_code)),
        "cmd": transform.cmd,
        "code": code_root.hex() if code_root is not None else None,
        "env": transform.env,
        "err_cmd": transform.err_cmd,
        "err_stdin": transform.err_stdin,
        "image": transform.image,
        "placeholders": transform.placeholders,
        "stdin": transform.stdin,
        "user": "",
        "working_dir": transform.working_dir,
    }
    if transform.warm:
        # Only where it is set, so that transforms without it keep the digests that they have always had.
        content["warm"] = True
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Digest(blake3(_TRANSFORM_CONTEXT + text.encode()).digest())


def datum_ids_and_keys(
    datums: DatumSet, leaves: Sequence[Leaf], matches: Sequence[Matches], transform: Digest
) -> DatumNames:
    """Name all datums of a set. Equal elements have equal ids and sort names, wherever in the set they stand.

    Cost: about 3 s and little memory beyond the names for a million datums.
    """
    encoders = [_Encoder(leaf, found) for leaf, found in zip(leaves, matches, strict=True)]
    starts = _offsets_of_leaves(matches)
    context = _KEY_CONTEXT + transform
    names = DatumNames([], [], [])
    for first in range(0, len(datums), BLOCK_DATUMS):
        offsets = datums.offsets[first : first + BLOCK_DATUMS + 1]
        files = slice(int(offsets[0]), int(offsets[-1]))
        used, positions = np.unique(starts[datums.leaf[files]] + datums.match[files], return_inverse=True)
        for_ids, for_keys, paths = _encode(encoders, used, starts)
        places = positions.tolist()
        rows = (offsets - offsets[0]).tolist()
        single = len(places) == len(rows) - 1 and bool(np.all(np.diff(offsets) == 1))
        ids = _hash_rows(for_ids, places, None if single else rows, _ID_CONTEXT, 16)
        names.ids.extend(ids)
        names.keys.extend(_hash_rows(for_keys, places, None if single else rows, context, 32))
        first_paths = [paths[place] for place in places] if single else _first_paths(paths, places, rows)
        names.sort_names.extend(f"{path} {id.hex()}" for path, id in zip(first_paths, ids, strict=True))
    return names


class _Encoder:
    """Encodes files of one leaf as fields."""

    def __init__(self, leaf: Leaf, matches: Matches) -> None:
        self._matches = matches
        self._empty_files = leaf.empty_files
        self._name = _field(leaf.name)
        self._origin = _field(leaf.project) + _field(leaf.repo) + _field(leaf.branch) + self._name
        self._joins = [_field(value) for value in join_values(leaf, matches)] if leaf.join_on else None
        self._groups = [_field(value) for value in group_values(leaf, matches)] if leaf.group_by else None

    def encode(self, positions: Sequence[int]) -> tuple[list[bytes], list[bytes], list[str]]:
        """The fields for the id, those for the key, and the path of each match."""
        matches = self._matches
        paths = [matches.paths[position] for position in positions]
        fields = [_field(path) for path in paths]
        name, origin = self._name, self._origin
        for_ids = [origin + field for field in fields]
        for_keys = [
            name + field + matches.digests[position] + tail
            for field, position, tail in zip(fields, positions, self._tails(positions), strict=True)
        ]
        return for_ids, for_keys, paths

    def _tails(self, positions: Sequence[int]) -> list[bytes]:
        """Flags, `join_on` and `group_by` of each match."""
        flags = (b"\1", b"\3") if self._empty_files else (b"\0", b"\2")
        directories, joins, groups = self._matches.directories, self._joins, self._groups
        if joins is None and groups is None:
            file, directory = (flag + _NOTHING + _NOTHING for flag in flags)
            return [directory if directories[position] else file for position in positions]
        return [
            flags[directories[position]]
            + (joins[position] if joins is not None else _NOTHING)
            + (groups[position] if groups is not None else _NOTHING)
            for position in positions
        ]


def _field(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded


_NOTHING = _field("")


def _offsets_of_leaves(matches: Sequence[Matches]) -> Integers:
    return np.cumsum([0, *(len(found.paths) for found in matches)])


def _encode(
    encoders: Sequence[_Encoder], used: Integers, starts: Integers
) -> tuple[list[bytes], list[bytes], list[str]]:
    """What `_Encoder.encode` gives for each file of `used`, a sorted list of positions over all leaves."""
    for_ids: list[bytes] = []
    for_keys: list[bytes] = []
    paths: list[str] = []
    bounds = np.searchsorted(used, starts)
    for index, encoder in enumerate(encoders):
        positions = (used[bounds[index] : bounds[index + 1]] - starts[index]).tolist()
        encoded = encoder.encode(positions)
        for_ids += encoded[0]
        for_keys += encoded[1]
        paths += encoded[2]
    return for_ids, for_keys, paths


def _first_paths(paths: list[str], places: list[int], rows: list[int]) -> list[str]:
    return [paths[places[start]] if start < end else "" for start, end in pairwise(rows)]


def _hash_rows(
    fields: list[bytes], places: list[int], rows: list[int] | None, context: bytes, size: int
) -> list[bytes]:
    """The hash of each datum: of the context and its files' fields. rows: offsets into `places`; None for
    one file each."""
    if rows is None:
        return [blake3(context + fields[place]).digest(length=size) for place in places]
    return [
        blake3(context + b"".join([fields[place] for place in places[start:end]])).digest(length=size)
        for start, end in pairwise(rows)
    ]
