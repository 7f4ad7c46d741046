"""Putting a directory again of which little changed, without a look at the files of directories in which nothing did.

No pyarrow or numpy here: loading them takes as long as all the rest. Whatever is not simple (another tree than the last put left, many
changes, large or unreadable files, paths that clash) is left to `puts`, which starts over; nothing was committed then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from paddock.model.addresses import Address, parse_address, target_path
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt
from paddock.model.ids import CommitId, Digest
from paddock.model.limits import PATH_BYTES_MAX
from paddock.model.records import CommitState, PutReport
from paddock.model.services import OnTransfer
from paddock.storage.chunking import EMPTY_DIGEST
from paddock.storage.chunks import ChunkWriter
from paddock.storage.file_reading import Changed, Grown, read_small
from paddock.storage.remembered_scans import SCAN, RememberedScan
from paddock.storage.scan_ahead import Look, drop_scan, look
from paddock.storage.scan_marks import ScanMarks, settled_marks
from paddock.storage.segment_views import SegmentView
from paddock.storage.small_trees import SmallTrees, tree_row
from paddock.storage.transfer_progress import TransferProgress
from paddock.storage.tree_kinds import TreeRow
from paddock.storage.walk import Found
from paddock.versions.home import Home
from paddock.versions.targets import Target, commit_tree, locate

_FILES_MAX = 5000
"""Files in directories that changed, each looked at by itself; from here on whole columns are faster."""


class _NotSimple(Exception):  # noqa: N818 - an outcome, caught by the one caller
    """What changed is for `puts` to put."""


def put_again(
    home: Home, target: str, source: Path, *, mirror: bool, on_transfer: OnTransfer | None
) -> PutReport | None:
    """As `Files.put_tree`, of a directory that processes walk already (`scan_ahead`). None: it is left to that, and nothing happened."""
    root = os.path.abspath(source)
    found = look(root)
    if found is None:
        return None
    address, path = parse_address(target), target_path(target, None)
    with home.pin():
        epoch = home.chunks.index.epoch()
        marks = ScanMarks.load(home.cache, source, epoch)
        if marks is None or marks.target != path or (mirror and not marks.mirrored):
            return None
        try:
            report = _Again(home, address, source, path, mirror, marks, found, epoch).put()
        except _NotSimple:
            return None
    drop_scan(root)
    TransferProgress(on_transfer, report.files, report.bytes).advance(report.files, report.bytes)
    return report


@dataclass(frozen=True, slots=True)
class _Changes:
    upserts: Sequence[TreeRow]
    deletions: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Again:
    """One such put. Each step raises _NotSimple where it is left to others."""

    home: Home
    address: Address
    source: Path
    path: str
    mirror: bool
    marks: ScanMarks
    found: Look
    epoch: str

    def put(self) -> PutReport:
        started = time.monotonic()
        target = self._located()
        changed = self._changed_directories()
        files = self._files_of(changed)
        with self.home.chunks.writer() as writer:
            trees = SmallTrees(self.home.chunks)
            changes = self._changes(files, changed, trees, writer)
            commit, tree = self._commit(target, changes, trees, writer)
            stored_bytes = writer.stored_bytes
        self._remember(tree, files, changed)
        return PutReport(
            commit=commit,
            files=sum(mark.files for mark in self.found.marks),
            bytes=sum(mark.total_bytes for mark in self.found.marks),
            changed=len(changes.upserts),
            removed=len(changes.deletions),
            stored_bytes=stored_bytes,
            seconds=time.monotonic() - started,
        )

    def _changed_directories(self) -> list[int]:
        """Those whose mark is new, by their place in what was found."""
        known, marks = self.marks.directories, self.found.marks
        changed = [
            number for number, mark in enumerate(marks) if not mark.digest or known.get(mark.path) != mark.digest.hex()
        ]
        gone = len(known.keys() - {mark.path for mark in marks})
        if gone or sum(marks[number].files for number in changed) > _FILES_MAX:
            raise _NotSimple
        return changed

    def _files_of(self, changed: Sequence[int]) -> Found:
        files = self.found.files(changed)
        longest = PATH_BYTES_MAX - len(self.path.encode())
        if files is None or any(len(path.encode()) > longest for path in files.paths):
            raise _NotSimple
        return files

    def _changes(self, files: Found, changed: Sequence[int], trees: SmallTrees, writer: ChunkWriter) -> _Changes:
        """What the tree lacks of the files in the directories that changed, and has too much."""
        cached = self._cached()
        upserts: list[TreeRow] = []
        deletions: list[str] = []
        rows = zip(files.paths, *files.columns, strict=True)
        for number in changed:
            mark = self.found.marks[number]
            known = _Known.of(cached, mark.path)
            present = {
                path: (view, row)
                for path, view, row in trees.files_in(self.marks.tree, self._in_tree(mark.path) or "/")
            }
            for path, *status in islice(rows, mark.files):
                place = present.pop(self._in_tree(path), None)
                if not known.same_as(path, status, place):
                    fresh = self._read(path, writer)
                    if place is None or tree_row(*place) != fresh:
                        upserts.append(fresh)
            if self.mirror:
                deletions += present
        return _Changes(upserts, deletions)

    def _read(self, path: str, writer: ChunkWriter) -> TreeRow:
        """Store a file that the last scan does not know as it is."""
        try:
            data, stamp = read_small(os.path.abspath(self.source) + path)
        except (Changed, Grown, OSError):
            raise _NotSimple from None
        digest = writer.put(data) if data else EMPTY_DIGEST
        return TreeRow(self._in_tree(path), b"", len(data), digest, stamp.executable, ())

    def _cached(self) -> SegmentView | None:
        body = RememberedScan(self.home.cache, SCAN.name, self.source, self.epoch).load()
        try:
            return None if body is None else SegmentView(SCAN, body)
        except Corrupt:
            return None

    def _commit(
        self, target: Target, changes: _Changes, trees: SmallTrees, writer: ChunkWriter
    ) -> tuple[CommitId | None, Digest]:
        base = self.marks.tree
        tree = trees.merge(base, changes.upserts, changes.deletions, writer)
        if tree is None:
            raise _NotSimple
        if tree == base and self.mirror:
            return None, tree
        writer.flush()
        root = trees.root(tree)
        with self.home.wait_lock(f"repo-{target.repo.id}"):
            commit = commit_tree(self.home, self.address, target, tree, files=root.rows, size_bytes=root.weight)
        if commit is None:
            raise _NotSimple
        return commit, tree

    def _located(self) -> Target:
        """The target, where it still has the tree that the last put left."""
        with self.home.catalog.read() as tx:
            target = locate(tx, self.address, create_branch=True)
        head = target.head
        if (
            target.open is not None
            or head is None
            or head.state != CommitState.FINISHED
            or head.tree != self.marks.tree.hex()
        ):
            raise _NotSimple
        return target

    def _remember(self, tree: Digest, files: Found, changed: Sequence[int]) -> None:
        found = self.found.marks
        fresh = settled_marks([found[number] for number in changed], files.started_ns)
        after = {**self.marks.directories, **fresh}
        if tree != self.marks.tree or after != self.marks.directories:
            ScanMarks(tree, self.path, self.marks.mirrored, after).save(self.home.cache, self.source, self.epoch)

    def _in_tree(self, path: str) -> str:
        """A path below the source as a path of the tree."""
        return path if self.path == "/" else f"{self.path}{path}"


class _Known:
    """What the last scan that was written down says of the files in one directory."""

    def __init__(self, view: SegmentView | None, rows: dict[str, int]) -> None:
        self._view = view
        self._rows = rows
        self._stamps = (
            [] if view is None else [view.numbers(name) for name in ("size", "mtime_ns", "ctime_ns", "inode")]
        )

    @classmethod
    def of(cls, view: SegmentView | None, directory: str) -> _Known:
        if view is None:
            return cls(None, {})
        stem = f"{directory}/".encode()
        return cls(view, {view.key(row).decode(): row for row in view.directly_below(stem, view.bisect(stem))})

    def same_as(self, path: str, status: Sequence[int], place: tuple[SegmentView, int] | None) -> bool:
        """Whether a file is as it was scanned, and the tree has it so at this place. status: as the columns of a walk."""
        row = self._rows.get(path)
        if row is None or place is None or self._view is None:
            return False
        if [column[row] for column in self._stamps] != status[:-1]:
            return False
        view, at = place
        return (
            view.value(at, "digest") == self._view.value(row, "digest")
            and view.value(at, "executable") == bool(status[-1] & stat.S_IXUSR)
            and not view.value(at, "datum")
        )
