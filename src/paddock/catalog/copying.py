"""Copying a whole catalog into an empty one, of another database too: every row as it is, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from paddock.catalog.database import Catalog, Transaction

TABLES = (
    "store_state",
    "cache_policy",
    "projects",
    "repos",
    "commits",
    "commit_writes",
    "branches",
    "branch_provenance",
    "commit_provenance",
    "tags",
    "pipelines",
    "pipeline_versions",
    "jobs",
    "batches",
    "result_runs",
    "released_roots",
    "packs",
    "chunks",
    "file_cuts",
    "pool_tokens",
)
"""Each after those that it refers to. Not copied: `schema_versions`, `scheduler`, `home`, `pools`, `servers` and `permit_secret`, which are the place's own."""

PAGE_ROWS = 50_000


def copy_rows(source: Catalog, target: Transaction) -> int:
    """Copy all rows of the source, as of one moment, into the target's tables, whose rows are dropped before; how many.

    Both have the same schema version, so columns are in the same order. Costs some 20 µs a row. Of chunks, which may be many
    millions, a page at a time is held.
    """
    copied = 0
    with source.read() as tx:
        for table in reversed(TABLES):
            target.execute(f"DELETE FROM {table}")
        target.execute("DELETE FROM released_roots")
        for table in TABLES:
            for page in _pages(tx, table):
                marks = ", ".join("?" * len(page[0]))
                target.executemany(f"INSERT INTO {table} VALUES ({marks})", page)
                copied += len(page)
        target.restart_identities(TABLES)
    return copied


def _pages(tx: Transaction, table: str) -> Iterator[list[Any]]:
    if table != "chunks":
        rows: list[Any] = tx.all(f"SELECT * FROM {table}")
        yield from (rows[first : first + PAGE_ROWS] for first in range(0, len(rows), PAGE_ROWS))
        return
    after = b""
    while page := tx.all(f"SELECT * FROM chunks WHERE digest > ? ORDER BY digest LIMIT {PAGE_ROWS}", (after,)):
        yield page
        after = cast(bytes, page[-1][0])  # its key comes first
