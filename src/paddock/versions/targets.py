"""Where a write goes: a branch, or an open commit. No pyarrow here: a small put needs none."""

from __future__ import annotations

from paddock.catalog import branches, commits
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, check_name
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.ids import CommitId, Digest, new_id
from paddock.model.records import CommitOrigin, CommitState
from paddock.versions.commits import find_or_make_branch, finish_commit, open_commit
from paddock.versions.guards import refuse_user_write
from paddock.versions.home import Home
from paddock.versions.resolve import require_repo, resolve


@dataclass(frozen=True, slots=True)
class Target:
    repo: RepoRow
    branch: BranchRow | None
    """None: not there yet, or the ref names an open commit."""
    open: CommitRow | None
    head: CommitRow | None


def locate(tx: Transaction, address: Address, *, create_branch: bool) -> Target:
    """What an address names, for a writer. Raises what a write there would."""
    if address.ref.steps:
        raise InvalidInput(f"{address.repo}@{address.ref} is an old commit, which never changes; write to a branch")
    repo = require_repo(tx, address.repo)
    refuse_user_write(tx, repo, address.ref.name)
    branch = branches.find(tx, repo.id, address.ref.name)
    if branch is not None:
        opened = None if branch.open_id is None else commits.get(tx, branch.open_id)
        return Target(repo, branch, opened, None if branch.head_id is None else commits.get(tx, branch.head_id))
    try:
        commit = resolve(tx, address).commit
    except NotFound:
        if address.ref.commit_id is not None or not create_branch:
            raise
        check_name("branch", address.ref.name)
        return Target(repo, None, None, None)
    assert commit is not None, "a ref that is no branch is a commit"
    if commit.state != CommitState.OPEN or commit.origin != CommitOrigin.USER:
        raise Conflict(f"commit {commit} is {commit.state} and never changes again; write to a branch")
    return Target(repo, None, commit, None)


def commit_tree(
    home: Home, address: Address, target: Target, tree: Digest, *, files: int, size_bytes: int
) -> CommitId | None:
    """Make a durable tree the head of the branch, in one transaction. None: the branch has moved since it was located."""
    with home.catalog.write() as tx:
        now = locate(tx, address, create_branch=True)
        if _head_id(now) != _head_id(target) or now.open is not None:
            return None
        moment = home.now()
        branch = find_or_make_branch(tx, now.repo.id, address.ref.name, moment)
        commit = commits.get(tx, open_commit(tx, branch, set_id=new_id(), description="", now=moment))
        finish_commit(tx, commit, tree=tree.hex(), files=files, size_bytes=size_bytes, now=moment)
        return CommitId(commit.set_id)


def _head_id(target: Target) -> int | None:
    return None if target.branch is None else target.branch.head_id
