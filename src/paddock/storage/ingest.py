"""From a directory on the local disk to stored chunks and tree rows.

Files that an earlier scan knows are not read again. Many small files are read by helper processes, a few in this one; larger ones are
read ahead by threads, which is enough as hashing and cutting them needs no interpreter lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound, Problem
from paddock.model.ids import Digest
from paddock.model.limits import PATH_BYTES_MAX
from paddock.model.services import OnTransfer
from paddock.storage.chunking import ChunkingParameters, Reader, StoredFile, stored_file
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.columnar import arrow_schema, key_bytes, number_array, single_array
from paddock.storage.file_reading import SMALL_BYTES, Changed, Grown, Stamp, open_regular, read_small, stamp_of
from paddock.storage.ingest_helpers import Batch, Helpers
from paddock.storage.ingest_worker import CHANGED, EMPTY, GROWN, OK
from paddock.storage.objects import LocalObjects
from paddock.storage.os_errors import translate
from paddock.storage.recutting import EarlierVersion, recut_pieces
from paddock.storage.scan import Scan, Stamps, refuse, scan_source
from paddock.storage.scan_cache import ScanCache, cache_table, settled, unchanged
from paddock.storage.scan_marks import ScanMarks, settled_marks
from paddock.storage.streams import Pieces, name_pieces, named_pieces
from paddock.storage.transfer_progress import TransferProgress
from paddock.storage.tree_kinds import TREE

HELPER_FILES_MIN = 3000
"""From here on helpers save more (about 20 µs a file and core) than their start costs (about 0.1 s)."""
_WHOLE_BYTES = 32 << 20
"""Files up to here are read whole, two at a time; larger ones as streams."""
_READ_AHEAD = 2
_SAMPLE_CHUNKS = 500
_SAVED_SHARE, _UNSAVED_BYTES = 2000, 4 << 20

_SIZED_AT_ONCE = 1 << 14

EarlierFile = Callable[[str], StoredFile | None]
"""What is stored already as the file of a path in the tree, where that is known: most of its bytes may be there again."""

_FAULT_CHANGED = "changed while it was read; put it again when nothing writes to it"


@dataclass(frozen=True, slots=True)
class Committed:
    """The tree in which all files of a put are. mirrored: no others are at or below their target."""

    tree: Digest
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was put. `table`: rows of TREE below the target, sorted. Files that were not read again count in `files` and `bytes`."""

    table: pa.Table
    files: int
    bytes: int
    read_files: int
    commit_cache: Callable[[Committed | None], None]
    """Remember the scan. Call it once the writer is flushed and the commit is made, with the tree where that is known."""


def add_tree(
    store: ChunkStore,
    writer: ChunkWriter,
    source: Path,
    target: str,
    *,
    cache_dir: Path | None = None,
    on_transfer: OnTransfer | None = None,
    earlier: EarlierFile | None = None,
) -> Ingested:
    """Store a file as `target`, or the files of a directory below it; the rows are not in any tree yet, the chunks not flushed.
    earlier: asked for files of more than 32 MiB.

    Links are followed, `.paddock` directories skipped, empty directories vanish. A row's digest is always that of the bytes
    stored. InvalidInput lists what can't be stored (see `scan_source`) and files that change while they are read; NotFound: no source; LimitExceeded: disk full. Nothing
    refers to what was stored then. About 9 µs a small file on two cores, 3 µs for one that did not change.
    """
    stem = "" if target == "/" else target
    epoch = store.index.epoch()
    cache = None if cache_dir is None else ScanCache(cache_dir, source, epoch)
    scan = scan_source(source, path_bytes_max=PATH_BYTES_MAX - len(stem.encode()))
    reading = _Reading(scan, store, writer, on_transfer, lambda path: earlier and earlier(stem + path))
    if cache is not None:
        reading.reuse(cache.load())
    reading.read()
    refuse(source, reading.problems)
    paths = pa.array(scan.paths, pa.string())
    digests, chunks = reading.digests(), reading.chunks()

    def commit_cache(committed: Committed | None) -> None:
        if cache_dir is not None and committed is not None:
            marks = settled_marks(scan.marks, scan.started_ns)
            ScanMarks(committed.tree, target, committed.mirrored, marks).save(cache_dir, source, epoch)
        # To read a few files again next time costs less than to write down the whole scan.
        few = reading.read_files <= len(scan) // _SAVED_SHARE and reading.read_bytes <= _UNSAVED_BYTES
        if cache is not None and not few:
            keep = settled(reading.stamps, scan.started_ns)
            cache.save(cache_table(paths, reading.stamps, digests, chunks, keep))

    columns = [
        pc.binary_join_element_wise(stem, paths, "") if stem else paths,
        pa.nulls(len(scan), pa.binary()).fill_null(b""),
        number_array(reading.stamps.size),
        digests,
        number_array(reading.stamps.executable),
        chunks,
    ]
    table = pa.Table.from_arrays(columns, schema=arrow_schema(TREE))
    return Ingested(table, len(scan), int(reading.stamps.size.sum()), reading.read_files, commit_cache)


def add_stream(writer: ChunkWriter, path: str, reader: Reader, *, first: bytes = b"") -> Ingested:
    """Store one stream, after the bytes `first`, as the file `path`."""
    file = writer.put_stream(reader, first=first)
    columns = [[path], [b""], [file.size], [file.digest], [0], [list(file.chunks)]]
    table = pa.table(dict(zip(arrow_schema(TREE).names, columns, strict=True)), schema=arrow_schema(TREE))
    return Ingested(table, 1, file.size, 1, _nothing)


def _nothing(committed: Committed | None) -> None:
    """What is remembered of a source that is read once."""


class _Reading:
    """The state of one ingest: for each scanned file its stamp, digest and chunks, as they become known."""

    def __init__(
        self,
        scan: Scan,
        store: ChunkStore,
        writer: ChunkWriter,
        on_transfer: OnTransfer | None,
        earlier: EarlierFile,
    ) -> None:
        self.stamps: Stamps = scan.stamps
        self.problems: list[Problem] = []
        self.read_files = 0
        self.read_bytes = 0
        self._scan = scan
        self._store = store
        self._writer = writer
        self._earlier = earlier
        self._digests = np.zeros((len(scan), 32), dtype=np.uint8)
        self._chunks: dict[int, Sequence[Digest]] = {}
        self._todo: npt.NDArray[np.int64] = np.arange(len(scan), dtype=np.int64)
        self._progress = TransferProgress(on_transfer, len(scan), int(self.stamps.size.sum()))

    def reuse(self, cached: pa.Table) -> None:
        """Take what the cache knows. Its epoch says that no chunk was removed since."""
        positions, rows = unchanged(pa.array(self._scan.paths, pa.string()), self.stamps, cached)
        if not len(positions):
            return
        lists = single_array(cached.column("chunks"))
        digests = key_bytes(single_array(cached.column("digest")))[1].reshape(-1, 32)[rows]
        many = pc.list_value_length(lists).to_numpy()[rows] > 0
        chunks = {int(positions[at]): lists[int(rows[at])].as_py() for at in np.flatnonzero(many)}
        whole = np.flatnonzero(~many)
        sample = [Digest(digests[at].tobytes()) for at in whole[:: len(whole) // _SAMPLE_CHUNKS + 1]]
        if not self._still_stored([*sample, *chain(*chunks.values())]):
            return
        self._digests[positions] = digests
        self._chunks.update(chunks)
        unknown = np.ones(len(self._scan), dtype=bool)
        unknown[positions] = False
        self._todo = np.flatnonzero(unknown)
        self._progress.advance(len(positions), int(self.stamps.size[positions].sum()))

    def read(self) -> None:
        """Read and store what is not known yet."""
        sizes = self.stamps.size[self._todo]
        small = self._todo[sizes <= SMALL_BYTES].tolist()
        large = self._todo[sizes > SMALL_BYTES].tolist()
        helpers = self._helpers(len(small))
        if helpers is None:
            for position in small:
                self._read_small(position)
            self._read_large(large)
            return
        with helpers:
            helpers.start(self._scan.source, self._scan.paths, small)
            for batch in self._between(large, helpers):
                self._take(batch)

    def digests(self) -> pa.Array:
        return pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(self._digests), [None, pa.py_buffer(self._digests)]
        )

    def chunks(self) -> pa.Array:
        counts = np.zeros(len(self._digests) + 1, dtype=np.int32)
        for position, chunks in self._chunks.items():
            counts[position + 1] = len(chunks)
        values = [chunk for position in sorted(self._chunks) for chunk in self._chunks[position]]
        offsets = number_array(np.cumsum(counts, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array(values, pa.binary(32)))

    def _still_stored(self, digests: Sequence[Digest]) -> bool:
        """Whether the index knows some of the cached chunks: it may have been restored from an older copy."""
        sample = {digest for digest in digests[:: len(digests) // _SAMPLE_CHUNKS + 1] if digest != EMPTY}
        return len(self._store.index.known(list(sample))) == len(sample)

    def _helpers(self, files: int) -> Helpers | None:
        objects = self._store.objects
        if files < HELPER_FILES_MIN or not isinstance(objects, LocalObjects):
            return None
        try:
            return Helpers(self._store, objects, self._writer)
        except OSError:
            return None  # without another process it only takes longer

    def _between(self, large: Sequence[int], helpers: Helpers) -> Iterator[Batch]:
        """Read the large files here while the helpers read the small ones."""
        for start in range(0, len(large), 16):
            self._read_large(large[start : start + 16])
            yield from helpers.results(wait=False)
        yield from helpers.results(wait=True)

    def _take(self, batch: Batch) -> None:
        records, positions = batch.records, np.asarray(batch.positions, dtype=np.int64)
        good = records["status"] == OK
        done, chosen = positions[good], records[good]
        digests = np.ascontiguousarray(chosen["digest"]).view(np.uint8).reshape(-1, 32)
        self._digests[done] = digests
        for name in ("size", "mtime_ns", "ctime_ns"):
            getattr(self.stamps, name)[done] = chosen[name]
        self.stamps.inode[done] = chosen["inode"].view(np.int64) if len(done) else done
        self.stamps.executable[done] = chosen["executable"]
        self._count(len(done), int(chosen["size"].sum()))
        for at in np.flatnonzero(~good).tolist():
            status, position = int(records["status"][at]), int(positions[at])
            if status == GROWN:
                self._read_large([position])
            elif status == CHANGED:
                self._refuse(position, _FAULT_CHANGED)
            else:
                self._fail(position, OSError(int(records["errno"][at]), os.strerror(int(records["errno"][at]))))

    def _read_small(self, position: int) -> None:
        try:
            data, stamp = read_small(self._name(position))
        except Changed:
            self._refuse(position, _FAULT_CHANGED)
        except Grown:
            self._read_large([position])
        except OSError as error:
            self._fail(position, error)
        else:
            digest = self._writer.put(data) if data else EMPTY
            self._note(position, stamp, StoredFile(len(data), digest))

    def _read_large(self, positions: Sequence[int]) -> None:
        with ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="paddock-read") as pool:
            ahead: deque[tuple[int, Future[_Whole] | None]] = deque()
            for position in positions:
                whole = self.stamps.size[position] <= _WHOLE_BYTES
                task = pool.submit(_read_whole, self._name(position), self._writer.chunking) if whole else None
                ahead.append((position, task))
                if len(ahead) > _READ_AHEAD:
                    self._finish_large(*ahead.popleft())
            while ahead:
                self._finish_large(*ahead.popleft())

    def _finish_large(self, position: int, task: Future[_Whole] | None) -> None:
        try:
            stamp, file = self._put_stream(position) if task is None else self._put_whole(task.result())
        except Changed:
            self._refuse(position, _FAULT_CHANGED)
        except OSError as error:
            self._fail(position, error)
        else:
            self._note(position, stamp, file)

    def _put_whole(self, whole: _Whole) -> tuple[Stamp, StoredFile]:
        chunks = [self._writer.put_named(digest, piece) for digest, piece in whole.pieces]
        return whole.stamp, stored_file(whole.stamp.size, chunks)

    def _put_stream(self, position: int) -> tuple[Stamp, StoredFile]:
        earlier = self._earlier_version(position)
        for _ in range(2):
            fd, stamp = open_regular(self._name(position))
            with os.fdopen(fd, "rb", buffering=0) as file:
                chunking = self._writer.chunking
                if earlier is None:
                    pieces = named_pieces(file, chunking)
                else:
                    pieces = recut_pieces(file, stamp.size, chunking, earlier)
                stored = self._writer.put_pieces(pieces)
                if stamp_of(os.fstat(fd)) == stamp and stored.size == stamp.size:
                    return stamp, stored
        raise Changed

    def _earlier_version(self, position: int) -> EarlierVersion | None:
        """What the file was when it was put last; None where that is not known, or of one chunk."""
        try:
            file = self._earlier(self._scan.paths[position])
            listed = () if file is None else file.chunks[:-1]
            sizes = [
                size
                for start in range(0, len(listed), _SIZED_AT_ONCE)
                for size in self._store.chunk_sizes(listed[start : start + _SIZED_AT_ONCE])
            ]
        except (Corrupt, NotFound):
            return None  # lost: putting the file again is what stores it anew
        if not listed:
            return None
        self._writer.expect(listed)
        return EarlierVersion(listed, sizes)

    def _note(self, position: int, stamp: Stamp, file: StoredFile) -> None:
        self._digests[position] = np.frombuffer(file.digest, dtype=np.uint8)
        if file.chunks:
            self._chunks[position] = file.chunks
        self.stamps.size[position] = stamp.size
        self.stamps.mtime_ns[position] = stamp.mtime_ns
        self.stamps.ctime_ns[position] = stamp.ctime_ns
        self.stamps.inode.view(np.uint64)[position] = stamp.inode
        self.stamps.executable[position] = stamp.executable
        self._count(1, stamp.size)

    def _count(self, files: int, size: int) -> None:
        self.read_files += files
        self.read_bytes += size
        self._progress.advance(files, size)

    def _name(self, position: int) -> str:
        return self._scan.source + self._scan.paths[position]

    def _refuse(self, position: int, fault: str) -> None:
        self.problems.append(Problem(self._scan.paths[position] or self._scan.source, fault))

    def _fail(self, position: int, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            self._refuse(position, "vanished while its directory was read; put it again when nothing changes it")
        elif isinstance(error, PermissionError):
            self._refuse(position, "may not be read; check its owner and mode")
        else:
            raise translate(error, "read", self._name(position), reading=True) from error


@dataclass(frozen=True, slots=True)
class _Whole:
    stamp: Stamp
    pieces: Pieces


def _read_whole(path: str, chunking: ChunkingParameters) -> _Whole:
    """A file that fits in memory, cut and hashed. Raises Changed or OSError. Runs in a thread."""
    for _ in range(2):
        fd, stamp = open_regular(path)
        with os.fdopen(fd, "rb", buffering=0) as file:
            data = _read_all(file.read, stamp.size + 1)
            if stamp_of(os.fstat(fd)) == stamp and len(data) == stamp.size:
                return _Whole(stamp, name_pieces(data, chunking))
    raise Changed


def _read_all(read: Callable[[int], bytes | None], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        data = read(size)
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
