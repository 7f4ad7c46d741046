"""SQL of pools: their tokens, and which server schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paddock.catalog.database import Transaction


@dataclass(frozen=True, slots=True)
class TokenRow:
    id: int
    pool: str
    description: str
    created: float


_SELECT = "SELECT id, pool, description, created FROM pool_tokens"


def add_token(tx: Transaction, pool: str, digest: str, *, description: str, created: float) -> int:
    return tx.insert(
        "INSERT INTO pool_tokens (pool, digest, description, created) VALUES (?, ?, ?, ?) RETURNING id",
        (pool, digest, description, created),
    )


def token_of_digest(tx: Transaction, digest: str) -> TokenRow | None:
    row: Any = tx.one(f"{_SELECT} WHERE digest = ?", (digest,))
    return None if row is None else TokenRow(*row)


def token(tx: Transaction, id: int) -> TokenRow | None:
    row: Any = tx.one(f"{_SELECT} WHERE id = ?", (id,))
    return None if row is None else TokenRow(*row)


def tokens(tx: Transaction) -> list[TokenRow]:
    """By pool, then age."""
    rows: list[Any] = tx.all(f"{_SELECT} ORDER BY pool, id")
    return [TokenRow(*row) for row in rows]


def delete_token(tx: Transaction, id: int) -> None:
    tx.execute("DELETE FROM pool_tokens WHERE id = ?", (id,))


def begin_scheduling(tx: Transaction, url: str, *, since: float) -> None:
    """Note who schedules from now on. As a write it also waits for whatever the last one had begun to write."""
    tx.execute("UPDATE scheduler SET epoch = epoch + 1, url = ?, since = ? WHERE id = 1", (url, since))


def scheduler_url(tx: Transaction) -> str:
    """Of the server that schedules, or did last; empty where it can't be reached."""
    row: Any = tx.one("SELECT url FROM scheduler WHERE id = 1")
    return str(row[0])
