"""What a check of the store found lost, as far as the chunk index has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import field

import numpy as np

from paddock.catalog.garbage import PackRow
from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.digest_set import Heads, heads, heads_of

DIGEST_BYTES = 32
_SLICE_CHUNKS = 50_000


@dataclass(slots=True)
class Lost:
    """A pack that is gone may have had a million chunks: of those only the bytes of their digests are held."""

    gone: dict[PackRow, bytes] = field(default_factory=dict)
    """Packs that are not there, with the joined digests of the chunks that the index has in them, in order."""
    torn: list[PackRow] = field(default_factory=list)
    """Packs whose own index can't be read; some of their chunks may be."""
    chunks: dict[Digest, int] = field(default_factory=dict)
    """{chunk that can't be read: row id of the pack, not gone, in which the index has it}."""

    def __bool__(self) -> bool:
        return bool(self.gone or self.torn or self.chunks)

    @property
    def chunk_count(self) -> int:
        return len(self.chunks) + sum(map(len, self.gone.values())) // DIGEST_BYTES

    @property
    def packs(self) -> Sequence[PackRow]:
        return (*self.gone, *self.torn)

    def heads(self) -> Heads:
        """Of all chunks, in no order."""
        return np.concatenate([heads_of(list(self.chunks)), *map(heads, self.gone.values())])

    def by_pack(self) -> Iterator[tuple[int, Sequence[bytes]]]:
        """Row ids of packs, each with some of its chunks in order of digest."""
        for row, joined in self.gone.items():
            for start in range(0, len(joined), _SLICE_CHUNKS * DIGEST_BYTES):
                part = joined[start : start + _SLICE_CHUNKS * DIGEST_BYTES]
                yield row.id, [part[at : at + DIGEST_BYTES] for at in range(0, len(part), DIGEST_BYTES)]
        single: defaultdict[int, list[Digest]] = defaultdict(list)
        for digest, pack in self.chunks.items():
            single[pack].append(digest)
        for pack, digests in single.items():
            yield pack, sorted(digests)
