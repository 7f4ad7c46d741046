"""Small changes to a tree against the merge by columns: the same tree, byte for byte, or the decision is left to it."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import event, given
from hypothesis import strategies as st

from paddock.model.errors import Conflict
from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore
from paddock.storage.small_trees import SmallTrees
from paddock.storage.tables import Tables
from paddock.storage.tree_kinds import TREE, TreeRow
from paddock.storage.trees import Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects

BOUNDARY_BITS = 3
paths = st.lists(st.sampled_from(["a", "b", "c-", "d.x", "ä", "e"]), min_size=1, max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
contents = st.tuples(
    st.integers(0, 9),
    st.sampled_from([b"", b"d" * 16]),
    st.booleans(),
    st.lists(st.binary(min_size=32, max_size=32), max_size=2),
)
trees_of_rows = st.dictionaries(paths, contents, max_size=60)


def row(path: str, content: tuple[int, bytes, bool, list[bytes]]) -> TreeRow:
    size, datum, executable, chunks = content
    digest = Digest(blake3(f"{path} {size}".encode()).digest())
    return TreeRow(path, datum, size, digest, executable, tuple(Digest(chunk) for chunk in chunks))


def without_clashes(rows: dict[str, tuple[int, bytes, bool, list[bytes]]]) -> list[TreeRow]:
    files = [path for path in sorted(rows) if not any(other.startswith(f"{path}/") for other in rows)]
    return [row(path, rows[path]) for path in files]


@given(trees_of_rows, st.dictionaries(paths, contents, max_size=4), st.lists(paths, max_size=3, unique=True))
def test_a_small_merge_is_the_merge(
    start: dict[str, tuple[int, bytes, bool, list[bytes]]],
    changes: dict[str, tuple[int, bytes, bool, list[bytes]]],
    removed: list[str],
) -> None:
    store = ChunkStore(MemoryObjects(), MemoryIndex())
    tables = Tables(store, boundary_bits=BOUNDARY_BITS)
    trees, small = Trees(tables), SmallTrees(store, boundary_bits=BOUNDARY_BITS)
    upserts, present = without_clashes(changes), without_clashes(start)
    deletions = [path for path in removed if path not in changes]
    with store.writer() as writer:
        root = tables.write(TREE, tree_table(present), writer)
        writer.flush()
        found = small.merge(root, upserts, deletions, writer)
        writer.flush()
    try:
        with store.writer() as writer:
            expected = trees.merge(root, tree_table(upserts), deletions, (), writer)
            writer.flush()
    except Conflict:
        assert found is None
        return
    event("decided" if found is not None else "left to the columns")
    assert found in (None, expected)
    if found is not None and found != tables.empty(TREE):
        assert [each for table in tables.scan(TREE, found) for each in table.to_pylist()] == [
            each for table in tables.scan(TREE, expected) for each in table.to_pylist()
        ]
        assert small.root(found) == tables.root(TREE, expected)


@given(trees_of_rows, paths)
def test_small_reads_are_the_reads_by_columns(
    start: dict[str, tuple[int, bytes, bool, list[bytes]]], path: str
) -> None:
    store = ChunkStore(MemoryObjects(), MemoryIndex())
    tables = Tables(store, boundary_bits=BOUNDARY_BITS)
    trees, small = Trees(tables), SmallTrees(store, boundary_bits=BOUNDARY_BITS)
    present = without_clashes(start)
    with store.writer() as writer:
        root = tables.write(TREE, tree_table(present), writer)
        writer.flush()

    for directory in ("/", path):
        stem = "/" if directory == "/" else f"{directory}/"
        inside = [each.path for each in present if each.path.startswith(stem) and "/" not in each.path[len(stem) :]]
        assert [each for each, _, _ in small.files_in(root, directory)] == inside
    for each in [path, *(found.path for found in present)]:
        assert small.row(root, each) == trees.row(root, each)


def test_a_cut_in_a_small_tree_is_left_to_the_columns() -> None:
    """Both outcomes occur, or the property above would hold of nothing."""
    store = ChunkStore(MemoryObjects(), MemoryIndex())
    tables = Tables(store, boundary_bits=BOUNDARY_BITS)
    small = SmallTrees(store, boundary_bits=BOUNDARY_BITS)
    content = (1, b"", False, [])
    with store.writer() as writer:
        root = tables.write(TREE, tree_table([row(f"/f{number:02d}", content) for number in range(40)]), writer)
        writer.flush()
        left = [small.merge(root, [row(f"/g{number:02d}", content)], [], writer) is None for number in range(40)]
        replaced = small.merge(root, [row("/f07", (2, b"", False, []))], ["/f08"], writer)

    assert 0 < sum(left) < 40
    assert replaced is not None
