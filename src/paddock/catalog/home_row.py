"""SQL of what a home on a catalog server is: its one row."""

from __future__ import annotations

from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class HomeRow:
    home_id: str
    format_version: int
    chunking: str
    """JSON."""
    storage: str
    claimed: bool
    """Whether the store bears the home's mark."""


def find(tx: Transaction) -> HomeRow | None:
    row: Any = tx.one("SELECT home_id, format_version, chunking, storage, claimed FROM home WHERE id = 1")
    return None if row is None else HomeRow(row[0], row[1], row[2], row[3], bool(row[4]))


def insert(tx: Transaction, row: HomeRow) -> None:
    tx.execute(
        "INSERT INTO home (id, home_id, format_version, chunking, storage, claimed) VALUES (1, ?, ?, ?, ?, ?)",
        (row.home_id, row.format_version, row.chunking, row.storage, int(row.claimed)),
    )


def set_claimed(tx: Transaction) -> None:
    tx.execute("UPDATE home SET claimed = 1 WHERE id = 1")
