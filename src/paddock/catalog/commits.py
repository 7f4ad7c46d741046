"""SQL of commits, their provenance and the writes of open ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class CommitRow:
    id: int
    repo_id: int
    project: str
    repo: str
    set_id: str
    branch: str
    state: str
    origin: str
    parent_id: int | None
    parent_set: str | None
    description: str
    error: str
    tree: str
    """Hex root; of an open commit the root with its first `merged` writes, or empty where none are merged
    yet.
    """
    merged: int
    """Open commits only: how many of its writes `tree` holds."""
    size_bytes: int
    files: int
    created: float
    finished: float | None

    def __str__(self) -> str:
        return f"{self.project}/{self.repo}@{self.set_id}"


@dataclass(frozen=True, slots=True)
class ProvenanceRow:
    """One input of a computed commit: the branch that was read, and its commit (None: it had none, an
    empty tree).
    """

    commit_id: int
    project: str
    repo: str
    branch: str
    upstream_id: int | None
    upstream_set: str | None


@dataclass(frozen=True, slots=True)
class WriteRow:
    """A file set written to an open commit: deletions first, then the files of the tree `files` (hex
    root).
    """

    id: int
    files: str
    deleted_paths: tuple[str, ...]
    deleted_prefixes: tuple[str, ...]


_COLUMNS = (
    "commits.id, commits.repo_id, projects.name, repos.name, commits.set_id, commits.branch, commits.state, "
    "commits.origin,"
    " commits.parent_id, parents.set_id, commits.description, commits.error, commits.tree, commits.merged,"
    " commits.size_bytes, commits.files, commits.created, commits.finished"
)
_JOINS = (
    " JOIN repos ON repos.id = commits.repo_id JOIN projects ON projects.id = repos.project_id"
    " LEFT JOIN commits parents ON parents.id = commits.parent_id"
)
_SELECT = f"SELECT {_COLUMNS} FROM commits{_JOINS}"


def insert(
    tx: Transaction,
    *,
    repo_id: int,
    set_id: str,
    branch: str,
    origin: str,
    parent_id: int | None,
    created: float,
    description: str = "",
) -> int:
    """A new open commit's id. A repo has at most one commit in a set."""
    return tx.insert(
        "INSERT INTO commits (repo_id, set_id, branch, state, origin, parent_id, description, error, tree, "
        "merged,"
        " size_bytes, files, created, finished) VALUES (?, ?, ?, 'open', ?, ?, ?, '', '', 0, 0, 0, ?, NULL) "
        "RETURNING id",
        (repo_id, set_id, branch, origin, parent_id, description, created),
    )


def finish(tx: Transaction, commit_id: int, *, tree: str, size_bytes: int, files: int, finished: float) -> None:
    tx.execute(
        "UPDATE commits SET state = 'finished', error = '', tree = ?, merged = 0, size_bytes = ?, files = ?, "
        "finished = ? WHERE id = ?",
        (tree, size_bytes, files, finished, commit_id),
    )


def fail(tx: Transaction, commit_id: int, *, error: str, finished: float) -> None:
    tx.execute(
        "UPDATE commits SET state = 'failed', error = ?, tree = '', size_bytes = 0, files = 0, finished = ? "
        "WHERE id = ?",
        (error, finished, commit_id),
    )


def set_parent(tx: Transaction, commit_id: int, parent_id: int | None) -> None:
    tx.execute("UPDATE commits SET parent_id = ? WHERE id = ?", (parent_id, commit_id))


def set_description(tx: Transaction, commit_id: int, description: str) -> None:
    tx.execute("UPDATE commits SET description = ? WHERE id = ?", (description, commit_id))


def find(tx: Transaction, repo_id: int, set_id: str) -> CommitRow | None:
    return _row(tx.one(f"{_SELECT} WHERE commits.repo_id = ? AND commits.set_id = ?", (repo_id, set_id)))


def find_by_prefix(tx: Transaction, repo_id: int, prefix: str) -> list[CommitRow]:
    """Commits of a repo whose id begins with some hex digits; at most three, which is enough to see that
    they aren't one.
    """
    rows: list[Any] = tx.all(
        f"{_SELECT} WHERE commits.repo_id = ? AND commits.set_id >= ? AND commits.set_id < ? ORDER BY "
        "commits.set_id LIMIT 3",
        (repo_id, prefix, prefix + "g"),
    )
    return [CommitRow(*row) for row in rows]


def sets_by_prefix(tx: Transaction, prefix: str) -> list[str]:
    """Ids of commit sets that begin with some hex digits; at most three."""
    rows = tx.all(
        "SELECT DISTINCT set_id FROM commits WHERE set_id >= ? AND set_id < ? ORDER BY set_id LIMIT 3",
        (prefix, prefix + "g"),
    )
    return [str(row[0]) for row in rows]


def get(tx: Transaction, commit_id: int) -> CommitRow:
    row = _row(tx.one(f"{_SELECT} WHERE commits.id = ?", (commit_id,)))
    assert row is not None, f"commit row {commit_id} exists"
    return row


def of_ids(tx: Transaction, commit_ids: Sequence[int]) -> list[CommitRow]:
    """Those that exist."""
    return [row for row in map(_row, tx.all_in(f"{_SELECT} WHERE commits.id IN ({{}})", commit_ids)) if row is not None]


def of_repo(tx: Transaction, repo_id: int, *, limit: int | None = None) -> list[CommitRow]:
    """Newest first."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE commits.repo_id = ? ORDER BY commits.id DESC{_limit(limit)}", (repo_id,))
    return [CommitRow(*row) for row in rows]


def of_set(tx: Transaction, set_id: str) -> list[CommitRow]:
    """In the order they were made, so that inputs come before what was computed from them."""
    rows: list[Any] = tx.all(f"{_SELECT} WHERE commits.set_id = ? ORDER BY commits.id", (set_id,))
    return [CommitRow(*row) for row in rows]


def sets(tx: Transaction, *, limit: int | None = None) -> list[str]:
    """Ids of commit sets, newest first."""
    rows = tx.all(f"SELECT set_id, min(id) FROM commits GROUP BY set_id ORDER BY min(id) DESC{_limit(limit)}")
    return [str(row[0]) for row in rows]


def ancestors(tx: Transaction, commit_id: int, *, limit: int | None = None) -> list[CommitRow]:
    """The commit, its parent, and so on to the root (or `limit` of them). One query."""
    rows: list[Any] = tx.all(
        "WITH RECURSIVE chain (id, parent_id, depth) AS ("
        " SELECT id, parent_id, 0 FROM commits WHERE id = ?"
        " UNION ALL SELECT commits.id, commits.parent_id, chain.depth + 1 FROM commits JOIN chain ON "
        "commits.id = chain.parent_id"
        f" WHERE ? < 0 OR chain.depth + 1 < ?) SELECT {_COLUMNS} FROM chain JOIN commits ON commits.id = "
        f"chain.id{_JOINS}"
        " ORDER BY chain.depth",
        (commit_id, -1 if limit is None else limit, 0 if limit is None else limit),
    )
    found = [CommitRow(*row) for row in rows]
    return found if limit is None else found[:limit]


def delete(tx: Transaction, commit_id: int) -> None:
    """Remove a commit that nothing refers to, with its writes and provenance."""
    tx.execute("DELETE FROM commit_writes WHERE commit_id = ?", (commit_id,))
    tx.execute("DELETE FROM commit_provenance WHERE commit_id = ?", (commit_id,))
    tx.execute("DELETE FROM commits WHERE id = ?", (commit_id,))


# ---- provenance --------------------------------------------------------------------------------------------

_SELECT_PROVENANCE = (
    "SELECT edges.commit_id, projects.name, repos.name, edges.branch, edges.upstream_id, upstream.set_id"
    " FROM commit_provenance edges JOIN repos ON repos.id = edges.repo_id JOIN projects ON projects.id = "
    "repos.project_id"
    " LEFT JOIN commits upstream ON upstream.id = edges.upstream_id"
)


def add_provenance(tx: Transaction, commit_id: int, inputs: Iterable[tuple[int, str, int | None]]) -> None:
    """Record the inputs of a commit, in order, as (repo id, branch name, commit id or None)."""
    tx.executemany(
        "INSERT INTO commit_provenance (commit_id, position, repo_id, branch, upstream_id) VALUES (?, ?, ?, ?, ?)",
        [(commit_id, position, *columns) for position, columns in enumerate(inputs)],
    )


def set_upstream(tx: Transaction, commit_id: int, old_upstream_id: int, new_upstream_id: int | None) -> None:
    """Let a commit that is still open read another commit of the same branch."""
    tx.execute(
        "UPDATE commit_provenance SET upstream_id = ? WHERE commit_id = ? AND upstream_id = ?",
        (new_upstream_id, commit_id, old_upstream_id),
    )


def provenance(tx: Transaction, commit_ids: Sequence[int]) -> list[ProvenanceRow]:
    """Direct provenance of many commits, by commit and then in the order of inputs."""
    rows: list[Any] = tx.all_in(
        _SELECT_PROVENANCE + " WHERE edges.commit_id IN ({}) ORDER BY edges.commit_id, edges.position",
        commit_ids,
    )
    return [ProvenanceRow(*row) for row in rows]


def computed_from(tx: Transaction, commit_id: int) -> list[CommitRow]:
    """Commits that have this one in their direct provenance, by id."""
    rows: list[Any] = tx.all(
        f"{_SELECT} WHERE commits.id IN (SELECT commit_id FROM commit_provenance WHERE upstream_id = ?) "
        "ORDER BY commits.id",
        (commit_id,),
    )
    return [CommitRow(*row) for row in rows]


def waiting_readers_of_repo(tx: Transaction, repo_id: int) -> list[CommitRow]:
    """Open commits of other repos that are to be computed from commits of this one, by id."""
    rows: list[Any] = tx.all(
        f"{_SELECT} WHERE commits.state = 'open' AND commits.repo_id <> ? AND commits.id IN"
        " (SELECT commit_id FROM commit_provenance WHERE repo_id = ?) ORDER BY commits.id",
        (repo_id, repo_id),
    )
    return [CommitRow(*row) for row in rows]


def read_by_set(tx: Transaction, set_id: str, repo_id: int) -> list[CommitRow]:
    """Commits of a repo that commits of a set were computed from, by id: what the set saw of that repo."""
    rows: list[Any] = tx.all(
        f"{_SELECT} WHERE commits.repo_id = ? AND commits.id IN (SELECT edges.upstream_id FROM "
        "commit_provenance edges"
        " JOIN commits readers ON readers.id = edges.commit_id WHERE readers.set_id = ?) ORDER BY commits.id",
        (repo_id, set_id),
    )
    return [CommitRow(*row) for row in rows]


# ---- writes of open commits --------------------------------------------------------------------------------


def add_write(
    tx: Transaction,
    commit_id: int,
    *,
    files: str,
    deleted_paths: Sequence[str],
    deleted_prefixes: Sequence[str],
    created: float,
) -> int:
    """Append a file set to an open commit; its id. Costs O(1) whatever was written before."""
    return tx.insert(
        "INSERT INTO commit_writes (commit_id, files, deleted_paths, deleted_prefixes, created)"
        " VALUES (?, ?, ?, ?, ?) RETURNING id",
        (commit_id, files, json.dumps(list(deleted_paths)), json.dumps(list(deleted_prefixes)), created),
    )


def writes(tx: Transaction, commit_id: int, *, skip: int = 0) -> list[WriteRow]:
    """The writes of an open commit in order, without the first `skip` ones."""
    rows: list[Any] = tx.all(
        "SELECT id, files, deleted_paths, deleted_prefixes FROM commit_writes WHERE commit_id = ? ORDER BY id",
        (commit_id,),
    )
    return [
        WriteRow(id, files, tuple(json.loads(paths)), tuple(json.loads(prefixes)))
        for id, files, paths, prefixes in rows[skip:]
    ]


def count_writes(tx: Transaction, commit_id: int) -> int:
    row: Any = tx.one("SELECT count(*) FROM commit_writes WHERE commit_id = ?", (commit_id,))
    return int(row[0])


def move_onto(tx: Transaction, commit_id: int, parent_id: int | None) -> None:
    """Let an open commit apply to another parent: what was merged over the old one is forgotten."""
    tx.execute("UPDATE commits SET parent_id = ?, tree = '', merged = 0 WHERE id = ?", (parent_id, commit_id))


def set_merged(tx: Transaction, commit_id: int, *, tree: str, merged: int) -> None:
    """Remember the tree of an open commit with its first `merged` writes; ignored where more are merged
    already.
    """
    tx.execute(
        "UPDATE commits SET tree = ?, merged = ? WHERE id = ? AND state = 'open' AND merged < ?",
        (tree, merged, commit_id, merged),
    )


def delete_writes(tx: Transaction, commit_id: int) -> None:
    tx.execute("DELETE FROM commit_writes WHERE commit_id = ?", (commit_id,))


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"


def _row(row: Any) -> CommitRow | None:
    return None if row is None else CommitRow(*row)
