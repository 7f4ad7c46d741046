"""SQL of garbage collection: the generation, every root that is in use, and packs on their way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass

PAGE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class RootRow:
    """A root that keeps chunks in use. kind: `tree`, `datums`, `cache`, `cut-files` (tables) or `batch` (a batch result)."""

    kind: str
    root: str
    """Hex digest."""
    holder: str
    """Who refers to it, for people."""


@dataclass(frozen=True, slots=True)
class PackRow:
    id: int
    name: str
    size_bytes: int
    chunks: int
    condemned: int
    """0: in use. Else the generation up to which writers may still count on its chunks."""


_COMMIT = (
    "projects.name || '/' || repos.name || '@' || commits.set_id FROM commits JOIN repos ON repos.id = commits.repo_id"
    " JOIN projects ON projects.id = repos.project_id"
)
_PIPELINE = "JOIN pipelines ON pipelines.id = {}.pipeline_id JOIN projects ON projects.id = pipelines.project_id"
_ROOTS = (
    f"SELECT 'tree', commits.tree, 'commit ' || {_COMMIT} WHERE commits.tree <> ''",
    "SELECT 'tree', commit_writes.files, 'open commit ' || "
    + _COMMIT.replace("FROM commits", "FROM commit_writes JOIN commits ON commits.id = commit_writes.commit_id"),
    (
        "SELECT 'tree', code, 'code of pipeline ' || projects.name || '/' || pipelines.name || ' version '"
        f" || pipeline_versions.version FROM pipeline_versions {_PIPELINE.format('pipeline_versions')} WHERE code <> ''"
    ),
    (
        "SELECT 'datums', datums_root, 'job ' || projects.name || '/' || pipelines.name || '@' || jobs.set_id"
        f" FROM jobs {_PIPELINE.format('jobs')} WHERE datums_root <> ''"
    ),
    (
        "SELECT 'batch', result, 'running job ' || projects.name || '/' || pipelines.name || '@' || jobs.set_id"
        f" FROM batches JOIN jobs ON jobs.id = batches.job_id {_PIPELINE.format('jobs')} WHERE result <> ''"
    ),
    "SELECT 'cache', root, 'kept results' FROM result_runs",
    "SELECT 'cut-files', root, 'cuts of split files' FROM file_cuts",
    "SELECT kind, root, 'given up while it may have been read' FROM released_roots",
)


def generation(tx: Transaction) -> int:
    row: Any = tx.one("SELECT generation FROM store_state WHERE id = 1")
    return int(row[0])


def next_generation(tx: Transaction) -> int:
    """Begin the next generation; its number."""
    tx.execute("UPDATE store_state SET generation = generation + 1 WHERE id = 1")
    return generation(tx)


def roots(tx: Transaction, *, released: bool = True) -> list[RootRow]:
    """Every root that is in use, by this transaction's snapshot. One may occur several times.

    released: with those that nothing holds any more, but somebody may still be reading.
    """
    rows: list[Any] = [row for sql in (_ROOTS if released else _ROOTS[:-1]) for row in tx.all(sql)]
    return [RootRow(*row) for row in rows]


def forget_released(tx: Transaction, up_to: int) -> int:
    """Drop the roots that were given up in generations up to this one, whose pins are gone; how many."""
    return tx.execute("DELETE FROM released_roots WHERE generation <= ?", (up_to,))


def drop_unused_results(tx: Transaction, *, before: float) -> int:
    """Give up results runs, made before a moment, of transforms that no pipeline has any more; how many."""
    return tx.execute(
        "DELETE FROM result_runs WHERE created < ? AND transform NOT IN (SELECT transform FROM pipeline_versions)",
        (before,),
    )


def packs(tx: Transaction) -> list[PackRow]:
    rows: list[Any] = tx.all("SELECT id, name, size_bytes, chunks, condemned FROM packs ORDER BY id")
    return [PackRow(*row) for row in rows]


def chunk_page(tx: Transaction, after: bytes) -> list[tuple[bytes, int, int, int, int, int]]:
    """(digest, pack id, position, stored, size, codec) of at most PAGE_ROWS chunks, by digest, after one (b"": from the start)."""
    rows: list[Any] = tx.all(
        "SELECT digest, pack_id, position, stored, size, codec FROM chunks WHERE digest > ? ORDER BY digest"
        f" LIMIT {PAGE_ROWS}",
        (after,),
    )
    return rows


def chunk_counts(tx: Transaction) -> dict[int, int]:
    """{pack id: chunks that the index has in it}. One pass over the index, some 0.4 µs a chunk."""
    rows: list[Any] = tx.all("SELECT pack_id, COUNT(*) FROM chunks GROUP BY pack_id")
    return dict(rows)


def chunks_of(tx: Transaction, pack_ids: Sequence[int]) -> list[tuple[int, bytes, int, int, int, int]]:
    """(pack id, digest, position, stored, size, codec) of the chunks that the index has in some packs, few as they should be. One pass
    over the index, some 0.4 µs a chunk."""
    rows: list[Any] = tx.all_in(
        "SELECT pack_id, digest, position, stored, size, codec FROM chunks WHERE pack_id IN ({})", pack_ids
    )
    return rows


def epoch(tx: Transaction) -> str:
    row: Any = tx.one("SELECT epoch FROM store_state WHERE id = 1")
    return str(row[0])


def set_epoch(tx: Transaction, text: str) -> None:
    """Void what was remembered outside of the catalog about which chunks there are."""
    tx.execute("UPDATE store_state SET epoch = ? WHERE id = 1", (text,))


def condemn(tx: Transaction, pack_ids: Sequence[int], generation: int) -> None:
    """Take packs out of use: after this generation no writer counts on their chunks. They stay readable.

    The caller also begins the next generation, and sets another epoch.
    """
    tx.executemany("UPDATE packs SET condemned = ? WHERE id = ?", [(generation, id) for id in pack_ids])


def restore(tx: Transaction, pack_id: int) -> None:
    """Put a condemned pack into use again."""
    tx.execute("UPDATE packs SET condemned = 0 WHERE id = ?", (pack_id,))


def drop_chunks(tx: Transaction, pack_id: int, digests: Sequence[bytes]) -> int:
    """Remove those chunks from the index that it has in this pack; how many."""
    return tx.executemany("DELETE FROM chunks WHERE digest = ? AND pack_id = ?", [(each, pack_id) for each in digests])


def drop_pack(tx: Transaction, pack_id: int) -> None:
    """Remove the row of a pack in which the index has no chunk."""
    tx.execute("DELETE FROM packs WHERE id = ?", (pack_id,))
