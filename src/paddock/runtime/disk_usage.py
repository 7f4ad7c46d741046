"""What each repo, branch and commit costs, alone and shared with others.

A thing's footprint is the set of chunks that its trees refer to: roots, segments, and the bytes of files. It is told by the tables
(roots and segments) of its trees. A segment is read once, whatever number of commits share it; going from one commit to the next costs
the segments that differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from paddock.catalog import branches as branches_sql
from paddock.catalog import commits as commits_sql
from paddock.catalog import garbage as garbage_sql
from paddock.catalog import repos as repos_sql
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.garbage import RootRow
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, parse_address
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.store_records import Usage, UsageReport
from paddock.runtime.marking import Marking, file_chunk_heads
from paddock.runtime.pack_census import stored_bytes
from paddock.storage.columnar import decode_segment
from paddock.storage.digest_set import Heads, heads, member_of, unique
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home
from paddock.versions.resolve import require_repo, resolve_commit

Tables: TypeAlias = frozenset[bytes]
"""Digests of roots and segments."""
Places: TypeAlias = npt.NDArray[np.signedinteger[Any]]
_RESULTS = b"results"


def usage_of(home: Home, address: str | None = None) -> UsageReport:
    """Without an address a row for each repo, and one for kept results and logs; of a repo rows for itself, its branches and
    its commits (newest first); of `repo@ref` the one commit.

    Reads every segment of the trees concerned and the chunk index once. NotFound: no such repo or commit.
    """
    with home.pin():
        facts = _facts(home)
        costs = _Costs(home)
        rows = _of_home(costs, facts) if address is None else _of_repo(costs, facts, *_chosen(home, address))
    packs = [info.size for info in home.objects.list("packs/")]
    return UsageReport(tuple(rows), len(packs), sum(packs))


@dataclass(frozen=True, slots=True)
class _Facts:
    """The catalog at one moment."""

    repos: Sequence[RepoRow]
    commits: dict[int, Sequence[CommitRow]]
    """By repo id, newest first."""
    branches: dict[int, Sequence[BranchRow]]
    roots: Sequence[RootRow]


def _facts(home: Home) -> _Facts:
    with home.catalog.read() as tx:
        found = [repo for repo, _ in repos_sql.list_with_sizes(tx)]
        return _Facts(
            repos=found,
            commits={repo.id: commits_sql.of_repo(tx, repo.id) for repo in found},
            branches={repo.id: branches_sql.of_repo(tx, repo.id) for repo in found},
            roots=garbage_sql.roots(tx, released=False),
        )


def _chosen(home: Home, text: str) -> tuple[RepoRow, CommitRow | None]:
    address: Address = parse_address(text)
    if address.path is not None:
        raise InvalidInput(f"{text!r} names a file; write [project/]repo, or [project/]repo@branch-or-commit")
    with home.catalog.read() as tx:
        repo = require_repo(tx, address.repo)
        return repo, resolve_commit(tx, address) if "@" in text else None


class _Costs:
    """Bytes that sets of tables cost, each chunk once.

    One set is laid out at a time: how many of its tables name each chunk of the index. To go to another set costs the tables that
    differ. Takes 16 bytes a chunk of the index, and 4 a file of each segment.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._heads, self._stored = stored_bytes(home)
        self._named = np.zeros(len(self._heads), dtype=np.int32)
        self._places: dict[bytes, Places] = {}
        self._laid: Tables = frozenset()
        self._bytes = 0

    def tables_of(self, trees: Iterable[str]) -> Tables:
        """The tables of trees (hex roots): roots and segments."""
        found: set[bytes] = set()
        for text in dict.fromkeys(trees):
            root = Digest(bytes.fromhex(text))
            segments = self._home.tables.root(TREE, root).segments
            if segments and root not in self._places:
                self._places[root] = self._find(heads(root))
            found.update([root, *(segment.digest for segment in segments)] if segments else ())
        return frozenset(found)

    def results(self, roots: Iterable[RootRow]) -> Tables:
        """All that these roots refer to, as if it were named by one table."""
        marking = Marking(self._home)
        marking.add(roots)
        self._places[_RESULTS] = self._find(marking.live.values())
        return frozenset([_RESULTS])

    def bytes(self, tables: Tables) -> int:
        """Bytes stored of all that tables refer to, and of themselves."""
        self._read([Digest(each) for each in tables if each not in self._places])
        for gone in self._laid - tables:
            places = self._places[gone]
            self._named[places] -= 1
            self._bytes -= int(self._stored[places[self._named[places] == 0]].sum(dtype=np.int64))
        for come in tables - self._laid:
            places = self._places[come]
            self._bytes += int(self._stored[places[self._named[places] == 0]].sum(dtype=np.int64))
            self._named[places] += 1
        self._laid = tables
        return self._bytes

    def alone(self, some: Tables, others: Tables) -> int:
        """Bytes stored of what `some` refer to and `others` don't."""
        both = self.bytes(some | others)
        return both - self.bytes(others)

    def _read(self, segments: Sequence[Digest]) -> None:
        for digest, data in zip(segments, self._home.chunks.read_many(segments), strict=True):
            named = file_chunk_heads(decode_segment(TREE, data))
            self._places[digest] = self._find(unique(np.append(named, heads(digest))))

    def _find(self, some: Heads) -> Places:
        """Where in the index chunks are (sorted, each once); what it has not costs nothing."""
        places = np.searchsorted(self._heads, some)
        places = places[member_of(some, self._heads)]
        return places.astype(np.int32 if len(self._heads) < 1 << 31 else np.int64)


def _of_home(costs: _Costs, facts: _Facts) -> list[Usage]:
    tables = [costs.tables_of(commit.tree for commit in facts.commits[repo.id] if commit.tree) for repo in facts.repos]
    stored = [costs.bytes(each) for each in tables]
    every = _union(tables)
    single = _singles(tables)
    rows = []
    for repo, own, size_stored in zip(facts.repos, tables, stored, strict=True):
        size, files = _heads_total(facts, repo)
        rows.append(Usage("repo", str(repo), files, size, size_stored, costs.alone(own, every - (own & single))))
    results = costs.results(row for row in facts.roots if row.kind != "tree")
    rows.append(Usage("results", "kept results and logs", 0, 0, costs.bytes(results), costs.alone(results, every)))
    return rows


def _of_repo(costs: _Costs, facts: _Facts, repo: RepoRow, chosen: CommitRow | None) -> list[Usage]:
    mine = facts.commits[repo.id]
    ids = {str(commit) for commit in mine}
    outside = costs.tables_of(row.root for row in facts.roots if row.kind == "tree" and _holder(row) not in ids)
    tables = {commit.id: costs.tables_of([commit.tree] if commit.tree else []) for commit in mine}
    every = _union(tables.values()) | outside
    single = _singles(list(tables.values())) - outside
    wanted = [commit for commit in mine if chosen is None or commit.id == chosen.id]
    # In one order each, neighbours differ little.
    stored = [costs.bytes(tables[commit.id]) for commit in wanted]
    alone = [costs.alone(tables[commit.id], every - (tables[commit.id] & single)) for commit in wanted]
    commits = [
        Usage("commit", str(commit), commit.files, commit.size_bytes, each_stored, each_alone)
        for commit, each_stored, each_alone in zip(wanted, stored, alone, strict=True)
    ]
    if chosen is not None:
        return commits
    whole = _union(tables.values())
    size, files = _heads_total(facts, repo)
    rows = [Usage("repo", str(repo), files, size, costs.bytes(whole), costs.alone(whole, outside))]
    history = _Repo({commit.id: commit for commit in mine}, facts.branches[repo.id])
    rows += [_branch_usage(costs, branch, history, tables, outside) for branch in history.branches]
    return rows + commits


def _holder(row: RootRow) -> str:
    return row.holder.removeprefix("open ").removeprefix("commit ")


def _branch_usage(
    costs: _Costs, branch: BranchRow, repo: _Repo, tables: Mapping[int, Tables], outside: Tables
) -> Usage:
    """A branch costs what its head and the head's ancestors refer to; alone what no commit of another branch, or of none, does."""
    chain = repo.chain(branch)
    elsewhere = {id for other in repo.branches if other.id != branch.id for id in repo.chain(other)}
    own = chain - elsewhere
    others = _union(tables[id] for id in repo.commits if id not in own)
    footprint = _union(tables[id] for id in chain)
    head = None if branch.head_id is None else repo.commits.get(branch.head_id)
    files, size = (0, 0) if head is None else (head.files, head.size_bytes)
    stored = costs.bytes(footprint)
    return Usage("branch", str(branch), files, size, stored, costs.alone(footprint, others | outside))


@dataclass(frozen=True, slots=True)
class _Repo:
    commits: dict[int, CommitRow]
    branches: Sequence[BranchRow]

    def chain(self, branch: BranchRow) -> set[int]:
        """The branch's head and its ancestors."""
        found: set[int] = set()
        at = branch.head_id
        while at is not None and at in self.commits:
            found.add(at)
            at = self.commits[at].parent_id
        return found


def _heads_total(facts: _Facts, repo: RepoRow) -> tuple[int, int]:
    """Bytes and files of the heads of a repo's branches, each commit once."""
    heads_of_branches = {branch.head_id for branch in facts.branches[repo.id]}
    newest = [commit for commit in facts.commits[repo.id] if commit.id in heads_of_branches]
    return sum(commit.size_bytes for commit in newest), sum(commit.files for commit in newest)


def _union(some: Iterable[Tables]) -> Tables:
    return frozenset().union(*some)


def _singles(some: Iterable[Tables]) -> Tables:
    """Tables that are in one set only."""
    counted = Counter(table for each in some for table in each)
    return frozenset(table for table, count in counted.items() if count == 1)
