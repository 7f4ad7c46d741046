"""Checks that everything the catalog refers to can be read, and repairs what can be (design note 010).

Followed are the references catalog → roots → segments → chunks → index → packs; with `data` every byte is read as well.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import field
from pathlib import Path

import numpy as np

from paddock.catalog import garbage as garbage_sql
from paddock.catalog.garbage import PackRow, RootRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound, PaddockError
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location, PackRecord
from paddock.model.store_records import CheckReport, Damage, DamageKind
from paddock.runtime.damaged_files import Hit, find_hit
from paddock.runtime.garbage import chunks_by_pack, store_upkeep
from paddock.runtime.lost_chunks import DIGEST_BYTES, Lost
from paddock.runtime.marking import Marking
from paddock.runtime.pack_census import PackPrint, chunk_pages, index_prints
from paddock.runtime.store_repair import Repair
from paddock.storage.chunks import read_chunk, read_located
from paddock.storage.digest_set import Heads, member_of
from paddock.storage.objects import ObjectInfo
from paddock.storage.packs import check_head, pack_key, pack_record, read_index_bytes
from paddock.versions.home import Home

MISSING_NAMED_MAX = 100
READ_TOGETHER = 4096
"""Chunks of a pack that are read in runs; where one of them is damaged, those after it are read one by one."""
ROUNDS_MAX = 8
"""Restored tables may name chunks that are lost too: a repair goes on while it gets somewhere, at most so often."""


def check_store(home: Home, *, data: bool = False, repair: bool = False, source: Path | None = None) -> CheckReport:
    """Check a home; with `repair` mend it and check again. source: a directory of files, or another home, to take lost
    chunks from.

    A repair rebuilds the chunk index from the packs, and takes out of it what can't be read, so that putting the same files
    again stores them again. It removes no object. Conflict: a collection or repair is at work. Beside running writers, a check
    may name a pack that they have not registered yet as nothing at all, never as damage.
    """
    started = time.monotonic()
    if not repair:
        return _checked(home, data).report(data, started)
    with store_upkeep(home):
        mending = Repair(home, source)
        check = _checked(home, data)
        for _ in range(ROUNDS_MAX):
            if not mending.mend(check.lost, check.missing, check.whole, rebuild=bool(check.damages)):
                check.take_out_lost()
                break
            check = _checked(home, data)
        return check.report(data, started, mending)


def _checked(home: Home, data: bool) -> _Check:
    check = _Check(home)
    with home.pin():
        check.run(data=data)
    return check


@dataclass(slots=True)
class _Check:
    home: Home
    damages: list[Damage] = field(default_factory=list)
    lost: Lost = field(default_factory=Lost)
    missing: Heads = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    """Chunks in use that can't be read."""
    whole: set[str] = field(default_factory=set)
    """Packs (names) all of whose chunks the index has there."""
    packs: int = 0
    chunks: int = 0
    bytes: int = 0
    hit: Hit = field(default_factory=Hit)
    faults: list[tuple[Digest, PaddockError]] = field(default_factory=list)
    """Tables that can't be read, and why."""

    def run(self, *, data: bool) -> None:
        """Follow every reference, compare the index with the packs that there are, with `data` read all chunks, and name what is hit.

        What references lead to was registered before, so one pass over the index after them tells what of it is not there.
        """
        with self.home.catalog.read() as tx:
            roots = garbage_sql.roots(tx, released=False)
        live = self._follow(roots)
        absent = self._check_packs(live, data=data)
        self._judge_faults()
        lost = np.sort(self.lost.heads())
        self.missing = np.union1d(absent, lost[member_of(lost, live)])
        self._note_missing(absent)
        if len(self.missing):
            self._name(roots)

    def take_out_lost(self) -> None:
        """Know what another check would find, now that a repair took what is lost out of the index and got nothing back."""
        if self.lost:
            self.damages.clear()
            self.chunks -= self.lost.chunk_count
            self._note_missing(self.missing)

    # ---- packs and index -------------------------------------------------------------------------------------

    def _check_packs(self, live: Heads, *, data: bool) -> Heads:
        """Which of the chunks in use the index does not have."""
        with self.home.catalog.read() as tx:
            rows = garbage_sql.packs(tx)
        stored = {info.key.rpartition("/")[2]: info for info in self.home.objects.list("packs/")}
        self.packs, self.bytes = len(stored), sum(info.size for info in stored.values())
        self.lost.gone = {row: b"" for row in rows if self._is_gone(row, stored)}
        prints, absent = self._read_index(live)
        for row, digests in self.lost.gone.items():
            count = len(digests) // DIGEST_BYTES
            self._note(DamageKind.PACK_MISSING, row.name, f"pack {row.name} is missing, with {count} chunks")
        suspects: list[tuple[PackRow, PackRecord | None]] = []
        for row in rows:
            if row not in self.lost.gone:
                suspects += self._check_pack(row, stored.get(row.name), prints.get(row.id, PackPrint()), data=data)
        if suspects:
            indexed = chunks_by_pack(self.home, [row.id for row, _ in suspects])
            for row, record in suspects:
                self._check_suspect(row, record, indexed[row.id])
        return absent

    def _is_gone(self, row: PackRow, stored: Collection[str]) -> bool:
        """Not where it came since it was looked for, or the listing was stale, or a collection removed it."""
        if row.name in stored:
            return False
        try:
            self.home.objects.info(pack_key(PackId(row.name)))
        except NotFound:
            with self.home.catalog.read() as tx:
                return any(each.id == row.id for each in garbage_sql.packs(tx))
        return False

    def _read_index(self, live: Heads) -> tuple[dict[int, PackPrint], Heads]:
        """{pack row id: what the chunk index has in it}, and which of the chunks in use it does not have. Notes which it has in packs
        that are gone."""
        found: dict[int, PackPrint] = {}
        known = np.zeros(len(live), dtype=bool)
        gone = {row.id: bytearray() for row in self.lost.gone}
        for page in chunk_pages(self.home):
            self.chunks += len(page.digests)
            first, end = np.searchsorted(live, page.heads[0]), np.searchsorted(live, page.heads[-1], side="right")
            known[first:end] |= member_of(live[first:end], page.heads)
            prints = page.prints()
            order = np.argsort(page.packs, kind="stable")
            packs, starts = np.unique(page.packs[order], return_index=True)
            for pack, rows in zip(packs.tolist(), np.split(order, starts[1:]), strict=True):
                found[pack] = found.get(pack, PackPrint()).with_rows(prints[rows])
                if pack in gone:
                    gone[pack] += b"".join([page.digests[row] for row in rows.tolist()])
        self.lost.gone = {row: bytes(gone[row.id]) for row in self.lost.gone}
        return found, live[~known]

    def _check_pack(
        self, row: PackRow, info: ObjectInfo | None, indexed: PackPrint, *, data: bool
    ) -> list[tuple[PackRow, PackRecord | None]]:
        """The pack, with its own index where that can be read, if it has to be compared with the chunk index row by row."""
        try:
            size, index = read_index_bytes(
                self.home.objects, PackId(row.name), size=None if info is None else info.size
            )
            if data:
                check_head(self.home.objects, PackId(row.name))
        except NotFound:
            return []  # collected meanwhile
        except Corrupt as error:
            self._note(DamageKind.PACK_DAMAGED, row.name, error.message)
            return [(row, None)]
        alike = PackPrint().with_rows(index_prints(index)) == indexed
        if alike:
            self.whole.add(row.name)
            if not data:
                return []
        record = pack_record(PackId(row.name), size, index)
        if alike:
            self._read(row, record.chunks)
            return []
        own = dict(record.chunks)
        places = self.home.chunks.locate(list(own))
        here = [(digest, place) for digest, place in places.items() if place.pack == row.name]
        right = [chunk for chunk in here if own[chunk[0]] == chunk[1]]
        if data:
            self._read(row, right)
        return [(row, record)] if len(right) != indexed.chunks else []

    def _check_suspect(
        self, row: PackRow, record: PackRecord | None, indexed: Sequence[tuple[Digest, Location]]
    ) -> None:
        """Note what of the chunks that the index has in a pack can't be read."""
        if record is None:
            self.lost.torn.append(row)
            self._read(row, indexed)
            return
        own = dict(record.chunks)
        wrong = [chunk for chunk in indexed if own.get(chunk[0]) != chunk[1]]
        if wrong:
            self._note(
                DamageKind.INDEX_WRONG,
                row.name,
                f"the chunk index has {len(wrong)} chunks in pack {row.name} where there are none; "
                "`paddock fsck --repair` rebuilds it",
            )
            self.lost.chunks |= dict.fromkeys((digest for digest, _ in wrong), row.id)

    def _read(self, row: PackRow, chunks: Sequence[tuple[Digest, Location]]) -> None:
        """Read chunks of one pack, and note those that are damaged."""
        ordered = sorted(chunks, key=lambda chunk: chunk[1].offset)
        for start in range(0, len(ordered), READ_TOGETHER):
            some = ordered[start : start + READ_TOGETHER]
            done = 0
            try:
                for _ in read_located(self.home.objects, some):
                    done += 1
            except Corrupt:
                for digest, place in some[done:]:
                    self._read_one(row, digest, place)

    def _read_one(self, row: PackRow, digest: Digest, place: Location) -> None:
        try:
            read_chunk(self.home.objects, digest, place)
        except Corrupt as error:
            self._note(DamageKind.CHUNK_DAMAGED, digest.hex(), error.message)
            self.lost.chunks[digest] = row.id

    def _note(self, kind: DamageKind, name: str, message: str) -> None:
        self.damages.append(Damage(kind, name, message))

    # ---- references ------------------------------------------------------------------------------------------

    def _follow(self, roots: Sequence[RootRow]) -> Heads:
        """All chunks in use, sorted. Notes the tables that can't be read."""
        marking = Marking(self.home, on_fault=self._on_fault)
        marking.add(roots)
        return marking.live.values()

    def _on_fault(self, digest: Digest, holder: str, error: PaddockError) -> None:
        self.hit.others[holder] = None
        self.faults.append((digest, error))

    def _judge_faults(self) -> None:
        """Note the tables that are damaged, but for those whose loss is told by the pack that has them."""
        places = self.home.chunks.locate([digest for digest, _ in self.faults])
        with self.home.catalog.read() as tx:
            packs = {row.name: row for row in garbage_sql.packs(tx)}
        for digest, error in self.faults:
            place = places.get(digest)
            row = None if place is None else packs.get(place.pack)
            if isinstance(error, Corrupt) and row not in self.lost.gone and digest not in self.lost.chunks:
                self._note(DamageKind.CHUNK_DAMAGED, digest.hex(), error.message)
                if row is not None:
                    self.lost.chunks[digest] = row.id

    def _note_missing(self, heads: Heads) -> None:
        for head in heads[:MISSING_NAMED_MAX].tolist():
            name = f"{head:016x}…"
            self._note(DamageKind.CHUNK_MISSING, name, f"chunk {name} is referred to, but no pack is known to have it")
        if len(heads) > MISSING_NAMED_MAX:
            more = len(heads) - MISSING_NAMED_MAX
            self._note(
                DamageKind.CHUNK_MISSING, "…", f"{more} more chunks are referred to, but in no pack that is known"
            )

    def _name(self, roots: Sequence[RootRow]) -> None:
        others = self.hit.others
        self.hit = find_hit(self.home, roots, self.missing)
        # What the reading of tables met is named better by the files in them.
        named = {address.partition(":")[0].removeprefix("commit ") for address in (*self.hit.files, *self.hit.others)}
        self.hit.others |= {other: None for other in others if other.removeprefix("commit ") not in named}

    def report(self, data: bool, started: float, repair: Repair | None = None) -> CheckReport:
        return CheckReport(
            data=data,
            packs=self.packs,
            chunks=self.chunks,
            bytes=self.bytes,
            damages=tuple(self.damages),
            files=tuple(sorted(self.hit.files)),
            files_hit=self.hit.count,
            others=tuple(sorted(self.hit.others)),
            restored_chunks=0 if repair is None else repair.restored,
            repaired=() if repair is None else tuple(repair.done),
            seconds=time.monotonic() - started,
        )
