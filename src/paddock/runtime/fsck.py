"""Checks that everything the catalog refers to can be read, and repairs what can be (design note 010).

Followed are the references catalog → roots → segments → chunks → index → packs; with `data` every byte is read as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddock.catalog import garbage as garbage_sql
from paddock.catalog.garbage import PackRow, RootRow
from paddock.model.errors import Corrupt, NotFound, PaddockError
from paddock.model.ids import Digest, PackId
from paddock.model.records import Location, PackRecord
from paddock.model.store_records import CheckReport, Damage, DamageKind
from paddock.runtime.damaged_files import Hit, find_hit
from paddock.runtime.garbage import chunks_by_pack, store_upkeep
from paddock.runtime.marking import Marking
from paddock.runtime.pack_census import PackPrint, chunk_pages, index_prints
from paddock.runtime.store_repair import Repair
from paddock.storage.chunks import read_chunk
from paddock.storage.digest_set import Heads, heads_of, member_of
from paddock.storage.objects import ObjectInfo
from paddock.storage.packs import check_head, pack_key, pack_record, read_index_bytes
from paddock.versions.home import Home

MISSING_NAMED_MAX = 100
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
            if not mending.mend(check.lost_packs, check.lost_chunks, check.missing, rebuild=bool(check.damages)):
                break
            check = _checked(home, data)
        return check.report(data, started, mending)


def _checked(home: Home, data: bool) -> _Check:
    check = _Check(home)
    check.check_packs(data=data)
    check.check_references()
    return check


@dataclass(slots=True)
class _Check:
    home: Home
    damages: list[Damage] = field(default_factory=list)
    lost_packs: list[PackRow] = field(default_factory=list)
    """Packs that are gone, or whose own index is."""
    lost_chunks: dict[Digest, int] = field(default_factory=dict)
    """{chunk: row id of the pack in which the index has it}, where it can't be read."""
    missing: Heads = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    """Chunks in use that can't be read."""
    indexed: Heads = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    """Chunks that the index knows, sorted."""
    packs: int = 0
    chunks: int = 0
    bytes: int = 0
    hit: Hit = field(default_factory=Hit)

    # ---- packs and index -------------------------------------------------------------------------------------

    def check_packs(self, *, data: bool) -> None:
        """Compare the index with the packs that there are; with `data` read all chunks."""
        with self.home.catalog.read() as tx:
            rows = garbage_sql.packs(tx)
        stored = {info.key.rpartition("/")[2]: info for info in self.home.objects.list("packs/")}
        self.packs, self.bytes = len(stored), sum(info.size for info in stored.values())
        prints = self._read_index()
        suspects: list[tuple[PackRow, PackRecord | None]] = []
        for row in rows:
            suspects += self._check_pack(row, stored.get(row.name), prints.get(row.id, PackPrint()), data=data)
        if suspects:
            indexed = chunks_by_pack(self.home, [row.id for row, _ in suspects])
            for row, record in suspects:
                lost = record is None and self._unlisted(row) is None
                self._check_suspect(row, record, indexed[row.id], lost=lost)

    def _read_index(self) -> dict[int, PackPrint]:
        """{pack row id: what the chunk index has in it}, from one pass that also notes which chunks it knows."""
        found: dict[int, PackPrint] = {}
        known: list[Heads] = []
        for page in chunk_pages(self.home):
            self.chunks += len(page.digests)
            known.append(page.heads)
            prints = page.prints()
            order = np.argsort(page.packs, kind="stable")
            packs, starts = np.unique(page.packs[order], return_index=True)
            for pack, group in zip(packs.tolist(), np.split(prints[order], starts[1:]), strict=True):
                found[pack] = found.get(pack, PackPrint()).with_rows(group)
        self.indexed = np.concatenate([self.indexed, *known])
        return found

    def _check_pack(
        self, row: PackRow, info: ObjectInfo | None, indexed: PackPrint, *, data: bool
    ) -> list[tuple[PackRow, PackRecord | None]]:
        """The pack, with its own index where that can be read, if it has to be compared with the chunk index row by row."""
        info = info or self._unlisted(row)
        if info is None:
            return [] if self._gone_since(row) else [(row, None)]
        try:
            _, index = read_index_bytes(self.home.objects, PackId(row.name), size=info.size)
            if data:
                check_head(self.home.objects, PackId(row.name))
        except NotFound:
            return []  # collected meanwhile
        except Corrupt as error:
            self._note(DamageKind.PACK_DAMAGED, row.name, error.message)
            return [(row, None)]
        alike = PackPrint().with_rows(index_prints(index)) == indexed
        if alike and not data:
            return []
        record = pack_record(PackId(row.name), info.size, index)
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
        self, row: PackRow, record: PackRecord | None, indexed: Sequence[tuple[Digest, Location]], *, lost: bool
    ) -> None:
        """Note what of the chunks that the index has in a pack can't be read."""
        if record is not None:
            own = dict(record.chunks)
            wrong = [chunk for chunk in indexed if own.get(chunk[0]) != chunk[1]]
            if wrong:
                self._note(
                    DamageKind.INDEX_WRONG,
                    row.name,
                    f"the chunk index has {len(wrong)} chunks in pack {row.name} where there are none; "
                    "`paddock fsck --repair` rebuilds it",
                )
                self._lose(row, wrong)
            return
        self.lost_packs.append(row)
        if lost:
            self._note(DamageKind.PACK_MISSING, row.name, f"pack {row.name} is missing, with {len(indexed)} chunks")
            self._lose(row, indexed)
        else:
            self._read(row, indexed)

    def _unlisted(self, row: PackRow) -> ObjectInfo | None:
        """A pack that is there although the listing did not have it: it came since, or the listing was stale."""
        try:
            return self.home.objects.info(pack_key(PackId(row.name)))
        except NotFound:
            return None

    def _gone_since(self, row: PackRow) -> bool:
        with self.home.catalog.read() as tx:
            return all(each.id != row.id for each in garbage_sql.packs(tx))

    def _read(self, row: PackRow, chunks: Sequence[tuple[Digest, Location]]) -> None:
        """Read chunks of one pack, and note those that are damaged."""
        for digest, place in sorted(chunks, key=lambda chunk: chunk[1].offset):
            try:
                read_chunk(self.home.objects, digest, place)
            except Corrupt as error:
                self._note(DamageKind.CHUNK_DAMAGED, digest.hex(), error.message)
                self.lost_chunks[digest] = row.id

    def _lose(self, row: PackRow, chunks: Sequence[tuple[Digest, Location]]) -> None:
        self.lost_chunks |= dict.fromkeys((digest for digest, _ in chunks), row.id)

    def _note(self, kind: DamageKind, name: str, message: str) -> None:
        self.damages.append(Damage(kind, name, message))

    # ---- references ------------------------------------------------------------------------------------------

    def check_references(self) -> None:
        """Follow every reference, and name what can't be read because of a chunk that is lost."""
        with self.home.pin():
            with self.home.catalog.read() as tx:
                roots = garbage_sql.roots(tx, released=False)
            marking = Marking(self.home, on_fault=self._on_fault)
            marking.add(roots)
            live = marking.live.values()
            self.missing = self._unreadable(live)
            if len(self.missing):
                self._name(roots)

    def _on_fault(self, digest: Digest, holder: str, error: PaddockError) -> None:
        self.hit.others[holder] = None
        if isinstance(error, Corrupt) and digest not in self.lost_chunks:
            place = self.home.chunks.locate([digest]).get(digest)
            self._note(DamageKind.CHUNK_DAMAGED, digest.hex(), error.message)
            if place is not None:
                self.lost_chunks[digest] = self._pack_row(place.pack)

    def _pack_row(self, name: str) -> int:
        with self.home.catalog.read() as tx:
            return next(row.id for row in garbage_sql.packs(tx) if row.name == name)

    def _unreadable(self, live: Heads) -> Heads:
        """Chunks in use that the index does not have, or that are lost."""
        absent = live[~member_of(live, self.indexed)]
        if len(absent):
            # Written since the index was read?
            now = np.concatenate([np.empty(0, np.uint64), *(page.heads for page in chunk_pages(self.home))])
            absent = absent[~member_of(absent, now)]
        for head in absent[:MISSING_NAMED_MAX].tolist():
            name = f"{head:016x}…"
            self._note(DamageKind.CHUNK_MISSING, name, f"chunk {name} is referred to, but no pack is known to have it")
        if len(absent) > MISSING_NAMED_MAX:
            more = len(absent) - MISSING_NAMED_MAX
            self._note(
                DamageKind.CHUNK_MISSING, "…", f"{more} more chunks are referred to, but in no pack that is known"
            )
        lost = np.sort(heads_of(list(self.lost_chunks)))
        return np.union1d(absent, lost[member_of(lost, live)])

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
