"""Garbage collection: find what nothing refers to, and remove it beside running writers (design note 010).

In short: mark from all roots; copy what is in use out of sparse packs; *condemn* packs (no writer counts on their chunks from
then on); wait until all writers and readers that began before are done; mark what they committed; remove the packs that are still
unused. A crash between any two steps leaves a valid home, and at most garbage that the next collection finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field

import numpy as np

from paddock.catalog import chunk_index, file_cuts, results
from paddock.catalog import garbage as garbage_sql
from paddock.catalog.database import Transaction
from paddock.catalog.garbage import PackRow, RootRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Corrupt, NotFound
from paddock.model.ids import Digest, PackId, new_id
from paddock.model.records import Location
from paddock.model.store_records import GarbageReport, PackFate, PackGarbage
from paddock.runtime.cache_limits import evict
from paddock.runtime.marking import Marking
from paddock.runtime.pack_census import LOOK_UP_CHUNKS, PackUse, chunk_pages
from paddock.runtime.remembered_marks import mark, remember
from paddock.storage.digest_set import heads_of
from paddock.storage.objects import LocalObjects, ObjectInfo
from paddock.storage.pack_rewriting import PackRewriter
from paddock.storage.packs import ENTRY, pack_key, pack_record, read_index_bytes
from paddock.versions.home import Home

GRACE_SECONDS = 3600.0
"""How long garbage is kept. An interrupted put that is started again within it sends only what is missing."""
WAIT_SECONDS = 5.0
"""How long a collection waits for writers that are at work; what they hold up is left to the next one."""
CUTS_KEPT_SECONDS = 30 * 86400.0
"""How long it is remembered how files were cut by a rule that cuts nothing new; forgotten, they are read once more."""
SPARSE_BELOW = 0.5
"""A pack is rewritten when less than this part of it is in use: a byte is then copied about once in its life."""
_POLL_SECONDS = 0.05
_SLICE_CHUNKS = 1 << 16
_FEW_PART = 8
"""Less than this part of a pack's chunks are few."""
_ROUND_CHUNKS = 2 << 20
"""Chunks of packs that are rewritten in one transaction: 49 bytes of memory each. Fewer would write the pages of the index more often."""
_LOCK = "gc"


def collect_garbage(
    home: Home,
    *,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> GarbageReport:
    """Remove what nothing refers to and is older than `grace_seconds`; see the module. With `dry_run` only say what would go.

    Conflict: another collection or a repair is at work. Corrupt, NotFound: something that is in use can't be read; nothing was
    removed then. Reads the tables that came into use, or went out of it, since the last collection; all of them, and the chunk
    index, where that is not remembered. 12 bytes of memory a chunk in use.
    """
    with store_upkeep(home):
        started = monotonic()
        collection = _Collection(home, home.now() - grace_seconds, dry_run)
        collection.find()
        if not dry_run:
            deadline = monotonic() + (wait_seconds if collection.waits else 0)
            while home.drained_generation() < collection.generation and monotonic() < deadline:
                sleep(_POLL_SECONDS)
            collection.remove()
        return collection.report(monotonic() - started)


@contextmanager
def store_upkeep(home: Home) -> Iterator[None]:
    """Exclude other collections and repairs of this home. Conflict where one is at work, or the store is another home's."""
    lock = home.try_lock(_LOCK)
    if lock is None:
        raise Conflict(f"home {home.name} is being collected or repaired by another process; wait for its end")
    with lock:
        home.check_storage()
        yield


@dataclass(frozen=True, slots=True)
class _InIndex:
    """What is known, of all at once, about the chunks that the index has in packs."""

    whole: Collection[int] = ()
    """Packs (row ids) all of whose chunks the index has there."""
    few: Mapping[int, Sequence[tuple[Digest, Location]]] = field(default_factory=dict)
    """The chunks of packs of which it has few, or none."""


@dataclass(slots=True)
class _Collection:
    home: Home
    before: float
    """Only what is older than this moment is removed."""
    dry_run: bool
    generation: int = 0
    """The generation whose writers must be done before what was condemned can be removed."""
    marking: Marking = field(init=False)
    garbage: dict[str, PackGarbage] = field(default_factory=dict)
    stored: dict[str, ObjectInfo] = field(default_factory=dict)
    unfinished: list[ObjectInfo] = field(default_factory=list)
    condemned: dict[int, PackRow] = field(default_factory=dict)
    live_chunks: int = 0
    live_bytes: int = 0
    removed: int = 0
    freed_bytes: int = 0
    rewritten_bytes: int = 0
    dropped_results: int = 0
    listed_generation: int = 0

    # ---- finding ---------------------------------------------------------------------------------------------

    def find(self) -> None:
        """Find the garbage; condemn the packs that are to go, with what is in use of them copied elsewhere."""
        self.stored = {info.key.rpartition("/")[2]: info for info in self.home.objects.list("packs/")}
        if isinstance(self.home.objects, LocalObjects):
            self.unfinished = list(self.home.objects.unfinished())
        if not self.dry_run:
            self._begin()
        roots, packs = self._preview() if self.dry_run else self._used()
        self.marking, use = mark(self.home, roots, packs)
        self.live_chunks = sum(each.chunks for each in use.values())
        self.live_bytes = sum(each.bytes for each in use.values())
        self._note_strays(packs)
        doomed = [pack for pack in packs if self._judge(pack, use[pack.id])]
        if not self.dry_run:
            self._condemn(doomed)
        kept = {pack.name: use[pack.id] for pack in packs if not pack.condemned and pack.id not in self.condemned}
        remember(self.home, self.marking, kept)

    @property
    def waits(self) -> bool:
        """Whether there is anything that can only be removed when running writers are done."""
        strays = any(each.fate in (PackFate.ORPHAN, PackFate.UNFINISHED) for each in self.garbage.values())
        return bool(self.condemned) or strays

    def _used(self) -> tuple[list[RootRow], list[PackRow]]:
        with self.home.catalog.read() as tx:
            return garbage_sql.roots(tx), garbage_sql.packs(tx)

    def _preview(self) -> tuple[list[RootRow], list[PackRow]]:
        """What would be in use if a collection began now; nothing is changed."""
        drained = self.home.drained_generation(as_if_next=True)
        with self.home.catalog.preview() as tx:
            self.dropped_results = self._drop_results(tx)
            file_cuts.drop_unused(tx, before=self.before - CUTS_KEPT_SECONDS)
            garbage_sql.forget_released(tx, drained)
            packs = garbage_sql.packs(tx)
            self.condemned = {pack.id: pack for pack in packs if 0 < pack.condemned <= drained}
            return garbage_sql.roots(tx), packs

    def _begin(self) -> None:
        """Tell writers that began by now from later ones, and forget what only readers that are done could still read."""
        with self.home.catalog.write() as tx:
            self.dropped_results = self._drop_results(tx)
            file_cuts.drop_unused(tx, before=self.before - CUTS_KEPT_SECONDS)
            self.generation = self.listed_generation = garbage_sql.generation(tx)
            garbage_sql.next_generation(tx)
        drained = self.home.drained_generation()
        with self.home.catalog.write() as tx:
            garbage_sql.forget_released(tx, drained)
            for pack in garbage_sql.packs(tx):
                if 0 < pack.condemned <= drained:
                    self.condemned[pack.id] = pack

    def _drop_results(self, tx: Transaction) -> int:
        """Give up results that no pipeline can find, and those beyond the home's limits; how many runs."""
        unused = garbage_sql.drop_unused_results(tx, before=self.before)
        return unused + len(evict(tx, results.policy(tx), now=self.home.now()))

    def _judge(self, pack: PackRow, use: PackUse) -> bool:
        """Note a pack's garbage; whether it is to be condemned."""
        info = self.stored.get(pack.name)
        if info is None or (use.chunks == pack.chunks and not pack.condemned):
            return False
        size = info.size
        if pack.condemned:
            fate = PackFate.UNUSED if pack.id in self.condemned else PackFate.HELD
        elif info.modified > self.before:
            fate = PackFate.YOUNG
        elif use.chunks == 0:
            fate = PackFate.UNUSED
        elif use.bytes < SPARSE_BELOW * size:
            fate = PackFate.SPARSE
        else:
            fate = PackFate.PARTLY_USED
        self._note(pack.name, fate, size, size - use.bytes)
        return not pack.condemned and fate in (PackFate.UNUSED, PackFate.SPARSE)

    def _note_strays(self, packs: Sequence[PackRow]) -> None:
        """Note packs that the catalog does not know, and objects that were never finished."""
        registered = {pack.name for pack in packs}
        for name, info in self.stored.items():
            if name not in registered:
                fate = PackFate.YOUNG if info.modified > self.before else PackFate.ORPHAN
                self._note(name, fate, info.size, info.size)
        for info in self.unfinished:
            fate = PackFate.YOUNG if info.modified > self.before else PackFate.UNFINISHED
            self._note(info.key.rpartition("/")[2], fate, info.size, info.size)

    def _note(self, name: str, fate: PackFate, size: int, garbage: int) -> None:
        self.garbage[name] = PackGarbage(PackId(name), fate, size, garbage)

    def _condemn(self, doomed: Sequence[PackRow]) -> None:
        """Copy what is in use out of sparse packs; then, in one transaction, point the index to the copies and condemn. So many packs at
        a time that the copies' chunks fit in memory."""
        known = self._in_index(doomed)
        for some in _rounds(doomed):
            self._condemn_some(some, known)

    def _condemn_some(self, doomed: Sequence[PackRow], known: _InIndex) -> None:
        with PackRewriter(self.home.objects) as rewriter:
            for pack in doomed:
                if self.garbage[pack.name].fate is PackFate.SPARSE:
                    self._rewrite(pack, rewriter, known)
            copies = rewriter.finish()
        self.rewritten_bytes += sum(copy.chunk_bytes for copy in copies)
        kept = [pack for pack in doomed if self.garbage[pack.name].fate is not PackFate.PARTLY_USED]
        with self.home.catalog.write() as tx:
            self.generation = garbage_sql.generation(tx)
            garbage_sql.condemn(tx, [pack.id for pack in kept], self.generation)
            garbage_sql.set_epoch(tx, new_id())
            garbage_sql.next_generation(tx)
            for copy in copies:
                chunk_index.register(tx, [copy.record()])
        self.condemned |= {pack.id: pack for pack in kept}

    def _rewrite(self, pack: PackRow, rewriter: PackRewriter, known: _InIndex) -> None:
        try:
            for used in self._used_of(pack, known):
                rewriter.copy(used)
        except (Corrupt, NotFound):
            # Left as it is, for fsck to name and repair; a copy of part of it does no harm.
            self._refate(pack.name, PackFate.PARTLY_USED)

    # ---- removing --------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Remove what was condemned and is unused still, now that those who may have counted on it are done."""
        drained = self.home.drained_generation()
        roots, rows = self._used()
        packs = {pack.id: pack for pack in rows}
        self.marking.add(roots)
        known = self._in_index([packs[id] for id in self.condemned])
        for id in self.condemned:
            pack = packs[id]
            if pack.condemned > drained:
                self._refate(pack.name, PackFate.HELD)
            elif any(self._used_of(pack, known)):
                with self.home.catalog.write() as tx:
                    garbage_sql.restore(tx, id)
                self._refate(pack.name, PackFate.PARTLY_USED)
            else:
                self._drop(pack, known)
        self._remove_strays({pack.name for pack in packs.values()}, drained)

    def _in_index(self, packs: Sequence[PackRow]) -> _InIndex:
        """What the chunk index has in these packs, where a pass over the index is less work than to look for their chunks."""
        if sum(pack.chunks for pack in packs) <= LOOK_UP_CHUNKS:
            return _InIndex()
        with self.home.catalog.read() as tx:
            counts = {pack.id: 0 for pack in packs} | garbage_sql.chunk_counts(tx)
            few = [pack.id for pack in packs if counts[pack.id] < pack.chunks // _FEW_PART]
            rows = garbage_sql.chunks_of(tx, few)
        names = {pack.id: PackId(pack.name) for pack in packs}
        found: dict[int, list[tuple[Digest, Location]]] = {id: [] for id in few}
        for id, digest, *place in rows:
            found[id].append((Digest(digest), Location(names[id], *place)))
        return _InIndex({pack.id for pack in packs if counts[pack.id] == pack.chunks}, found)

    def _used_of(self, pack: PackRow, known: _InIndex) -> Iterator[list[tuple[Digest, Location]]]:
        """The chunks in use that the index has in this pack, some at a time; never none."""
        for chunks in self._chunks_of(pack, known):
            used = self.marking.live.contains(heads_of([digest for digest, _ in chunks])).tolist()
            if any(used):
                yield [chunk for chunk, use in zip(chunks, used, strict=True) if use]

    def _chunks_of(self, pack: PackRow, known: _InIndex) -> Iterator[list[tuple[Digest, Location]]]:
        """The chunks that the index has in this pack, some at a time; never none."""
        if pack.id in known.few:
            if known.few[pack.id]:
                yield list(known.few[pack.id])
            return
        try:
            info = self.stored.get(pack.name)
            size, index = read_index_bytes(
                self.home.objects, PackId(pack.name), size=None if info is None else info.size
            )
        except (Corrupt, NotFound):
            chunks = chunks_by_pack(self.home, [pack.id])[pack.id]
            if chunks:
                yield chunks
            return
        for start in range(0, len(index), _SLICE_CHUNKS * ENTRY.size):
            own = pack_record(PackId(pack.name), size, index[start : start + _SLICE_CHUNKS * ENTRY.size]).chunks
            if pack.id in known.whole:
                yield list(own)
                continue
            places = self.home.chunks.locate([digest for digest, _ in own])
            here = [(digest, place) for digest, place in places.items() if place.pack == pack.name]
            if here:
                yield here

    def _drop(self, pack: PackRow, known: _InIndex) -> None:
        """First the index, then the object: a crash between them leaves an orphan, never a row without its pack."""
        here = [sorted(digest for digest, _ in chunks) for chunks in self._chunks_of(pack, known)]
        with self.home.catalog.write() as tx:
            for digests in here:
                garbage_sql.drop_chunks(tx, pack.id, digests)
            garbage_sql.drop_pack(tx, pack.id)
        self._delete(pack_key(PackId(pack.name)), pack.size_bytes)

    def _remove_strays(self, registered: set[str], drained: int) -> None:
        settled = drained >= self.listed_generation
        for name, found in list(self.garbage.items()):
            if found.fate is PackFate.ORPHAN and name in registered:
                del self.garbage[name]
            elif found.fate in (PackFate.ORPHAN, PackFate.UNFINISHED) and not settled:
                self._refate(name, PackFate.HELD)
            elif found.fate is PackFate.ORPHAN:
                self._delete(pack_key(PackId(name)), found.bytes)
        for info in self.unfinished:
            name = info.key.rpartition("/")[2]
            if name in self.garbage and self.garbage[name].fate is PackFate.UNFINISHED:
                self._delete(info.key, info.size)

    def _delete(self, key: str, size: int) -> None:
        try:
            self.home.objects.delete(key)
        except NotFound:
            return  # an attempt that reported an error had done it
        self.removed += 1
        self.freed_bytes += size

    def _refate(self, name: str, fate: PackFate) -> None:
        found = self.garbage.get(name)
        if found is not None:
            self.garbage[name] = PackGarbage(found.pack, fate, found.bytes, found.garbage_bytes)

    def report(self, seconds: float) -> GarbageReport:
        ordered = sorted(self.garbage.values(), key=lambda each: (-each.garbage_bytes, each.pack))
        gone = [each for each in ordered if each.fate in _REMOVED]
        return GarbageReport(
            dry_run=self.dry_run,
            packs=len(self.stored),
            bytes=sum(info.size for info in self.stored.values()),
            live_chunks=self.live_chunks,
            live_bytes=self.live_bytes,
            garbage=tuple(ordered),
            removed_packs=len(gone) if self.dry_run else self.removed,
            rewritten_bytes=self.rewritten_bytes,
            freed_bytes=sum(each.garbage_bytes for each in gone) if self.dry_run else self._freed(),
            dropped_results=self.dropped_results,
            seconds=seconds,
        )

    def _freed(self) -> int:
        return self.freed_bytes - self.rewritten_bytes


_REMOVED = (PackFate.UNUSED, PackFate.SPARSE, PackFate.ORPHAN, PackFate.UNFINISHED)


def _rounds(packs: Sequence[PackRow]) -> Iterator[Sequence[PackRow]]:
    """Packs in groups that do not have too many chunks; a larger pack is a group of its own."""
    some: list[PackRow] = []
    chunks = 0
    for pack in packs:
        if some and chunks + pack.chunks > _ROUND_CHUNKS:
            yield some
            some, chunks = [], 0
        some.append(pack)
        chunks += pack.chunks
    if some:
        yield some


def chunks_by_pack(home: Home, pack_ids: Sequence[int]) -> dict[int, list[tuple[Digest, Location]]]:
    """{pack row id: the chunks that the index has in it}, for packs whose own index can't be asked. One pass over the index."""
    found: dict[int, list[Digest]] = {id: [] for id in pack_ids}
    wanted = np.array(pack_ids, dtype=np.int64)
    for page in chunk_pages(home):
        for at in np.flatnonzero(np.isin(page.packs, wanted)).tolist():
            found[int(page.packs[at])].append(Digest(page.digests[at]))
    return {id: list(home.chunks.locate(digests).items()) for id, digests in found.items()}
