"""SQL of pools: what they have, their tokens, and which server schedules."""

from __future__ import annotations

import json
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TokenRow:
    id: int
    pool: str
    description: str
    created: float


@dataclass(frozen=True, slots=True)
class PoolRow:
    """As migration 8 describes it. pipelines: `project/name` of each."""

    name: str
    engine: str
    pipelines: tuple[str, ...]
    waiting: int
    started: int
    idle: int
    busy: int
    reason: str
    seen: float


_SELECT_POOL = "SELECT name, engine, pipelines, waiting, started, idle, busy, reason, seen FROM pools"
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


def delete_tokens_of(tx: Transaction, pool: str) -> None:
    tx.execute("DELETE FROM pool_tokens WHERE pool = ?", (pool,))


def permit_secret(tx: Transaction) -> str | None:
    """The key of permits, in hex, once a server has made it."""
    row: Any = tx.one("SELECT secret FROM permit_secret WHERE id = 1")
    return None if row is None else str(row[0])


def set_permit_secret(tx: Transaction, secret: str, *, created: float) -> None:
    tx.execute("INSERT INTO permit_secret (id, secret, created) VALUES (1, ?, ?)", (secret, created))


def pools(tx: Transaction) -> list[PoolRow]:
    """By name."""
    rows: list[Any] = tx.all(f"{_SELECT_POOL} ORDER BY name")
    return [PoolRow(row[0], row[1], tuple(json.loads(row[2])), *row[3:]) for row in rows]


def put_pool(tx: Transaction, row: PoolRow) -> None:
    delete_pool(tx, row.name)
    tx.execute(
        "INSERT INTO pools (name, engine, pipelines, waiting, started, idle, busy, reason, seen)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.name,
            row.engine,
            json.dumps(row.pipelines),
            row.waiting,
            row.started,
            row.idle,
            row.busy,
            row.reason,
            row.seen,
        ),
    )


def delete_pool(tx: Transaction, name: str) -> None:
    tx.execute("DELETE FROM pools WHERE name = ?", (name,))


def reasons(tx: Transaction) -> dict[str, str]:
    """{`project/name` of a pipeline: why members of its pool can't start}, where there is a reason."""
    rows: list[Any] = tx.all("SELECT pipelines, reason FROM pools WHERE reason <> '' ORDER BY name")
    return {pipeline: row[1] for row in rows for pipeline in json.loads(row[0])}


def begin_scheduling(tx: Transaction, url: str, *, since: float) -> None:
    """Note who schedules from now on. As a write it also waits for whatever the last one had begun to write."""
    tx.execute("UPDATE scheduler SET epoch = epoch + 1, url = ?, since = ? WHERE id = 1", (url, since))


def scheduler_url(tx: Transaction) -> str:
    """Of the server that schedules, or did last; empty where it can't be reached."""
    row: Any = tx.one("SELECT url FROM scheduler WHERE id = 1")
    return str(row[0])


def note_server(tx: Transaction, url: str, *, seen: float) -> None:
    tx.execute(
        "INSERT INTO servers (url, seen) VALUES (?, ?) ON CONFLICT (url) DO UPDATE SET seen = excluded.seen",
        (url, seen),
    )


def forget_server(tx: Transaction, url: str) -> None:
    tx.execute("DELETE FROM servers WHERE url = ?", (url,))


def servers(tx: Transaction, *, since: float) -> list[str]:
    """Of the servers seen since then, the last seen first."""
    rows: list[Any] = tx.all("SELECT url FROM servers WHERE seen >= ? ORDER BY seen DESC", (since,))
    return [str(url) for (url,) in rows]
