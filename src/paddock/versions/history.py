"""Taking commits out of history: squash, drop and forget (design note 012). Each is one catalog transaction.

    squash   the commit goes, its children stay as they are: every commit holds its whole tree
    drop     the newest commit goes, and what its branch reads is the commit before
    forget   an output commit stays as a record, without its files

Nothing is removed that something else needs: the refusal names it. Bytes come free by garbage collection.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddock.catalog import branches, commits, history, jobs, tags
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.model.addresses import parse_address
from paddock.model.errors import Conflict, InvalidInput
from paddock.model.ids import new_id
from paddock.model.records import Commit, CommitOrigin, CommitState
from paddock.versions.home import Home
from paddock.versions.lineage import downstream
from paddock.versions.propagate import propagate
from paddock.versions.records import commit_records
from paddock.versions.resolve import require_set, resolve_commit


def squash(home: Home, target: str, *, recursive: bool = False) -> tuple[Commit, ...]:
    """See `model.services.Commits.squash`; the commits as they were."""
    with home.catalog.write() as tx:
        removed = _selected(tx, target, "squashed", recursive=recursive)
        ids = {commit.id for commit in removed}
        for commit in removed:
            _refuse_held(tx, commit, "squashed")
            _refuse_unsquashable(tx, commit, ids)
        records = commit_records(tx, removed)
        moved = _branches_at(tx, removed)
        for commit in removed:
            history.reparent(tx, commit.id, commits.get(tx, commit.id).parent_id)
        for branch in moved:
            branches.set_tip(tx, branch.id, _tip(tx, branch, branch.head_id, ids))
        history.remove(tx, [commit.id for commit in removed])
        return records


def drop(home: Home, target: str, *, recursive: bool = False) -> tuple[Commit, ...]:
    """See `model.services.Commits.drop`; the commits as they were."""
    with home.catalog.write() as tx:
        removed = _selected(tx, target, "dropped", recursive=recursive)
        ids = {commit.id for commit in removed}
        for commit in removed:
            _refuse_held(tx, commit, "dropped")
            child = next((child for child in history.children(tx, commit.id) if child.id not in ids), None)
            if child is not None:
                raise Conflict(
                    f"commit {commit} can't be dropped: commit {child} ({child.state}) has it as its parent; drop that first, or squash this one"
                )
        records = commit_records(tx, removed)
        moved = _branches_at(tx, removed)
        for branch in moved:
            _move_back(tx, branch, ids)
        history.remove(tx, [commit.id for commit in removed])
        if len({commit.set_id for commit in removed}) > 1:
            # Other sets were dropped with this one, and with them what they computed from inputs that stay.
            read = [branch.id for branch in moved if branch.head_id in ids]
            propagate(tx, read, set_id=new_id(), now=home.now())
        return records


def forget(home: Home, target: str) -> tuple[Commit, ...]:
    """See `model.services.Commits.forget`; the commits as they are now, without those that hold no files anyway."""
    with home.catalog.write() as tx:
        if "@" in target:
            chosen = [resolve_commit(tx, parse_address(target))]
        else:
            rows = commits.of_set(tx, require_set(tx, target))
            chosen = [row for row in rows if row.origin == CommitOrigin.AUTO and row.state != CommitState.FAILED]
        if not chosen:
            raise Conflict(f"commit set {target} has no output commit with files; only those can be forgotten")
        for commit in chosen:
            if commit.state != CommitState.FORGOTTEN:
                _refuse_unforgettable(tx, commit)
                history.forget(tx, commit.id)
        return commit_records(tx, [commits.get(tx, commit.id) for commit in chosen])


def _selected(tx: Transaction, target: str, verb: str, *, recursive: bool) -> list[CommitRow]:
    """The commits meant, by id: one (`repo@ref`), or a whole set (its id), and with `recursive` all computed from them."""
    if "@" in target:
        address = parse_address(target)
        if address.path is not None:
            raise InvalidInput(f"{target!r} names a file; write [project/]repo@branch-or-commit, without a path")
        chosen = [resolve_commit(tx, address)]
    else:
        chosen = commits.of_set(tx, require_set(tx, target))
    found = {commit.id: commit for commit in chosen}
    for commit in chosen:
        for reader in downstream(tx, commit.id):
            if reader.id not in found:
                if not recursive:
                    raise Conflict(
                        f"commit {commit} can't be {verb}: commit {reader} was computed from it; "
                        "take all that was computed from it along with --recursive"
                    )
                found[reader.id] = reader
    return sorted(found.values(), key=lambda commit: commit.id)


def _refuse_held(tx: Transaction, commit: CommitRow, verb: str) -> None:
    """Conflict where the commit is open, or a tag names it."""
    if commit.state == CommitState.OPEN:
        job = jobs.find_by_commit(tx, commit.id)
        advice = "finish or abandon it first" if job is None else f"wait for job {job}, or stop it, first"
        raise Conflict(f"commit {commit} can't be {verb}: it is open; {advice}")
    tag = next(iter(tags.of_commits(tx, [commit.id])), None)
    if tag is not None:
        raise Conflict(f"commit {commit} can't be {verb}: tag {tag} names it; delete the tag first")


def _refuse_unsquashable(tx: Transaction, commit: CommitRow, ids: set[int]) -> None:
    for child in history.children(tx, commit.id):
        if child.state == CommitState.OPEN:
            raise Conflict(f"commit {commit} can't be squashed until its child commit {child} is finished; wait for it")
    for branch in history.branches_at(tx, commit.id):
        if branch.head_id == commit.id:
            raise Conflict(f"commit {commit} can't be squashed: it is the head of branch {branch}; drop it instead")
    if commit.state != CommitState.FAILED and not _lives_on(tx, commit, ids):
        raise Conflict(f"commit {commit} can't be squashed: no later commit holds its files; drop it instead")


def _lives_on(tx: Transaction, commit: CommitRow, ids: set[int]) -> bool:
    """Whether a good descendant stays."""
    pending = [commit.id]
    while pending:
        for child in history.children(tx, pending.pop()):
            if child.id in ids:
                pending.append(child.id)
            elif child.state != CommitState.FAILED:
                return True
    return False


def _refuse_unforgettable(tx: Transaction, commit: CommitRow) -> None:
    _refuse_held(tx, commit, "forgotten")
    if commit.origin != CommitOrigin.AUTO:
        raise Conflict(f"commit {commit} can't be forgotten: a user made it, so nothing could compute it again")
    if commit.state == CommitState.FAILED:
        raise Conflict(f"commit {commit} can't be forgotten: it failed and holds no files; drop it instead")
    for branch in history.branches_at(tx, commit.id):
        raise Conflict(f"commit {commit} can't be forgotten: branch {branch} reads it; forget an older one")
    for child in history.children(tx, commit.id):
        if child.state == CommitState.OPEN:
            raise Conflict(f"commit {commit} can't be forgotten until its child commit {child} is finished")
    for reader in commits.computed_from(tx, commit.id):
        if reader.state == CommitState.OPEN:
            raise Conflict(f"commit {commit} can't be forgotten: commit {reader} is still to be computed from it")


def _branches_at(tx: Transaction, removed: Sequence[CommitRow]) -> list[BranchRow]:
    found = {branch.id: branch for commit in removed for branch in history.branches_at(tx, commit.id)}
    return list(found.values())


def _move_back(tx: Transaction, branch: BranchRow, ids: set[int]) -> None:
    """Let a branch read the newest good commit of its line that stays, or nothing."""
    head_id = branch.head_id
    if head_id in ids:
        line = commits.ancestors(tx, head_id) if head_id is not None else []
        kept = (row.id for row in line if row.id not in ids and row.state == CommitState.FINISHED)
        head_id = next(kept, None)
        branches.set_head(tx, branch.id, head_id)
    branches.set_tip(tx, branch.id, _tip(tx, branch, head_id, ids))


def _tip(tx: Transaction, branch: BranchRow, head_id: int | None, ids: set[int]) -> int | None:
    """The tip where the old one goes, perhaps: a job's commit that is newer than the head (running, or failed)."""
    if branch.tip_id is not None and branch.tip_id not in ids:
        return branch.tip_id
    newer = history.outputs_after(tx, branch.repo_id, branch.name, after_id=head_id or 0)
    return next((id for id in reversed(newer) if id not in ids), head_id)
