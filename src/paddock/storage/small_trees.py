"""A few files of a tree, read and changed. No pyarrow or numpy: loading them takes longer than the work.

What is made here is what `Trees.merge` makes, byte for byte. Changes that move a cut between segments, or that the tree may refuse, are
left to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from paddock.model.ids import Digest
from paddock.storage.chunks import ChunkStore, ChunkWriter
from paddock.storage.cuts import BOUNDARY_BITS, ends_segment
from paddock.storage.segment_views import Run, SegmentView, joined
from paddock.storage.segments import encode_segment
from paddock.storage.table_roots import Root, SegmentRef, decode_root, empty_root, encode_root, last_key
from paddock.storage.tree_kinds import TREE, TreeRow

_SEGMENTS_KEPT = 32


class SmallTrees:
    """Not thread-safe. Errors of every read: Corrupt, or NotFound for a chunk that the store does not know."""

    def __init__(self, store: ChunkStore, *, boundary_bits: int = BOUNDARY_BITS) -> None:
        """boundary_bits: as of `Tables`."""
        self._store = store
        self._boundary_bits = boundary_bits
        self._views: OrderedDict[Digest, SegmentView] = OrderedDict()
        self._roots: dict[Digest, Root] = {}

    def root(self, digest: Digest) -> Root:
        if digest == empty_root(TREE):
            return Root((), 0, 0)
        if digest not in self._roots:
            self._roots[digest] = decode_root(TREE, self._store.read(digest))
        return self._roots[digest]

    def row(self, root: Digest, path: str) -> TreeRow | None:
        """The file at exactly that path. Some 20 µs in a segment that was read already."""
        segments = self.root(root).segments
        at = bisect_left(segments, path, key=last_key)
        if at == len(segments) or segments[at].first > path:
            return None
        view = self._view(segments[at])
        row = view.find(path.encode())
        return None if row is None else tree_row(view, row)

    def files_in(self, root: Digest, directory: str) -> Iterator[tuple[str, SegmentView, int]]:
        """The files directly in a directory, sorted, and where each is; what lies below other directories in it is passed over."""
        stem = b"/" if directory == "/" else f"{directory}/".encode()
        segments = self.root(root).segments
        for segment in segments[bisect_left(segments, stem.decode(), key=last_key) :]:
            if segment.first.encode() > stem and not segment.first.encode().startswith(stem):
                return
            view = self._view(segment)
            for row in view.directly_below(stem, view.bisect(stem)):
                yield view.key(row).decode(), view, row

    def merge(
        self, root: Digest, upserts: Sequence[TreeRow], deletions: Sequence[str], writer: ChunkWriter
    ) -> Digest | None:
        """The tree without the files `deletions`, and with `upserts` added or replaced; no path is in both.

        None, and nothing put, where a cut moves, or where a file that is added might also be a directory: `Trees.merge` decides then.
        """
        changes: dict[bytes, TreeRow | None] = {path.encode(): None for path in deletions}
        changes.update((row.path.encode(), row) for row in upserts)
        segments = list(self.root(root).segments)
        if not segments:
            return None
        made: dict[Digest, bytes] = {}
        for number, keys in self._by_segment(segments, sorted(changes)).items():
            found = self._changed(root, segments[number], {key: changes[key] for key in keys})
            if found is None:
                return None
            segments[number], data = found
            made[segments[number].digest] = data
        for digest, data in made.items():
            writer.put_named(digest, data)
        return writer.put(encode_root(TREE, segments)) if made else root

    def _by_segment(self, segments: Sequence[SegmentRef], keys: Sequence[bytes]) -> dict[int, list[bytes]]:
        """The sorted keys by the segment that they fall into; those past the end fall into the last."""
        found: dict[int, list[bytes]] = {}
        for key in keys:
            number = bisect_left(segments, key.decode(), key=last_key)
            found.setdefault(min(number, len(segments) - 1), []).append(key)
        return found

    def _changed(
        self, root: Digest, segment: SegmentRef, changes: dict[bytes, TreeRow | None]
    ) -> tuple[SegmentRef, bytes] | None:
        """The segment with the changes, in order of their keys; None as of `merge`."""
        view = self._view(segment)
        runs: list[Run] = []
        weight, start = segment.weight, 0
        for key, row in changes.items():
            at = view.bisect(key)
            present = at < view.rows and view.key(at) == key
            if row is None:
                if present and at == view.rows - 1:
                    return None  # the last row: a cut, or the end of the table
            elif not present and (self._moves_cut(view, at, key) or self._may_clash(root, row.path)):
                return None
            runs.append(Run(view, start, at))
            if row is not None:
                runs.append(Run(_view_of(row), 0, 1))
                weight += row.size
            if present:
                weight -= view.value(at, "size")
            start = at + present
        runs.append(Run(view, start, view.rows))
        data = joined(TREE, runs)
        after = SegmentView(TREE, data)
        first, last = after.key(0).decode(), after.key(after.rows - 1).decode()
        return SegmentRef(first, last, after.rows, weight, Digest(blake3(data).digest())), data

    def _moves_cut(self, view: SegmentView, at: int, key: bytes) -> bool:
        """Whether a new key at this place ends a segment, or follows one that does."""
        if ends_segment(key, self._boundary_bits):
            return True
        return at == view.rows and ends_segment(view.key(at - 1), self._boundary_bits)

    def _may_clash(self, root: Digest, path: str) -> bool:
        """Whether the tree has a file above this path, or files below it."""
        below = self._first_from(root, f"{path}/")
        if below is not None and below.startswith(f"{path}/"):
            return True
        above = path.rpartition("/")[0]
        while above:
            if self.row(root, above) is not None:
                return True
            above = above.rpartition("/")[0]
        return False

    def _first_from(self, root: Digest, path: str) -> str | None:
        """The first path of the tree that is not less."""
        segments = self.root(root).segments
        at = bisect_left(segments, path, key=last_key)
        if at == len(segments):
            return None
        view = self._view(segments[at])
        return view.key(view.bisect(path.encode())).decode()

    def _view(self, segment: SegmentRef) -> SegmentView:
        view = self._views.get(segment.digest)
        if view is None:
            view = self._views[segment.digest] = SegmentView(TREE, self._store.read(segment.digest))
            if len(self._views) > _SEGMENTS_KEPT:
                self._views.popitem(last=False)
        return view


def tree_row(view: SegmentView, row: int) -> TreeRow:
    return TreeRow(
        view.value(row, "path"),
        view.value(row, "datum"),
        view.value(row, "size"),
        view.value(row, "digest"),
        bool(view.value(row, "executable")),
        tuple(view.value(row, "chunks")),
    )


def _view_of(row: TreeRow) -> SegmentView:
    """A segment of one row."""
    columns: dict[str, list[Any]] = {
        "path": [row.path],
        "datum": [row.datum],
        "size": [row.size],
        "digest": [row.digest],
        "executable": [int(row.executable)],
        "chunks": [row.chunks],
    }
    return SegmentView(TREE, encode_segment(TREE, columns))
