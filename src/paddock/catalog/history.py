"""SQL of taking commits out of history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog import branches, commits
from paddock.catalog.branches import BranchRow
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction


def children(tx: Transaction, commit_id: int) -> list[CommitRow]:
    """Commits whose parent this is, by id."""
    rows: list[Any] = tx.all("SELECT id FROM commits WHERE parent_id = ? ORDER BY id", (commit_id,))
    return [commits.get(tx, row[0]) for row in rows]


def branches_at(tx: Transaction, commit_id: int) -> list[BranchRow]:
    """Branches whose head or tip this is, by id."""
    rows: list[Any] = tx.all(
        "SELECT id FROM branches WHERE head_id = ? OR tip_id = ? ORDER BY id", (commit_id, commit_id)
    )
    return [branches.get(tx, row[0]) for row in rows]


def outputs_after(tx: Transaction, repo_id: int, branch: str, *, after_id: int) -> list[int]:
    """Ids of the jobs' commits on a branch that are newer than another one, oldest first."""
    rows: list[Any] = tx.all(
        "SELECT id FROM commits WHERE repo_id = ? AND branch = ? AND origin = 'auto' AND id > ? ORDER BY id",
        (repo_id, branch, after_id),
    )
    return [int(row[0]) for row in rows]


def reparent(tx: Transaction, old_parent_id: int, new_parent_id: int | None) -> None:
    """Let the children of a commit be another one's (or be roots)."""
    tx.execute("UPDATE commits SET parent_id = ? WHERE parent_id = ?", (new_parent_id, old_parent_id))


def forget(tx: Transaction, commit_id: int) -> None:
    """Give up the tree of a finished commit; its size and its number of files stay as a record."""
    tx.execute("UPDATE commits SET state = 'forgotten', tree = '' WHERE id = ?", (commit_id,))


def remove(tx: Transaction, commit_ids: Sequence[int]) -> None:
    """Remove commits with their jobs, provenance and writes. Nothing that stays may refer to them."""
    for commit_id in commit_ids:
        tx.execute("UPDATE commits SET parent_id = NULL WHERE id = ?", (commit_id,))
        for (job_id,) in tx.all("SELECT id FROM jobs WHERE commit_id = ?", (commit_id,)):
            tx.execute("DELETE FROM batches WHERE job_id = ?", (job_id,))
            tx.execute("UPDATE jobs SET base_id = NULL WHERE base_id = ?", (job_id,))
            tx.execute("UPDATE result_runs SET job_id = NULL WHERE job_id = ?", (job_id,))
            tx.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        tx.execute("DELETE FROM commit_provenance WHERE commit_id = ?", (commit_id,))
        tx.execute("DELETE FROM commit_writes WHERE commit_id = ?", (commit_id,))
    tx.executemany("DELETE FROM commits WHERE id = ?", [(commit_id,) for commit_id in commit_ids])
