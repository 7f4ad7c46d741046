"""The version store against plain dictionaries, over any order of operations, with the home closed and opened between."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paddock.catalog.commits import WriteRow
from paddock.model.errors import Conflict, NotFound
from paddock.model.records import Change
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.tables import Tables
from paddock.storage.tree_kinds import TREE
from paddock.storage.trees import TreeRow, Trees, tree_table
from paddock.testing.objects import MemoryIndex, MemoryObjects
from paddock.versions.branches import BranchService
from paddock.versions.commits import CommitService
from paddock.versions.files import FileService
from paddock.versions.home import Home
from paddock.versions.open_commits import combine
from paddock.versions.repos import RepoService

Tree = dict[str, bytes]

PARTS = strategies.sampled_from(["a", "b0", "b", "é"])
PATHS = strategies.lists(PARTS, min_size=1, max_size=2).map(lambda parts: "/" + "/".join(parts))
DATA = strategies.binary(max_size=12)
BRANCHES = strategies.sampled_from(["main", "dev"])


def clashes(tree: Tree) -> bool:
    return any(other.startswith(path + "/") for path in tree for other in tree)


def at_or_below(tree: Tree, path: str) -> list[str]:
    stem = path.rstrip("/")
    return [name for name in tree if name == path or name.startswith(stem + "/")]


class VersionStore(RuleBasedStateMachine):
    """commits: {id: tree}; heads: {branch: [ids, oldest first]}; opened: {branch: (id, tree as written)}."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.commits: dict[str, Tree] = {}
        self.heads: dict[str, list[str]] = {}
        self.opened: dict[str, tuple[str, Tree]] = {}
        self.open_home()

    def open_home(self) -> None:
        self.home = Home.open(self.directory / "home", create=True)
        self.files = FileService(self.home)
        self.versions = CommitService(self.home)
        self.branches = BranchService(self.home)

    def teardown(self) -> None:
        self.home.close()
        shutil.rmtree(self.directory)

    @initialize()
    def begin(self) -> None:
        RepoService(self.home).create("r")

    # ---- the model -----------------------------------------------------------------------------------------

    def tree(self, branch: str) -> Tree:
        """What a write to the branch applies to."""
        if branch in self.opened:
            return self.opened[branch][1]
        return self.head(branch)

    def head(self, branch: str) -> Tree:
        ids = self.heads.get(branch)
        return self.commits[ids[-1]] if ids else {}

    def wrote(self, branch: str, commit: str | None, tree: Tree) -> None:
        assert commit is not None
        if branch in self.opened:
            assert commit == self.opened[branch][0]
            self.opened[branch] = (commit, tree)
        else:
            assert commit not in self.commits
            self.commits[commit] = tree
            self.heads.setdefault(branch, []).append(commit)

    def write(self, branch: str, tree: Tree, act: object) -> None:
        """Run a write whose result is `tree`; one that would clash is refused (at once on a branch) and changes nothing."""
        assert callable(act)
        if clashes(tree):
            try:
                act()
            except Conflict:
                return
            assert branch in self.opened, "a clash on a branch is refused"
            self.opened[branch] = (self.opened[branch][0], tree)
            return
        self.wrote(branch, act().commit, tree)

    # ---- writes --------------------------------------------------------------------------------------------

    @rule(branch=BRANCHES, path=PATHS, data=DATA)
    def put(self, branch: str, path: str, data: bytes) -> None:
        self.write(branch, self.tree(branch) | {path: data}, lambda: self.files.put(f"r@{branch}:{path}", data))

    @rule(branch=BRANCHES, path=PATHS, data=DATA)
    def append(self, branch: str, path: str, data: bytes) -> None:
        before = self.tree(branch)
        if clashes(before):
            return
        tree = before | {path: before.get(path, b"") + data}
        self.write(branch, tree, lambda: self.files.put(f"r@{branch}:{path}", data, append=True))

    @rule(branch=BRANCHES, path=PATHS, recursive=strategies.just(True))
    def delete(self, branch: str, path: str, recursive: bool) -> None:
        before = self.tree(branch)
        gone = at_or_below(before, path)
        tree = {name: data for name, data in before.items() if name not in gone}
        if clashes(before):
            self.write(branch, tree, lambda: self.files.delete(f"r@{branch}:{path}", recursive=recursive))
            return
        try:
            report = self.files.delete(f"r@{branch}:{path}", recursive=recursive)
        except NotFound:
            assert not gone
            return
        assert report.removed == len(gone) > 0
        self.wrote(branch, report.commit, tree)

    @rule(origin=BRANCHES, branch=BRANCHES, path=PATHS, to=PATHS)
    def copy(self, origin: str, branch: str, path: str, to: str) -> None:
        moved = {to + name[len(path) :]: self.head(origin)[name] for name in at_or_below(self.head(origin), path)}
        if moved:
            tree = self.tree(branch) | moved
            self.write(branch, tree, lambda: self.files.copy(f"r@{origin}:{path}", f"r@{branch}:{to}"))

    # ---- commits and branches ------------------------------------------------------------------------------

    @rule(branch=BRANCHES)
    def start(self, branch: str) -> None:
        if branch not in self.opened:
            self.opened[branch] = (self.versions.start(f"r@{branch}").id, self.head(branch))
            self.heads.setdefault(branch, [])

    @precondition(lambda self: self.opened)
    @rule(branch=BRANCHES)
    def finish(self, branch: str) -> None:
        if branch not in self.opened:
            return
        commit, tree = self.opened[branch]
        try:
            self.versions.finish(f"r@{branch}")
        except Conflict:
            assert clashes(tree)
            return
        assert not clashes(tree)
        del self.opened[branch]
        self.wrote(branch, commit, tree)

    @precondition(lambda self: self.opened)
    @rule(branch=BRANCHES)
    def abandon(self, branch: str) -> None:
        if branch in self.opened:
            self.versions.abandon(f"r@{self.opened.pop(branch)[0]}")

    @precondition(lambda self: self.commits)
    @rule(branch=BRANCHES, choice=strategies.integers(min_value=0))
    def move(self, branch: str, choice: int) -> None:
        if branch in self.opened:
            return
        other = next(name for name in ("main", "dev") if self.heads.get(name))
        back = choice % len(self.heads[other])
        self.branches.create(f"r@{branch}", head=f"{other}~{back}")
        self.heads[branch] = self.heads[other][: len(self.heads[other]) - back]

    @rule()
    def reopen(self) -> None:
        self.home.close()
        self.open_home()

    # ---- what must hold ------------------------------------------------------------------------------------

    def read(self, ref: str) -> Tree:
        infos = list(self.files.list(f"r@{ref}:/", recursive=True))
        assert [info.path for info in infos] == sorted((info.path for info in infos), key=lambda path: path.encode())
        return {info.path: b"".join(self.files.read(f"r@{ref}:{info.path}")) for info in infos}

    @invariant()
    def heads_hold_what_was_written(self) -> None:
        for branch, ids in self.heads.items():
            assert self.read(branch) == self.head(branch)
            assert [commit.id for commit in self.versions.list(f"r@{branch}")] == ids[::-1]

    # A rule and not an invariant: what was read is merged, and several writes must also be merged at once.
    @precondition(lambda self: self.opened)
    @rule()
    def open_commits_show_what_was_written(self) -> None:
        for commit, tree in self.opened.values():
            if not clashes(tree):
                assert self.read(commit) == tree

    @precondition(lambda self: self.commits)
    @rule(choice=strategies.integers(min_value=0))
    def old_commits_never_change(self, choice: int) -> None:
        commit = list(self.commits)[choice % len(self.commits)]
        assert self.read(commit) == self.commits[commit]
        equal = {
            self.versions.inspect(f"r@{other}").tree
            for other, tree in self.commits.items()
            if tree == self.commits[commit]
        }
        assert len(equal) == 1

    @precondition(lambda self: len(self.commits) > 1)
    @rule(choice=strategies.integers(min_value=0), other=strategies.integers(min_value=0))
    def differences_are_those_of_the_trees(self, choice: int, other: int) -> None:
        ids = list(self.commits)
        new, old = ids[choice % len(ids)], ids[other % len(ids)]
        after, before = self.commits[new], self.commits[old]
        expected = {}
        for path in after.keys() | before.keys():
            if path not in before:
                expected[path] = Change.ADDED
            elif path not in after:
                expected[path] = Change.REMOVED
            elif after[path] != before[path]:
                expected[path] = Change.CHANGED
        assert {item.path: item.change for item in self.files.diff(f"r@{new}", f"r@{old}")} == expected


TestVersionStore = VersionStore.TestCase
TestVersionStore.settings = settings(max_examples=25, stateful_step_count=25)


WRITES = strategies.lists(
    strategies.tuples(
        strategies.dictionaries(PATHS, DATA, max_size=3),
        strategies.lists(PATHS, max_size=2),
        strategies.lists(PATHS, max_size=1),
    ),
    max_size=5,
)


@given(base=strategies.dictionaries(PATHS, DATA, max_size=4), writes=WRITES)
@settings(max_examples=60)
def test_several_writes_merged_at_once_equal_one_after_the_other(
    base: Tree, writes: list[tuple[Tree, list[str], list[str]]]
) -> None:
    store = ChunkStore(MemoryObjects(), MemoryIndex())
    trees = Trees(Tables(store))
    expected = dict(base)
    rows = []
    for number, (files, paths, prefixes) in enumerate(writes):
        gone = {name for path in prefixes for name in at_or_below(expected, path)} | set(paths)
        expected = {name: data for name, data in expected.items() if name not in gone} | files
        with store.writer() as writer:
            root = trees.tables.write(TREE, tree_table(rows_of(files, writer)), writer)
            writer.flush()
        rows.append(WriteRow(number, root.hex(), tuple(paths), tuple(prefixes)))
    waiting = combine(trees, rows)
    with store.writer() as writer:
        start = trees.tables.write(TREE, tree_table(rows_of(base, writer)), writer)
        writer.flush()
        if clashes(base) or clashes(expected):
            return
        merged = trees.merge(start, waiting.files, waiting.deleted_paths, waiting.deleted_prefixes, writer)
        fresh = trees.tables.write(TREE, tree_table(rows_of(expected, writer)), writer)
    assert merged == fresh


def rows_of(tree: Tree, writer: ChunkWriter) -> Iterator[TreeRow]:
    for path, data in tree.items():
        file = writer.put_stream(io.BytesIO(data))
        yield TreeRow(path, b"", file.size, file.digest, False, file.chunks)
