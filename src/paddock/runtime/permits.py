"""What a worker may read through a server: the bytes of packs that its batches name, while their job lasts (design note 039).

The scheduler writes a permit beside each pack of a batch, and who asks a server for bytes of a pack shows it. All servers of a home have one
secret; they keep nothing of what they permit.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable

from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.errors import PermissionDenied
from paddock.model.ids import PackId
from paddock.runtime.protocol import BatchTask, FileTask, Permit

SECRET_BYTES = 32
_MAC_BYTES = 16
_TEXT = re.compile(r"([0-9]{1,18})-([0-9]{1,19})-([0-9]{1,19})-([0-9a-f]{32})")

SetOfJob = Callable[[int], str | None]
"""The commit set of an unfinished job; None for one that has ended, or that there is not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Bytes of a pack that somebody asks for: from `first` to before `end`."""

    pool: str
    pack: PackId
    first: int
    end: int


class Permits:
    """Makes and checks permits. Thread-safe."""

    def __init__(self, secret: bytes) -> None:
        """secret: `SECRET_BYTES` of them."""
        self._secret = secret

    def of(self, batch: BatchTask, code: Iterable[FileTask], *, pool: str, job: int) -> tuple[Permit, ...]:
        """One for each pack that the batch reads: of its inputs, and of its transform's code. job: id of the batch's.

        Some 5 µs a pack, and 0.5 µs a chunk.
        """
        files = [file for datum in batch.datums for each in datum.inputs if not each.empty_files for file in each.files]
        spans: dict[PackId, tuple[int, int]] = {}
        for file in (*files, *code):
            for _, (pack, offset, stored, _, _) in file.chunks:
                first, end = spans.get(pack, (offset, 0))
                after = offset + stored
                spans[pack] = (first if first < offset else offset, end if end > after else after)
        return tuple(
            [
                Permit(pack, f"{job}-{first}-{end}-{self._mac(pool, job, batch.job, pack, first, end)}")
                for pack, (first, end) in spans.items()
            ]
        )

    def check(self, permit: str | None, asked: Asked, set_of_job: SetOfJob) -> None:
        """PermissionDenied: the permit is not for this reading, or its job has ended."""
        if not permit:
            raise PermissionDenied(
                f"pack {asked.pack}: a worker reads what a batch has given it, and shows the permit that came with the batch; this request "
                "shows none (use the same Paddock version on both sides)"
            )
        found = _TEXT.fullmatch(permit)
        if found is None:
            raise PermissionDenied(
                f"pack {asked.pack}: what is shown is no permit; show the one that came with the batch"
            )
        job, first, end = map(int, found.groups()[:3])
        set_id = set_of_job(job)
        if set_id is None:
            raise PermissionDenied(
                f"pack {asked.pack}: the job that it was given for has ended, and with it what its workers may read"
            )
        if not hmac.compare_digest(found[4], self._mac(asked.pool, job, set_id, asked.pack, first, end)):
            raise PermissionDenied(
                f"pack {asked.pack}: the permit is not for it and pool {asked.pool}; a worker reads what its batches name, and nothing else"
            )
        if not first <= asked.first <= asked.end <= end:
            raise PermissionDenied(
                f"pack {asked.pack}: the permit is for bytes {first} to {end}, and not for {asked.first} to {asked.end}"
            )

    def _mac(self, pool: str, job: int, set_id: str, pack: PackId, first: int, end: int) -> str:
        text = f"{pool}\n{job}\n{set_id}\n{pack}\n{first}\n{end}"
        return blake3(text.encode(), key=self._secret).hexdigest(length=_MAC_BYTES)
