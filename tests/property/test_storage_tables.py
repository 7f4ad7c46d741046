"""Tables against a dict: equal rows give equal roots whatever edits made them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.model.errors import Bug
from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore
from paddock.storage.columnar import arrow_schema
from paddock.storage.segments import INT64, STRING, Column, TableKind, fixed, list_of
from paddock.storage.tables import Tables
from paddock.testing.objects import MemoryIndex, MemoryObjects

KIND = TableKind("test", (Column("key", STRING), Column("size", INT64), Column("parts", list_of(fixed(2)))))
Rows = dict[str, tuple[int, tuple[bytes, ...]]]

keys = st.integers(0, 150).map(lambda number: f"/k{number:03d}")
parts = st.lists(st.sampled_from([b"aa", b"bb"]), max_size=2).map(tuple)
rows = st.dictionaries(keys, st.tuples(st.integers(0, 3), parts), max_size=120)
edits = st.lists(st.tuples(rows, st.lists(keys, max_size=60)), max_size=4)


def tables() -> Tables:
    # About four rows a segment: many cuts in few rows.
    return Tables(ChunkStore(MemoryObjects(), MemoryIndex()), boundary_bits=2)


def arrow(content: Rows) -> pa.Table:
    columns = {
        "key": list(content),
        "size": [size for size, _ in content.values()],
        "parts": [list(listed) for _, listed in content.values()],
    }
    return pa.table(columns, schema=arrow_schema(KIND))


def plain(tables_: list[pa.Table]) -> Rows:
    return {row["key"]: (row["size"], tuple(row["parts"])) for table in tables_ for row in table.to_pylist()}


def write(store: Tables, content: Rows) -> Digest:
    with store.store.writer() as writer:
        root = store.write(KIND, arrow(content), writer)
        writer.flush()
    return root


def merge(store: Tables, root: Digest, upserts: Rows, deletions: list[str]) -> Digest:
    with store.store.writer() as writer:
        root = store.merge(KIND, root, arrow(upserts), deletions, writer)
        writer.flush()
    return root


@given(rows, edits)
def test_a_merged_table_is_the_freshly_written_one(start: Rows, changes: list[tuple[Rows, list[str]]]) -> None:
    store = tables()
    content, root = dict(start), write(store, start)
    for upserts, deletions in changes:
        root = merge(store, root, upserts, deletions)
        for key in deletions:
            content.pop(key, None)
        content.update(upserts)
        assert root == write(store, dict(sorted(content.items())))
        assert plain(list(store.scan(KIND, root))) == content
    described = store.root(KIND, root)
    assert described.rows == len(content)
    assert described.weight == sum(size for size, _ in content.values())
    assert (root == store.empty(KIND)) == (not content)


@given(rows, rows, st.integers(1, 40))
def test_rows_that_come_in_pieces_make_the_same_table(start: Rows, upserts: Rows, step: int) -> None:
    store = tables()
    ordered = arrow(dict(sorted(upserts.items())))
    for before in ({}, start):
        root = write(store, before)
        pieces = (ordered.slice(first, step) for first in range(0, ordered.num_rows, step))
        with store.store.writer() as writer:
            found = store.merge_sorted(KIND, root, pieces, [], writer)
            writer.flush()
        assert found == merge(store, root, upserts, [])


@pytest.mark.parametrize("found", [["/b", "/a"], ["/a", "/a"]])
@pytest.mark.parametrize("step", [1, 2])
def test_pieces_out_of_order_are_a_bug(found: list[str], step: int) -> None:
    store = tables()
    columns = {"key": found, "size": [1, 1], "parts": [[], []]}
    table = pa.table(columns, schema=arrow_schema(KIND))
    pieces = (table.slice(first, step) for first in range(0, 2, step))
    with store.store.writer() as writer, pytest.raises(Bug, match="order"):
        store.merge_sorted(KIND, store.empty(KIND), pieces, [], writer)


@given(rows, st.randoms())
def test_the_order_of_edits_leaves_no_trace(content: Rows, random: object) -> None:
    store = tables()
    order = list(content)
    random.shuffle(order)  # type: ignore[attr-defined]
    root = store.empty(KIND)
    while order:
        count = random.randrange(1, 30)  # type: ignore[attr-defined]
        batch, order = order[:count], order[count:]
        stray = {f"/stray{number}": (1, ()) for number in range(count % 3)}
        root = merge(store, root, {key: content[key] for key in batch} | stray, [])
        root = merge(store, root, {}, list(stray))
    assert root == write(store, content)


@given(rows, rows, st.one_of(st.none(), keys), st.one_of(st.none(), keys))
def test_a_diff_is_the_difference(old: Rows, new: Rows, first: str | None, last: str | None) -> None:
    store = tables()
    pairs = list(store.diff(KIND, write(store, old), write(store, new), first, last))

    def within(content: Rows, other: Rows) -> Rows:
        return {
            key: value
            for key, value in content.items()
            if other.get(key) != value and (first is None or key >= first) and (last is None or key < last)
        }

    assert plain([before for before, _ in pairs]) == within(old, new)
    assert plain([after for _, after in pairs]) == within(new, old)
    for side in (0, 1):
        listed = [key for pair in pairs for key in pair[side].column("key").to_pylist()]
        assert listed == sorted(listed)


@given(rows, st.lists(keys, max_size=20), st.one_of(st.none(), keys), st.one_of(st.none(), keys))
def test_scans_and_lookups_find_just_the_rows(
    content: Rows, wanted: list[str], first: str | None, last: str | None
) -> None:
    store = tables()
    root = write(store, content)
    scanned = [key for table in store.scan(KIND, root, first, last) for key in table.column("key").to_pylist()]
    assert scanned == [
        key for key in sorted(content) if (first is None or key >= first) and (last is None or key < last)
    ]
    found = store.lookup(KIND, root, pa.array(wanted, pa.string()))
    assert plain([found]) == {key: content[key] for key in wanted if key in content}
    for key in wanted:
        row = store.get(KIND, root, key)
        assert (row is None) == (key not in content)
        assert row is None or (row["size"], tuple(row["parts"])) == content[key]


@settings(max_examples=20)
@given(rows, keys)
def test_one_change_writes_only_the_segments_around_it(content: Rows, key: str) -> None:
    store = tables()
    root = write(store, content)
    old = {segment.digest for segment in store.root(KIND, root).segments}
    changed = merge(store, root, {key: (9, ())}, [])
    new = [segment for segment in store.root(KIND, changed).segments if segment.digest not in old]
    assert len(new) <= 2


def test_a_real_table_of_many_segments_survives_a_reopen() -> None:
    objects, index = MemoryObjects(), MemoryIndex()
    content: Rows = {f"/dir{n % 97:02d}/file{n:06d}": (n, ()) for n in range(60_000)}
    store = Tables(ChunkStore(objects, index))
    root = write(store, content)
    reopened = Tables(ChunkStore(objects, index))
    assert len(reopened.root(KIND, root).segments) > 1
    changed = merge(reopened, root, {"/dir50/file000050": (1, (b"zz",))}, ["/dir00/file000000"])
    del content["/dir00/file000000"]
    content["/dir50/file000050"] = (1, (b"zz",))
    assert changed == write(store, content)
    pairs = list(reopened.diff(KIND, root, changed))
    before, after = plain([old for old, _ in pairs]), plain([new for _, new in pairs])
    assert before == {"/dir00/file000000": (0, ()), "/dir50/file000050": (50, ())}
    assert after == {"/dir50/file000050": (1, (b"zz",))}
