"""Segments: the bytes that are stored for ever, and that both ways to make them agree."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.errors import Bug, Conflict, Corrupt
from paddock.storage.boundaries import MULTIPLIER, boundaries, key_hashes
from paddock.storage.columnar import (
    arrow_schema,
    conform,
    decode_segment,
    empty_table,
    encode_table,
    key_bytes,
    sort_by_key,
)
from paddock.storage.segments import (
    BINARY,
    FLOAT64,
    INT32,
    INT64,
    STRING,
    UINT8,
    Column,
    TableKind,
    encode_segment,
    fixed,
    list_of,
)
from paddock.storage.tree_kinds import TREE

EVERY = TableKind(
    "every",
    (
        Column("key", STRING),
        Column("blob", BINARY),
        Column("id", fixed(3)),
        Column("size", INT64),
        Column("number", INT32),
        Column("flag", UINT8),
        Column("seconds", FLOAT64),
        Column("names", list_of(STRING)),
        Column("sizes", list_of(INT64)),
        Column("leaves", list_of(INT32)),
        Column("digests", list_of(fixed(2))),
    ),
)
PAIR = TableKind("pair", (Column("key", STRING), Column("size", INT64)))

row = st.fixed_dictionaries(
    {
        "key": st.text(st.characters(exclude_categories=["Cs"])),
        "blob": st.binary(),
        "id": st.binary(min_size=3, max_size=3),
        "size": st.integers(-(2**63), 2**63 - 1),
        "number": st.integers(-(2**31), 2**31 - 1),
        "flag": st.integers(0, 255),
        "seconds": st.floats(allow_nan=False),
        "names": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4),
        "sizes": st.lists(st.integers(-9, 9), max_size=4),
        "leaves": st.lists(st.integers(-9, 9), max_size=4),
        "digests": st.lists(st.binary(min_size=2, max_size=2), max_size=4),
    }
)


def columns_of(rows: list[dict[str, Any]], kind: TableKind = EVERY) -> dict[str, list[Any]]:
    return {column.name: [row[column.name] for row in rows] for column in kind.columns}


def test_the_stored_layout_is_the_documented_one() -> None:
    schema = blake3(b"pair:key=string,size=int64").digest()[:16]
    assert encode_segment(PAIR, {"key": ["a", "bcd"], "size": [7, -1]}) == b"".join(
        (
            b"PDKSEG1\n",
            struct.pack("<II", 2, 3),
            schema,
            struct.pack("<QQQ", 12, 4, 16),
            struct.pack("<iii", 0, 1, 4) + bytes(4),
            b"abcd" + bytes(4),
            struct.pack("<qq", 7, -1),
        )
    )


def test_the_schema_of_trees_never_changes() -> None:
    assert TREE.schema_text == (
        "tree:path=string,datum=binary,size=int64,digest=fixed(32),executable=uint8,chunks=list<fixed(32)>"
    )


@given(st.lists(row, max_size=12), st.integers(0, 5), st.integers(0, 5))
def test_both_encoders_agree_and_decode_to_the_same_rows(rows: list[dict[str, Any]], before: int, after: int) -> None:
    data = encode_segment(EVERY, columns_of(rows))
    padding = [{**row, "key": "padding"} for row in rows[:1]]
    table = pa.Table.from_pylist(padding * before + rows + padding * after, schema=arrow_schema(EVERY))
    # A slice: buffers that start in the middle must come out as if they did not.
    sliced = table.slice(before if padding else 0, len(rows))
    assert encode_table(EVERY, sliced) == data
    decoded = decode_segment(EVERY, data)
    decoded.validate(full=True)
    assert decoded.to_pylist() == rows
    assert encode_table(EVERY, decoded) == data


def test_values_that_do_not_fit_are_bugs() -> None:
    for columns in (
        {"key": ["a"], "size": [1, 2]},
        {"key": ["a"], "size": ["x"]},
        {"key": ["a"], "size": [2**63]},
        {"key": [None], "size": [1]},
    ):
        with pytest.raises(Bug):
            encode_segment(PAIR, columns)
    ids = TableKind("ids", (Column("id", fixed(3)),))
    with pytest.raises(Bug, match="not 3 bytes long"):
        encode_segment(ids, {"id": [b"xx"]})
    with pytest.raises(Bug, match="null"):
        encode_table(PAIR, pa.table({"key": ["a"], "size": pa.array([None], pa.int64())}))
    with pytest.raises(Bug, match="pair"):
        conform(PAIR, pa.table({"key": ["a"]}))


def test_what_is_no_segment_of_the_kind_is_corrupt() -> None:
    data = encode_segment(PAIR, {"key": ["a"], "size": [1]})
    other = TableKind("other", PAIR.columns)
    for kind, damaged in (
        (PAIR, b""),
        (PAIR, data[:30]),
        (PAIR, data[:-1]),
        (PAIR, data + b"\0"),
        (PAIR, b"PDKSEG2\n" + data[8:]),
        (other, data),
    ):
        with pytest.raises(Corrupt):
            decode_segment(kind, damaged)


def test_rows_are_sorted_by_bytes_and_a_double_key_is_named() -> None:
    keys = ["/a/b", "/a-b", "/é", "/z", "/", "/a"]
    table = sort_by_key(PAIR, pa.table({"key": keys, "size": range(6)}, schema=arrow_schema(PAIR)))
    assert table.column("key").to_pylist() == sorted(keys, key=str.encode)
    with pytest.raises(Conflict, match="key /x occurs twice"):
        sort_by_key(PAIR, pa.table({"key": ["/x", "/a", "/x"], "size": [1, 2, 3]}, schema=arrow_schema(PAIR)))
    assert sort_by_key(PAIR, empty_table(PAIR)).num_rows == 0


# ---- boundaries --------------------------------------------------------------------------------------------


def reference_hash(key: bytes) -> int:
    """The hash as `boundaries` documents it, byte by byte."""
    mask = (1 << 64) - 1
    value = sum((byte + 1) * pow(MULTIPLIER, place, 1 << 64) for place, byte in enumerate(key)) & mask
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & mask
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & mask
    return value ^ value >> 33


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_key_hashes_are_the_documented_ones(keys: list[bytes]) -> None:
    offsets, data = key_bytes(pa.array(keys, pa.binary()))
    assert key_hashes(offsets, data).tolist() == [reference_hash(key) for key in keys]


def test_key_hashes_of_long_keys_and_many_blocks() -> None:
    keys = [bytes([n % 251]) * (n % 300) for n in range(2000)] + [b"x" * 100_000, b"", b"y" * 40_000]
    offsets, data = key_bytes(pa.array(keys, pa.binary()))
    hashes = key_hashes(offsets, data)
    for place in (0, 1, 299, 500, 1999, 2000, 2001, 2002):
        assert int(hashes[place]) == reference_hash(keys[place])


def test_fixed_keys_hash_like_others() -> None:
    keys = [bytes([n]) * 32 for n in range(50)]
    plain = key_hashes(*key_bytes(pa.array(keys, pa.binary())))
    narrow = key_hashes(*key_bytes(pa.array([b"zz" * 16, *keys], pa.binary(32))[1:]))
    assert np.array_equal(plain, narrow)


def test_one_key_in_16384_ends_a_segment() -> None:
    keys = pa.array([f"/data/file-{n:07d}.bin" for n in range(400_000)])
    count = len(boundaries(*key_bytes(keys)))
    assert 10 <= count <= 45, "24.4 are expected"
