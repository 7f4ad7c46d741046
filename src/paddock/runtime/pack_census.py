"""How much of each pack is in use, and whether the chunk index agrees with the packs: by columns, not chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddock.catalog import garbage as garbage_sql
from paddock.catalog.garbage import PackRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import PackId
from paddock.storage.digest_counts import DigestCounts
from paddock.storage.digest_set import Heads, heads_of
from paddock.storage.packs import read_index_bytes, read_pack_index
from paddock.versions.home import Home

_ENTRY = np.dtype(
    [("head", ">u8"), ("rest", "V24"), ("position", "<u8"), ("stored", "<u4"), ("size", "<u4"), ("codec", "u1")]
)
"""An entry of a pack's own index (`storage.packs.ENTRY`)."""
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD], np.uint64
)
_SHIFT = np.uint64(32)
LOOK_UP_CHUNKS = 100_000
"""Up to here chunks are looked up one by one: some 3 µs each."""


@dataclass(frozen=True, slots=True)
class ChunkPage:
    """Some rows of the chunk index, in order of digest, as columns."""

    digests: list[bytes]
    heads: Heads
    packs: npt.NDArray[np.int64]
    """Row ids of packs."""
    positions: npt.NDArray[np.int64]
    stored: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    codecs: npt.NDArray[np.int64]

    def prints(self) -> Heads:
        """A number for each row that stands for all of it but the pack."""
        return _prints(self.heads, self.positions, self.stored, self.sizes, self.codecs)


@dataclass(frozen=True, slots=True)
class PackUse:
    """What is in use of one pack."""

    chunks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class PackPrint:
    """Stands for a set of chunks and where they lie: how many, and the sum of their prints. Unequal sets have one print with
    a chance of one in 2^64."""

    chunks: int = 0
    sum: int = 0

    def with_rows(self, prints: Heads) -> PackPrint:
        return PackPrint(self.chunks + len(prints), (self.sum + int(prints.sum(dtype=np.uint64))) % (1 << 64))


def chunk_pages(home: Home) -> Iterator[ChunkPage]:
    """The whole chunk index. Each page has a snapshot of its own; some 2 µs a chunk."""
    after = b""
    while True:
        with home.catalog.read() as tx:
            rows: list[Any] = garbage_sql.chunk_page(tx, after)
        if not rows:
            return
        digests, *columns = zip(*rows, strict=True)
        after = digests[-1]
        numbers = (np.array(column, dtype=np.int64) for column in columns)
        yield ChunkPage(list(digests), heads_of(digests), *numbers)


def index_prints(index: bytes) -> Heads:
    """A number for each entry of a pack's own index, as `ChunkPage.prints`."""
    entries = np.frombuffer(index, _ENTRY)
    return _prints(*(entries[name] for name in ("head", "position", "stored", "size", "codec")))


def pack_use(home: Home, live: DigestCounts, rows: Sequence[PackRow]) -> dict[int, PackUse]:
    """{pack row id: what is in use of it} of packs. live: the chunks in use.

    Where the index has as many chunks in a pack as the pack itself, its own index is taken, 0.3 µs a chunk; else the chunk index.
    That number costs a pass over the chunk index; for few chunks each is looked up instead.
    """
    if sum(row.chunks for row in rows) <= LOOK_UP_CHUNKS:
        return {row.id: _use_looked_up(home, live, row) for row in rows}
    with home.catalog.read() as tx:
        counts = garbage_sql.chunk_counts(tx)
    found: dict[int, PackUse] = {}
    others: list[int] = []
    for row in rows:
        entries = _entries(home, row, counts)
        if entries is None:
            others.append(row.id)
            continue
        heads = entries["head"].astype(np.uint64)
        order = np.argsort(heads)  # in order they are found ten times as fast
        used = order[live.contains(heads[order])]
        found[row.id] = PackUse(len(used), int(entries["stored"][used].sum(dtype=np.int64)))
    return found | _use_by_index(home, live, others)


def stored_bytes(home: Home) -> tuple[Heads, npt.NDArray[np.uint32]]:
    """All chunks of the index, sorted, and the bytes stored of each; from the packs' own indexes where they agree. Some 1 µs, and for
    a moment 30 bytes, a chunk."""
    with home.catalog.read() as tx:
        rows, counts = garbage_sql.packs(tx), garbage_sql.chunk_counts(tx)
    heads, stored = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint32)]
    others: list[int] = []
    for row in rows:
        entries = _entries(home, row, counts)
        if entries is None:
            others.append(row.id)
            continue
        heads.append(entries["head"].astype(np.uint64))
        stored.append(entries["stored"].astype(np.uint32))
    for page in chunk_pages(home) if any(counts.get(id) for id in others) else ():
        here = np.isin(page.packs, others)
        heads.append(page.heads[here])
        stored.append(page.stored[here].astype(np.uint32))
    together = np.concatenate(heads)
    heads.clear()
    order = np.argsort(together)
    together = together[order]
    sizes = np.concatenate(stored)
    stored.clear()
    return together, sizes[order]


def _use_looked_up(home: Home, live: DigestCounts, row: PackRow) -> PackUse:
    try:
        record = read_pack_index(home.objects, PackId(row.name), size=row.size_bytes)
    except (Corrupt, NotFound):
        return _use_by_index(home, live, [row.id])[row.id]
    places = home.chunks.locate([digest for digest, _ in record.chunks])
    stored = {digest: place.stored for digest, place in places.items() if place.pack == row.name}
    used = live.contains(heads_of(list(stored)))
    return PackUse(int(used.sum()), sum(size for size, use in zip(stored.values(), used.tolist(), strict=True) if use))


def _entries(home: Home, row: PackRow, counts: Mapping[int, int]) -> npt.NDArray[Any] | None:
    """A pack's own index, where the chunk index has (`counts`) all its chunks there; None elsewhere, and where it can't be read."""
    if counts.get(row.id) != row.chunks:
        return None
    try:
        entries = np.frombuffer(read_index_bytes(home.objects, PackId(row.name), size=row.size_bytes)[1], _ENTRY)
    except (Corrupt, NotFound):
        return None
    return entries if len(entries) == row.chunks else None


def _use_by_index(home: Home, live: DigestCounts, pack_ids: Sequence[int]) -> dict[int, PackUse]:
    """The same of a few packs, by a pass over the chunk index."""
    chunks = dict.fromkeys(pack_ids, 0)
    stored = dict.fromkeys(pack_ids, 0)
    wanted = np.array(pack_ids, dtype=np.int64)
    for page in chunk_pages(home) if pack_ids else ():
        used = np.flatnonzero(live.contains(page.heads) & np.isin(page.packs, wanted))
        packs, places = np.unique(page.packs[used], return_inverse=True)
        counts = np.bincount(places, minlength=len(packs))
        sums = np.bincount(places, weights=page.stored[used], minlength=len(packs))
        for pack, count, total in zip(packs.tolist(), counts.tolist(), sums.tolist(), strict=True):
            chunks[pack] += count
            stored[pack] += int(total)
    return {pack: PackUse(count, stored[pack]) for pack, count in chunks.items()}


def _prints(*columns: npt.NDArray[Any]) -> Heads:
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column, factor in zip(columns, _FACTORS, strict=True):
        mixed ^= column.astype(np.uint64)
        mixed *= factor
        mixed ^= mixed >> _SHIFT
    return mixed
