"""Mends a store: rebuilds the chunk index from the packs, and takes lost chunks from other copies."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from paddock.catalog import chunk_index
from paddock.catalog import garbage as garbage_sql
from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest, PackId, new_id
from paddock.model.records import Location, PackRecord
from paddock.runtime.garbage import chunks_by_pack
from paddock.runtime.lost_chunks import Lost
from paddock.runtime.pack_census import chunk_pages
from paddock.storage.chunks import read_chunk, read_located
from paddock.storage.digest_set import Heads, heads_of, member_of
from paddock.storage.objects import Bytes, ObjectStore
from paddock.storage.os_errors import translate
from paddock.storage.pack_rewriting import PackRewriter
from paddock.storage.packs import read_pack_index
from paddock.storage.streams import named_pieces
from paddock.versions.home import Home

_FLUSHED_CHUNKS = 100_000


class Repair:
    """One repair, in rounds. Each step is one transaction of its own: a crash leaves what was mended so far.

    source: a directory of files or another home; NotFound where it is not there.
    """

    def __init__(self, home: Home, source: Path | None) -> None:
        self.restored = 0
        self.done: list[str] = []
        self._home = home
        self._source = source
        if source is not None and not source.exists():
            raise NotFound(f"{source} does not exist; name a directory with the files, or another home")
        self._rebuilt = False

    def mend(self, lost: Lost, missing: Heads, whole: Collection[str], *, rebuild: bool) -> bool:
        """One round, for what a check found; whether chunks were regained, so that another check is worth while. What is lost is out of
        the index then. whole: packs (names) all of whose chunks the index has there."""
        before = self.restored
        saved = self._drop(lost) if lost else 0
        if rebuild:
            self._rebuild(whole)
        if self._source is not None and len(missing):
            self._take(missing)
        return saved > 0 or self.restored > before

    def _drop(self, lost: Lost) -> int:
        """Take out of the index what can't be read; save what can be from packs whose own index is gone. How many chunks were saved."""
        indexed = chunks_by_pack(self._home, [row.id for row in lost.torn]) if lost.torn else {}
        with PackRewriter(self._home.objects) as rewriter:
            for chunks in indexed.values():
                rewriter.copy([chunk for chunk in chunks if chunk[0] not in lost.chunks])
            copies = rewriter.finish()
        with self._home.catalog.write() as tx:
            garbage_sql.condemn(tx, [row.id for row in lost.packs], garbage_sql.generation(tx))
            chunk_index.register(tx, [copy.record() for copy in copies])
            for pack, digests in lost.by_pack():
                garbage_sql.drop_chunks(tx, pack, digests)
            for row in lost.torn:
                garbage_sql.drop_chunks(tx, row.id, sorted(digest for digest, _ in indexed[row.id]))
            for row in lost.packs:
                garbage_sql.drop_pack(tx, row.id)
            garbage_sql.set_epoch(tx, new_id())
            garbage_sql.next_generation(tx)
        saved = sum(copy.chunks for copy in copies)
        if lost.chunk_count:
            self.done.append(f"took {_chunks(lost.chunk_count)} that can't be read out of the index")
        if lost.packs:
            self.done.append(f"gave up {_packs(len(lost.packs))}; {_chunks(saved)} of what they held could be saved")
        return saved

    def _rebuild(self, whole: Collection[str]) -> None:
        """Enter chunks that packs have and the index does not, each read once before."""
        if self._rebuilt:
            return
        self._rebuilt = True
        entered = 0
        for info in self._home.objects.list("packs/"):
            pack = PackId(info.key.rpartition("/")[2])
            if pack in whole:
                continue
            try:
                record = read_pack_index(self._home.objects, pack, size=info.size)
            except (Corrupt, NotFound):
                continue
            known = self._home.chunks.locate([digest for digest, _ in record.chunks])
            absent = [chunk for chunk in record.chunks if chunk[0] not in known]
            good = [chunk for chunk in absent if self._readable(*chunk)]
            if good:
                with self._home.catalog.write() as tx:
                    chunk_index.enter(tx, PackRecord(record.pack, record.bytes, tuple(good)), chunks=len(record.chunks))
                    garbage_sql.set_epoch(tx, new_id())  # no longer is a pack's part of the index what it was
                entered += len(good)
        if entered:
            self.restored += entered
            self.done.append(f"entered {_chunks(entered)} into the index that packs have and it did not")

    def _readable(self, digest: Digest, place: Location) -> bool:
        try:
            read_chunk(self._home.objects, digest, place)
        except (Corrupt, NotFound):
            return False
        return True

    def _take(self, missing: Heads) -> None:
        """Store chunks among `missing` (sorted) that the source has."""
        assert self._source is not None, "asked only with a source"
        taken = waiting = 0
        with self._home.chunks.writer() as writer:
            for digest, data in self._offered(self._source, missing):
                writer.put_named(digest, data)
                waiting += 1
                if waiting == _FLUSHED_CHUNKS:  # until then the writer holds an object for each
                    taken, waiting = taken + _chunks_of(writer.flush()), 0
            taken += _chunks_of(writer.flush())
        if taken:
            self.restored += taken
            self.done.append(f"took {_chunks(taken)} from {self._source}")

    def _offered(self, source: Path, missing: Heads) -> Iterator[tuple[Digest, Bytes]]:
        if (source / "home.json").is_file():
            with Home.open(source) as other:
                for page in chunk_pages(other):
                    wanted = [
                        Digest(page.digests[at]) for at in np.flatnonzero(member_of(page.heads, missing)).tolist()
                    ]
                    # Pack by pack, front to back: a disk and a network store are read in order.
                    places = sorted(
                        other.chunks.locate(wanted).items(), key=lambda found: (found[1].pack, found[1].offset)
                    )
                    yield from _readable_of(other.objects, places)
            return
        for path in _files_below(source):
            try:
                with path.open("rb", buffering=0) as file:
                    for digest, piece in named_pieces(file, self._home.chunking):
                        if member_of(heads_of([digest]), missing)[0]:
                            yield digest, piece
            except OSError as error:
                raise translate(error, "read", path, reading=True) from error


def _readable_of(objects: ObjectStore, places: Sequence[tuple[Digest, Location]]) -> Iterator[tuple[Digest, Bytes]]:
    """Chunks where they lie, read together; without those that are lost there too."""
    done = 0
    try:
        for (digest, _), data in zip(places, read_located(objects, places), strict=True):
            yield digest, data
            done += 1
    except (Corrupt, NotFound):
        for digest, place in places[done:]:
            try:
                yield digest, read_chunk(objects, digest, place)
            except (Corrupt, NotFound):
                continue


def _packs(number: int) -> str:
    return "1 lost pack" if number == 1 else f"{number} lost packs"


def _chunks(number: int) -> str:
    return "1 chunk" if number == 1 else f"{number} chunks"


def _chunks_of(packs: Sequence[PackRecord]) -> int:
    return sum(len(pack.chunks) for pack in packs)


def _files_below(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for directory, _, names in os.walk(source):
        for name in names:
            path = Path(directory, name)
            if path.is_file():
                yield path
