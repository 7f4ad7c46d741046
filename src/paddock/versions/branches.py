"""Branches: movable names for commits, with provenance. Implements `model.services.Branches`."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from paddock.catalog import branches, pipelines, repos
from paddock.catalog.branches import BranchRow
from paddock.catalog.database import Transaction
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, check_name, parse_address, parse_repo
from paddock.model.errors import AlreadyExists, Conflict, InvalidInput
from paddock.model.ids import new_id
from paddock.model.records import Branch, CommitState, RepoKind
from paddock.versions.guards import refuse_cycle, refuse_if_branch_needed
from paddock.versions.home import Home
from paddock.versions.propagate import propagate
from paddock.versions.records import branch_record
from paddock.versions.resolve import require_branch, require_project, require_repo, resolve_commit


class BranchService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def create(self, branch: str, *, head: str | None = None, provenance: Sequence[str] = ()) -> Branch:
        """Where it exists: `head` moves it (what reads it gets a new commit set), `provenance` replaces its
        provenance.

        head: `repo@ref` or a ref alone; a finished commit of the same repo. provenance: `repo@branch`, made
        where missing. AlreadyExists: it is there and neither was given. Conflict: a pipeline writes it, a
        commit is open on it, or a circle.
        """
        address = _branch_address(branch)
        with self._home.catalog.write() as tx:
            now = self._home.now()
            repo = require_repo(tx, address.repo)
            head_id = None if head is None else _head(tx, repo, head)
            row = branches.find(tx, repo.id, address.ref.name)
            if row is None:
                branches.insert(tx, repo.id, check_name("branch", address.ref.name), now)
                row = require_branch(tx, repo, address.ref.name)
            else:
                _check_movable(tx, row, given=head is not None or bool(provenance))
            if provenance:
                upstream = [require_or_make_branch(tx, text, now) for text in provenance]
                refuse_cycle(tx, row, upstream)
                branches.set_provenance(tx, row.id, [source.id for source in upstream])
            if head_id is not None and head_id != row.head_id:
                branches.set_head(tx, row.id, head_id)
                branches.set_tip(tx, row.id, head_id)
                propagate(tx, [row.id], set_id=new_id(), now=now)
            return branch_record(tx, branches.get(tx, row.id))

    def list(self, repo: str) -> builtins.list[Branch]:
        address = parse_repo(repo)
        with self._home.catalog.read() as tx:
            row = require_repo(tx, address)
            return [branch_record(tx, branch) for branch in branches.of_repo(tx, row.id)]

    def inspect(self, branch: str) -> Branch:
        address = _branch_address(branch)
        with self._home.catalog.read() as tx:
            repo = require_repo(tx, address.repo)
            return branch_record(tx, require_branch(tx, repo, address.ref.name))

    def delete(self, branch: str) -> None:
        address = _branch_address(branch)
        with self._home.catalog.write() as tx:
            repo = require_repo(tx, address.repo)
            row = require_branch(tx, repo, address.ref.name)
            refuse_if_branch_needed(tx, row)
            branches.delete(tx, row.id)


def require_or_make_branch(tx: Transaction, text: str, now: float) -> BranchRow:
    """The branch `repo[@branch]`, made without a head where it is missing. NotFound: the repo is missing."""
    address = _branch_address(text, default_ref="main")
    repo = require_repo(tx, address.repo)
    row = branches.find(tx, repo.id, address.ref.name)
    if row is not None:
        return row
    branches.insert(tx, repo.id, check_name("branch", address.ref.name), now)
    return require_branch(tx, repo, address.ref.name)


def output_repo(tx: Transaction, project: str, name: str, now: float) -> RepoRow:
    """A pipeline's output repo, made for it. Conflict: a repo of that name is there and is not a kept one
    of a pipeline.
    """
    project_row = require_project(tx, project)
    row = repos.find(tx, project, name)
    if row is None:
        return repos.get(tx, repos.insert(tx, project_row.id, name, RepoKind.PIPELINE, "", now))
    if row.kind != RepoKind.PIPELINE:
        raise Conflict(f"pipeline {project}/{name} can't be made: repo {row} exists already; rename one of them")
    return row


def _branch_address(text: str, *, default_ref: str | None = None) -> Address:
    address = parse_address(text, default_ref=default_ref)
    if address.path is not None or address.ref.steps:
        raise InvalidInput(f"{text!r} is not a branch; write [project/]repo@branch")
    return address


def _head(tx: Transaction, repo: RepoRow, text: str) -> int:
    own = f"{repo.project}/{repo.name}"
    address = parse_address(text if "@" in text else f"{own}@{text}", default_project=repo.project)
    if str(address.repo) != own:
        raise InvalidInput(f"head {text!r} is not in repo {own}; a branch and its head are in one repo")
    commit = resolve_commit(tx, address)
    if commit.state != CommitState.FINISHED:
        raise Conflict(f"commit {commit} is {commit.state}; a branch's head must be a good finished commit")
    return commit.id


def _check_movable(tx: Transaction, row: BranchRow, *, given: bool) -> None:
    if not given:
        raise AlreadyExists(f"branch {row} exists already; give a head to move it")
    pipeline = pipelines.find_by_branch(tx, row.id)
    if pipeline is not None:
        raise Conflict(f"branch {row} is the output of pipeline {pipeline}; only its jobs move it")
    if row.open_set is not None:
        raise Conflict(f"branch {row} has the open commit {row.open_set}; finish or abandon it first")
