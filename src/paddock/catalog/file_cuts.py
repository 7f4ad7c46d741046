"""SQL of remembered cuts: per rule, the root of the table of files that it has cut."""

from __future__ import annotations

from typing import Any

from paddock.catalog.database import Transaction


def root(tx: Transaction, rule: str) -> str:
    """Hex root of the rule's table; empty where nothing is remembered."""
    row: Any = tx.one("SELECT root FROM file_cuts WHERE rule = ?", (rule,))
    return "" if row is None else str(row[0])


def replace(tx: Transaction, rule: str, *, old: str, new: str, now: float) -> bool:
    """Put another table in the place of `old` (empty: of none); False, and nothing is changed, where another one is there."""
    if root(tx, rule) != old:
        return False
    if old:
        tx.execute("UPDATE file_cuts SET root = ?, used = ? WHERE rule = ?", (new, now, rule))
    else:
        tx.execute("INSERT INTO file_cuts (rule, root, used) VALUES (?, ?, ?)", (rule, new, now))
    return True


def drop_unused(tx: Transaction, *, before: float) -> int:
    """Forget the cuts of rules that have cut nothing since a moment; how many rules."""
    return tx.execute("DELETE FROM file_cuts WHERE used < ?", (before,))
