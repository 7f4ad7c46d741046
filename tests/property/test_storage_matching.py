"""Matching a tree by columns against matching every path one by one."""

from __future__ import annotations

import pyarrow as pa
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.globs import compile_glob
from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore
from paddock.storage.clashes import ancestors, clash_within
from paddock.storage.matching import Matches, match_tree
from paddock.storage.tables import Tables
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects

Row = tuple[str, bytes, int, bool, tuple[str, ...]]

PATTERNS = (
    "/", "/*", "/**", "/*/*", "/a", "/a/*", "/a/**", "/a*", "/*/b", "/(*)/(*)", "/**/b", "/{a,b}/*", "/a/b/*",
    "/(a|b)-*", "/[ab]*", "/?", "/*-*/**", "/z/*",
)  # fmt: skip

parts = st.sampled_from(["a", "b", "a-b", "c", "é"])
paths = st.lists(parts, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
files = st.sets(paths, max_size=25).filter(lambda found: clash_within(pa.array(sorted(found))) is None)


def rows(found: set[str]) -> list[TreeRow]:
    return [TreeRow(path, b"", len(path), Digest(blake3(path.encode()).digest()), len(path) % 2 == 0) for path in found]


def naive(trees: Trees, root: Digest, found: set[str], pattern: str) -> list[Row]:
    glob = compile_glob(pattern)
    everything = sorted(found | ancestors(found) | ({"/"} if found else set()))
    matches: list[Row] = []
    for path in everything:
        match = glob.match(path)
        info = trees.info(root, path)
        if match is not None:
            assert info is not None
            digest = bytes.fromhex(info.digest)
            matches.append((path, digest, info.size_bytes, path not in found, match.captures))
    return matches


def in_rows(matches: Matches) -> list[Row]:
    captures = zip(*matches.captures, strict=True) if matches.captures else [()] * len(matches)
    columns = matches.paths, matches.digests, matches.sizes.tolist(), matches.directories.tolist(), captures
    return list(zip(*columns, strict=True))


@given(files, st.sampled_from(PATTERNS), st.sampled_from([1, 3, 14]))
def test_matches_are_those_of_the_naive_way(found: set[str], pattern: str, boundary_bits: int) -> None:
    trees = Trees(Tables(ChunkStore(MemoryObjects(), MemoryIndex()), boundary_bits=boundary_bits))
    with trees.tables.store.writer() as writer:
        root = trees.merge(trees.empty(), tree_table(rows(found)), [], [], writer)
        writer.flush()
    assert in_rows(match_tree(trees, root, compile_glob(pattern))) == naive(trees, root, found, pattern)


@given(files, st.sampled_from([1, 14]))
def test_every_listing_agrees_with_the_paths(found: set[str], boundary_bits: int) -> None:
    trees = Trees(Tables(ChunkStore(MemoryObjects(), MemoryIndex()), boundary_bits=boundary_bits))
    with trees.tables.store.writer() as writer:
        root = trees.merge(trees.empty(), tree_table(rows(found)), [], [], writer)
        writer.flush()
    everything = found | ancestors(found)
    for directory in {"/"} | ancestors(found):
        stem = directory.rstrip("/") + "/"
        expected = sorted(path for path in everything if path.startswith(stem) and "/" not in path[len(stem) :])
        assert [info.path for info in trees.children(root, directory)] == expected
        assert [info.path for info in trees.walk(root, directory)] == sorted(p for p in found if p.startswith(stem))
        info = trees.info(root, directory)
        assert info is not None
        assert info.files == sum(path.startswith(stem) for path in found)
        assert bytes.fromhex(info.digest) == trees.directory_digest(root, directory)
