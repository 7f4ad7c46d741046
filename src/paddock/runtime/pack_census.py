"""How much of each pack is in use, from one pass over the chunk index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddock.catalog import garbage as garbage_sql
from paddock.storage.digest_set import Heads, heads_of, member_of
from paddock.versions.home import Home


@dataclass(frozen=True, slots=True)
class ChunkPage:
    """Some rows of the chunk index, in order of digest, as columns."""

    digests: list[bytes]
    heads: Heads
    packs: npt.NDArray[np.int64]
    """Row ids of packs."""
    stored: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackUse:
    """What is in use of one pack."""

    chunks: int = 0
    bytes: int = 0


def chunk_pages(home: Home) -> Iterator[ChunkPage]:
    """The whole chunk index. Each page has a snapshot of its own; some 2 µs a chunk."""
    after = b""
    while True:
        with home.catalog.read() as tx:
            rows: list[Any] = garbage_sql.chunk_page(tx, after)
        if not rows:
            return
        digests, packs, stored, sizes = zip(*rows, strict=True)
        after = digests[-1]
        columns = (np.array(column, dtype=np.int64) for column in (packs, stored, sizes))
        yield ChunkPage(list(digests), heads_of(digests), *columns)


def pack_use(home: Home, live: Heads) -> dict[int, PackUse]:
    """{pack row id: what is in use of it}, for packs of which anything is. live: sorted heads of the chunks in use."""
    chunks: dict[int, int] = {}
    stored: dict[int, int] = {}
    for page in chunk_pages(home):
        used = member_of(page.heads, live)
        packs, places = np.unique(page.packs[used], return_inverse=True)
        counts = np.bincount(places, minlength=len(packs))
        sums = np.bincount(places, weights=page.stored[used], minlength=len(packs))
        for pack, count, total in zip(packs.tolist(), counts.tolist(), sums.tolist(), strict=True):
            chunks[pack] = chunks.get(pack, 0) + count
            stored[pack] = stored.get(pack, 0) + int(total)
    return {pack: PackUse(count, stored[pack]) for pack, count in chunks.items()}
