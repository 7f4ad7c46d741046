"""Where chunks lie: digest → (pack, offset, stored, size, codec), looked up and filled in bulk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from paddock.catalog import garbage
from paddock.catalog.database import Catalog, Transaction
from paddock.catalog.dialect import Value
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location, PackRecord

_INSERT_CHUNK = (
    "INSERT INTO chunks (digest, pack_id, position, stored, size, codec) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (digest) DO UPDATE SET pack_id = excluded.pack_id, position = excluded.position,"
    " stored = excluded.stored, size = excluded.size, codec = excluded.codec"
    " WHERE COALESCE((SELECT condemned FROM packs WHERE packs.id = chunks.pack_id), 1) <> 0"
)


class CatalogChunkIndex:
    """The chunk index in the catalog. Implements `storage.chunks.ChunkIndex`; safe for many threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def locate(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        """{digest: location} of those that are known; about 1 µs each in bulk."""
        return self._catalog.ask(lambda tx: locate(tx, digests))

    def known(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that a writer may count on: not those in packs that garbage collection is about to drop."""
        with self._catalog.read() as tx:
            rows = tx.all_in(
                "SELECT chunks.digest FROM chunks JOIN packs ON packs.id = chunks.pack_id"
                " WHERE packs.condemned = 0 AND chunks.digest IN ({})",
                digests,
            )
        return {Digest(digest) for (digest,) in rows}  # type: ignore[arg-type]

    def epoch(self) -> str:
        """Changes before garbage collection drops any chunk that a writer may have been told of."""
        with self._catalog.read() as tx:
            return garbage.epoch(tx)

    def register(self, packs: Sequence[PackRecord]) -> None:
        """Add durable packs and their chunks, in one transaction of their own. Idempotent; a known chunk
        keeps its place, unless its pack is condemned.
        """
        if packs:
            with self._catalog.write() as tx:
                register(tx, packs)


def locate(tx: Transaction, digests: Sequence[Digest]) -> dict[Digest, Location]:
    """{digest: location} of those that are known."""
    rows = tx.all_in(
        "SELECT chunks.digest, packs.name, chunks.position, chunks.stored, chunks.size, chunks.codec"
        " FROM chunks JOIN packs ON packs.id = chunks.pack_id WHERE chunks.digest IN ({})",
        digests,
    )
    return {
        Digest(digest): Location(PackId(pack), offset, stored, size, codec)  # type: ignore[arg-type]
        for digest, pack, offset, stored, size, codec in rows
    }


def sizes(tx: Transaction, digests: Sequence[Digest], *, condemned_from: int) -> dict[Digest, int]:
    """{digest: plain size} of those that are stored, but for packs condemned before a generation."""
    # Comparing with the number in the text keeps the one list of parameters for the digests.
    rows = tx.all_in(
        "SELECT chunks.digest, chunks.size FROM chunks JOIN packs ON packs.id = chunks.pack_id"
        f" WHERE (packs.condemned = 0 OR packs.condemned >= {int(condemned_from)}) AND chunks.digest IN ({{}})",
        digests,
    )
    return {Digest(digest): size for digest, size in rows}  # type: ignore[arg-type, misc]


def register(tx: Transaction, packs: Sequence[PackRecord]) -> None:
    """Add packs within the caller's transaction (a worker's report is one with its batch). Four statements, however many packs."""
    by_name = {pack.pack: pack for pack in packs}
    for (name,) in tx.all_in("SELECT name FROM packs WHERE name IN ({})", list(by_name)):
        del by_name[PackId(str(name))]
    if not by_name:
        return
    tx.executemany(
        "INSERT INTO packs (name, size_bytes, chunks) VALUES (?, ?, ?)",
        [(pack.pack, pack.bytes, len(pack.chunks)) for pack in by_name.values()],
    )
    ids: list[Any] = tx.all_in("SELECT id, name FROM packs WHERE name IN ({})", list(by_name))
    id_of = {name: int(id) for id, name in ids}
    placed: dict[Digest, tuple[int, Location]] = {}
    for name, pack in by_name.items():
        for digest, location in pack.chunks:
            # One statement may not meet a chunk twice; the first place counts, as if they came one by one.
            placed.setdefault(digest, (id_of[name], location))
    tx.executemany(_INSERT_CHUNK, _chunk_rows((id, digest, location) for digest, (id, location) in placed.items()))


def enter(tx: Transaction, pack: PackRecord, *, chunks: int) -> None:
    """Enter some chunks of a pack that may be known already; `chunks`: how many it has in all. For repairs."""
    row = tx.one("SELECT id FROM packs WHERE name = ?", (pack.pack,))
    if row is not None:
        pack_id = int(row[0] or 0)
        tx.execute("UPDATE packs SET condemned = 0 WHERE id = ?", (pack_id,))
    else:
        pack_id = tx.insert(
            "INSERT INTO packs (name, size_bytes, chunks) VALUES (?, ?, ?) RETURNING id",
            (pack.pack, pack.bytes, chunks),
        )
    tx.executemany(_INSERT_CHUNK, _chunk_rows((pack_id, digest, location) for digest, location in pack.chunks))


def _chunk_rows(placed: Iterable[tuple[int, Digest, Location]]) -> Iterator[tuple[Value, ...]]:
    # In key order, neighbours fall into one page of the index: half the time of a random order.
    for pack_id, digest, location in sorted(placed, key=itemgetter(1)):
        yield (digest, pack_id, location.offset, location.stored, location.size, location.codec)
