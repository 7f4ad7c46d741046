"""SQL of branches and their provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog import tags
from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass
from paddock.model.errors import AlreadyExists


@dataclass(frozen=True, slots=True)
class BranchRow:
    id: int
    repo_id: int
    project: str
    repo: str
    name: str
    head_id: int | None
    """Newest good finished commit."""
    tip_id: int | None
    """Newest commit made, finished or not."""
    open_id: int | None
    """The user's open commit."""
    head_set: str | None
    open_set: str | None
    created: float

    def __str__(self) -> str:
        return f"{self.project}/{self.repo}@{self.name}"


_SELECT = (
    "SELECT branches.id, branches.repo_id, projects.name, repos.name, branches.name, branches.head_id, "
    "branches.tip_id,"
    " branches.open_id, heads.set_id, opens.set_id, branches.created"
    " FROM branches JOIN repos ON repos.id = branches.repo_id JOIN projects ON projects.id = repos.project_id"
    " LEFT JOIN commits heads ON heads.id = branches.head_id LEFT JOIN commits opens ON opens.id = "
    "branches.open_id"
)


def insert(tx: Transaction, repo_id: int, name: str, created: float, *, head_id: int | None = None) -> int:
    """The new branch's id; its tip is its head. The caller has checked that no branch has the name; AlreadyExists: a tag has."""
    tag = tags.find(tx, repo_id, name)
    if tag is not None:
        raise AlreadyExists(
            f"branch {name} can't be made: {tag} is a tag; choose another name, or delete the tag first"
        )
    return tx.insert(
        "INSERT INTO branches (repo_id, name, head_id, tip_id, open_id, created) VALUES (?, ?, ?, ?, NULL, "
        "?) RETURNING id",
        (repo_id, name, head_id, head_id, created),
    )


def find(tx: Transaction, repo_id: int, name: str) -> BranchRow | None:
    return _row(tx.one(f"{_SELECT} WHERE branches.repo_id = ? AND branches.name = ?", (repo_id, name)))


def get(tx: Transaction, branch_id: int) -> BranchRow:
    row = _row(tx.one(f"{_SELECT} WHERE branches.id = ?", (branch_id,)))
    assert row is not None, f"branch row {branch_id} exists"
    return row


def of_repo(tx: Transaction, repo_id: int) -> list[BranchRow]:
    """By name."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE branches.repo_id = ? ORDER BY branches.name", (repo_id,))
    return [BranchRow(*row) for row in rows]


def set_head(tx: Transaction, branch_id: int, commit_id: int | None) -> None:
    tx.execute("UPDATE branches SET head_id = ? WHERE id = ?", (commit_id, branch_id))


def set_tip(tx: Transaction, branch_id: int, commit_id: int | None) -> None:
    tx.execute("UPDATE branches SET tip_id = ? WHERE id = ?", (commit_id, branch_id))


def set_open(tx: Transaction, branch_id: int, commit_id: int | None) -> None:
    tx.execute("UPDATE branches SET open_id = ? WHERE id = ?", (commit_id, branch_id))


def delete(tx: Transaction, branch_id: int) -> None:
    tx.execute("DELETE FROM branch_provenance WHERE branch_id = ?", (branch_id,))
    tx.execute("DELETE FROM branches WHERE id = ?", (branch_id,))


def set_provenance(tx: Transaction, branch_id: int, upstream_ids: Sequence[int]) -> None:
    """Replace the direct provenance, in the order given."""
    tx.execute("DELETE FROM branch_provenance WHERE branch_id = ?", (branch_id,))
    tx.executemany(
        "INSERT INTO branch_provenance (branch_id, position, upstream_id) VALUES (?, ?, ?)",
        [(branch_id, position, upstream) for position, upstream in enumerate(dict.fromkeys(upstream_ids))],
    )


def provenance(tx: Transaction, branch_id: int) -> list[BranchRow]:
    """Direct provenance, in order."""
    rows: list[Any] = tx.all(
        f"{_SELECT} JOIN branch_provenance edges ON edges.upstream_id = branches.id"
        " WHERE edges.branch_id = ? ORDER BY edges.position",
        (branch_id,),
    )
    return [BranchRow(*row) for row in rows]


def readers(tx: Transaction, branch_id: int) -> list[BranchRow]:
    """Branches that have this one in their direct provenance, by id."""
    rows: list[Any] = tx.all(
        f"{_SELECT} JOIN branch_provenance edges ON edges.branch_id = branches.id"
        " WHERE edges.upstream_id = ? ORDER BY branches.id",
        (branch_id,),
    )
    return [BranchRow(*row) for row in rows]


def readers_of_repo(tx: Transaction, repo_id: int) -> list[BranchRow]:
    """Branches of other repos that have a branch of this repo in their direct provenance, by id."""
    rows: list[Any] = tx.all(
        f"{_SELECT} WHERE branches.repo_id <> ? AND branches.id IN (SELECT edges.branch_id FROM "
        "branch_provenance edges"
        " JOIN branches upstream ON upstream.id = edges.upstream_id WHERE upstream.repo_id = ?) ORDER BY "
        "branches.id",
        (repo_id, repo_id),
    )
    return [BranchRow(*row) for row in rows]


def edges(tx: Transaction) -> list[tuple[int, int]]:
    """All direct provenance, as (branch id, upstream branch id)."""
    rows: list[Any] = tx.all("SELECT branch_id, upstream_id FROM branch_provenance ORDER BY branch_id, position")
    return [(branch, upstream) for branch, upstream in rows]


def _row(row: Any) -> BranchRow | None:
    return None if row is None else BranchRow(*row)
