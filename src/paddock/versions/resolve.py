"""Names to rows: projects, repos, branches, and refs with ancestry. Every miss says what would have been
right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from paddock.catalog import branches, commits, projects, repos, tags
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.catalog.projects import ProjectRow
from paddock.catalog.repos import RepoRow
from paddock.model.addresses import Address, Ref, RepoAddress, Step
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from paddock.model.records import DEFAULT_PROJECT, CommitOrigin, CommitState

ID_PREFIX_MIN = 8
_ID_PREFIX = re.compile(r"[0-9a-f]{8,32}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a ref stands for. `commit` is None only for a branch that has no commit yet (an empty tree);
    `branch` is None where the ref named a commit."""

    repo: RepoRow
    branch: BranchRow | None
    commit: CommitRow | None

    def __str__(self) -> str:
        return str(self.commit or self.branch)


def require_project(tx: Transaction, name: str) -> ProjectRow:
    """NotFound says how to create it."""
    row = projects.find(tx, name)
    if row is None:
        hint = nearest(name, [project.name for project in projects.get_all(tx)])
        raise NotFound(f"project {name} does not exist{hint}; create it with `paddock project create {name}`")
    return row


def require_repo(tx: Transaction, address: RepoAddress) -> RepoRow:
    """NotFound says how to create it."""
    row = repos.find(tx, address.project, address.repo)
    if row is None:
        require_project(tx, address.project)
        hint = nearest(address.repo, repos.names(tx, address.project))
        raise NotFound(f"repo {address} does not exist{hint}; create it with `paddock repo create {short(address)}`")
    return row


def require_branch(tx: Transaction, repo: RepoRow, name: str) -> BranchRow:
    row = branches.find(tx, repo.id, name)
    if row is None:
        raise _no_branch(tx, repo, name)
    return row


def resolve(tx: Transaction, address: Address) -> Resolved:
    """The commit that a ref stands for: a branch's head, a tag's commit, or a commit by id (or a unique prefix of
    8 digits or more), then ancestry. NotFound names what is missing, and how far back the history goes.
    """
    repo = require_repo(tx, address.repo)
    branch = branches.find(tx, repo.id, address.ref.name)
    if branch is None:
        tag = tags.find(tx, repo.id, address.ref.name)
        commit: CommitRow | None = _by_id(tx, repo, address.ref) if tag is None else commits.get(tx, tag.commit_id)
    else:
        commit = None if branch.head_id is None else commits.get(tx, branch.head_id)
    if not address.ref.steps:
        return Resolved(repo, branch, commit)
    if commit is None:
        raise NotFound(f"branch {branch} has no commits yet, so {address.ref} does not exist; put data into it first")
    for step in address.ref.steps:
        commit = _walk(tx, commit, step, address)
    return Resolved(repo, None, commit)


def resolve_commit(tx: Transaction, address: Address) -> CommitRow:
    """Like `resolve`; a branch without commits is NotFound."""
    resolved = resolve(tx, address)
    if resolved.commit is None:
        raise NotFound(f"branch {resolved.branch} has no commits yet; put data into it first")
    return resolved.commit


def check_readable(tx: Transaction, commit: CommitRow) -> None:
    """Raise where a commit has no tree to read: it failed or was forgotten (Conflict), or its job is not done
    (Unavailable).
    """
    refuse_forgotten(tx, commit)
    if commit.state == CommitState.FAILED:
        raise Conflict(f"commit {commit} failed: {commit.error}; {_last_good(tx, commit)}")
    if commit.state == CommitState.OPEN and commit.origin == CommitOrigin.AUTO:
        raise Unavailable(f"commit {commit} is not computed yet: its job has not finished; {_last_good(tx, commit)}")


def refuse_forgotten(tx: Transaction, commit: CommitRow) -> None:
    if commit.state == CommitState.FORGOTTEN:
        raise Conflict(f"commit {commit} is forgotten: its files were given up; {_last_good(tx, commit)}")


def require_set(tx: Transaction, text: str) -> str:
    """The id of a commit set from its id or a unique prefix of at least 8 digits."""
    if not _ID_PREFIX.fullmatch(text):
        raise InvalidInput(
            f"{text!r} is not a commit set; name one by its id, or at least {ID_PREFIX_MIN} digits of it"
        )
    found = commits.sets_by_prefix(tx, text)
    if not found:
        raise NotFound(f"commit set {text} does not exist; `paddock commit list` shows the ids of a repo")
    if len(found) > 1:
        raise InvalidInput(f"commit set {text} is ambiguous ({', '.join(found)}); write more digits")
    return found[0]


def nearest(name: str, present: Sequence[str]) -> str:
    """` (did you mean X?)`, or nothing where no name is near."""
    found = difflib.get_close_matches(name, present, n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def short(address: RepoAddress) -> str:
    """As a user would type it: without the default project."""
    return address.repo if address.project == DEFAULT_PROJECT else str(address)


def _by_id(tx: Transaction, repo: RepoRow, ref: Ref) -> CommitRow:
    if not _ID_PREFIX.fullmatch(ref.name):
        raise _no_branch(tx, repo, ref.name)
    found = commits.find_by_prefix(tx, repo.id, ref.name)
    if len(found) > 1:
        ids = ", ".join(commit.set_id for commit in found)
        raise InvalidInput(f"commit {repo}@{ref.name} is ambiguous ({ids}); write more digits")
    if found:
        return found[0]
    if ref.commit_id is not None:
        # A set that did not change this repo still saw one commit of it.
        seen = commits.read_by_set(tx, ref.name, repo.id)
        if len(seen) == 1:
            return seen[0]
    raise NotFound(
        f"commit {repo}@{ref.name} does not exist; `paddock commit list {short_repo(repo)}` shows those that do"
    )


def short_repo(repo: RepoRow) -> str:
    return short(RepoAddress(repo.project, repo.name))


def _no_branch(tx: Transaction, repo: RepoRow, name: str) -> NotFound:
    present = [branch.name for branch in branches.of_repo(tx, repo.id)]
    known = f"it has {', '.join(present)}" if present else "it has no branches yet"
    return NotFound(f"branch {repo}@{name} does not exist{nearest(name, present)}; {known}")


def _walk(tx: Transaction, commit: CommitRow, step: Step, address: Address) -> CommitRow:
    if step.kind == "back":
        chain = commits.ancestors(tx, commit.id, limit=step.count + 1)
        if len(chain) > step.count:
            return chain[step.count]
    else:
        chain = commits.ancestors(tx, commit.id)
        if len(chain) >= step.count:
            return chain[-step.count]
    total = len(chain)
    raise NotFound(
        f"commit {address.repo}@{address.ref} does not exist: {commit} has {total} "
        f"commit{'' if total == 1 else 's'} "
        f"from the root to itself"
    )


def _last_good(tx: Transaction, commit: CommitRow) -> str:
    branch = branches.find(tx, commit.repo_id, commit.branch)
    if branch is None or branch.head_set is None:
        return f"branch {commit.project}/{commit.repo}@{commit.branch} has no good commit yet"
    return f"the last good commit of branch {branch} is {branch.head_set}"
