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
from collections.abc import Iterator, Sequence
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
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Digest(blake3(_TRANSFORM_CONTEXT + text.encode("utf-8", "surrogatepass")).digest())


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
        ids = _hash_rows(for_ids, places, rows, _ID_CONTEXT, 16)
        names.ids.extend(ids)
        names.keys.extend(_hash_rows(for_keys, places, rows, context, 32))
        names.sort_names.extend(
            f"{paths[places[row]]} {id.hex()}" if row < len(places) else id.hex()
            for row, id in zip(rows, ids, strict=False)
        )
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

    def encode(self, positions: Sequence[int]) -> Iterator[tuple[bytes, bytes, str]]:
        """The fields for the id, those for the key, and the path of each match."""
        paths, digests, directories = self._matches.paths, self._matches.digests, self._matches.directories
        joins, groups = self._joins, self._groups
        origin, name, base = self._origin, self._name, 1 if self._empty_files else 0
        for position in positions:
            path = paths[position]
            field = _field(path)
            flags = b"\2\3"[base : base + 1] if directories[position] else b"\0\1"[base : base + 1]
            join = joins[position] if joins is not None else _NOTHING
            group = groups[position] if groups is not None else _NOTHING
            yield origin + field, b"".join((name, field, digests[position], flags, join, group)), path


def _field(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
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
        for for_id, for_key, path in encoder.encode(positions):
            for_ids.append(for_id)
            for_keys.append(for_key)
            paths.append(path)
    return for_ids, for_keys, paths


def _hash_rows(fields: list[bytes], places: list[int], rows: list[int], context: bytes, size: int) -> list[bytes]:
    """The hash of each datum: of the context and its files' fields."""
    if len(places) == len(rows) - 1 and rows == list(range(len(rows))):
        return [blake3(context + fields[place]).digest(length=size) for place in places]
    ends = iter(rows)
    start = next(ends)
    hashes: list[bytes] = []
    for end in ends:
        joined = b"".join([fields[place] for place in places[start:end]])
        hashes.append(blake3(context + joined).digest(length=size))
        start = end
    return hashes
