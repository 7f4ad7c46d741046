"""What each repo, branch and commit costs, alone and shared with others.

A thing's footprint is the set of chunks that its trees refer to: roots, segments, and the bytes of files. Footprints are
columns of 8 bytes a chunk; a segment is read once, whatever number of commits share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paddock.catalog import branches as branches_sql
from paddock.catalog import commits as commits_sql
from paddock.catalog import garbage as garbage_sql
from paddock.catalog import repos as repos_sql
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.garbage import RootRow
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, parse_address
from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.store_records import Usage, UsageReport
from paddock.runtime.marking import Marking, file_chunk_heads
from paddock.runtime.pack_census import chunk_pages
from paddock.storage.columnar import decode_segment
from paddock.storage.digest_set import DigestSet, Heads, heads, member_of, unique
from paddock.storage.tree_kinds import TREE
from paddock.versions.home import Home
from paddock.versions.resolve import require_repo, resolve_commit

_NONE: Heads = np.empty(0, dtype=np.uint64)


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
    """Footprints of trees, and the bytes of footprints."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._segments: dict[Digest, Heads] = {}
        pages = [(page.heads, page.stored) for page in chunk_pages(home)]
        self._heads = np.concatenate([_NONE, *(found for found, _ in pages)])
        self._stored = np.concatenate([np.empty(0, dtype=np.int64), *(stored for _, stored in pages)])

    def bytes(self, footprint: Heads) -> int:
        """Bytes stored of a footprint (sorted, unique)."""
        return int(self._stored[member_of(self._heads, footprint)].sum())

    def of_trees(self, trees: Iterable[str]) -> Heads:
        """The footprint of trees (hex roots)."""
        found = DigestSet()
        for text in dict.fromkeys(trees):
            if text:
                self._add_tree(Digest(bytes.fromhex(text)), found)
        return found.values()

    def of_results(self, roots: Iterable[RootRow]) -> Heads:
        marking = Marking(self._home)
        marking.add(roots)
        return marking.live.values()

    def _add_tree(self, root: Digest, found: DigestSet) -> None:
        segments = self._home.tables.root(TREE, root).segments
        if segments:
            found.add(heads(root))
        for segment in segments:
            known = self._segments.get(segment.digest)
            if known is None:
                table = decode_segment(TREE, self._home.chunks.read(segment.digest))
                known = unique(np.append(file_chunk_heads(table), heads(segment.digest)))
                self._segments[segment.digest] = known
            found.add(known)


def _of_home(costs: _Costs, facts: _Facts) -> list[Usage]:
    prints = {repo.id: costs.of_trees(commit.tree for commit in facts.commits[repo.id]) for repo in facts.repos}
    single = _singles(list(prints.values()))
    rows = []
    for repo in facts.repos:
        size, files = _heads_total(facts, repo)
        alone = prints[repo.id][member_of(prints[repo.id], single)]
        rows.append(Usage("repo", str(repo), files, size, costs.bytes(prints[repo.id]), costs.bytes(alone)))
    trees = _union(prints.values())
    results = costs.of_results(row for row in facts.roots if row.kind != "tree")
    alone = results[~member_of(results, trees)]
    rows.append(Usage("results", "kept results and logs", 0, 0, costs.bytes(results), costs.bytes(alone)))
    return rows


def _of_repo(costs: _Costs, facts: _Facts, repo: RepoRow, chosen: CommitRow | None) -> list[Usage]:
    mine = facts.commits[repo.id]
    ids = {str(commit) for commit in mine}
    elsewhere = [row.root for row in facts.roots if row.kind == "tree" and _holder(row) not in ids]
    outside = costs.of_trees(elsewhere)
    prints = {commit.id: costs.of_trees([commit.tree]) for commit in mine}
    single = _singles(list(prints.values()))
    commits = [
        _commit_usage(costs, commit, prints[commit.id], single, outside)
        for commit in mine
        if chosen is None or commit.id == chosen.id
    ]
    if chosen is not None:
        return commits
    whole = _union(prints.values())
    size, files = _heads_total(facts, repo)
    alone = costs.bytes(whole[~member_of(whole, outside)])
    rows = [Usage("repo", str(repo), files, size, costs.bytes(whole), alone)]
    history = _Repo({commit.id: commit for commit in mine}, facts.branches[repo.id])
    rows += [_branch_usage(costs, branch, history, prints, outside) for branch in history.branches]
    return rows + commits


def _holder(row: RootRow) -> str:
    return row.holder.removeprefix("open ").removeprefix("commit ")


def _commit_usage(costs: _Costs, commit: CommitRow, footprint: Heads, single: Heads, outside: Heads) -> Usage:
    alone = footprint[member_of(footprint, single) & ~member_of(footprint, outside)]
    return Usage("commit", str(commit), commit.files, commit.size_bytes, costs.bytes(footprint), costs.bytes(alone))


def _branch_usage(costs: _Costs, branch: BranchRow, repo: _Repo, prints: dict[int, Heads], outside: Heads) -> Usage:
    """A branch costs what its head and the head's ancestors refer to; alone what no commit of another branch, or of none, does."""
    chain = repo.chain(branch)
    elsewhere = {id for other in repo.branches if other.id != branch.id for id in repo.chain(other)}
    own = chain - elsewhere
    others = _union(prints[id] for id in repo.commits if id not in own)
    footprint = _union(prints[id] for id in chain)
    alone = footprint[~member_of(footprint, others) & ~member_of(footprint, outside)]
    head = None if branch.head_id is None else repo.commits.get(branch.head_id)
    files, size = (0, 0) if head is None else (head.files, head.size_bytes)
    return Usage("branch", str(branch), files, size, costs.bytes(footprint), costs.bytes(alone))


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


def _union(footprints: Iterable[Heads]) -> Heads:
    found = DigestSet()
    for footprint in footprints:
        found.add(footprint)
    return found.values()


def _singles(footprints: Sequence[Heads]) -> Heads:
    """Chunks that are in one footprint only."""
    if not footprints:
        return _NONE
    values, counts = np.unique(np.concatenate(footprints), return_counts=True)
    return np.asarray(values[counts == 1])
