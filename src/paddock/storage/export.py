"""From a tree to files on the local disk.

Each file appears under its name whole or not at all: it is written beside under another name, then renamed. No name below
the target is reached through a symbolic link, so nothing is written outside of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from paddock.model.dataclass import dataclass
from paddock.model.errors import NotFound
from paddock.model.ids import Digest
from paddock.model.records import GetReport
from paddock.model.services import OnTransfer
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.chunks import ChunkStore
from paddock.storage.clashes import below
from paddock.storage.file_writers import write_files
from paddock.storage.local_files import is_equal
from paddock.storage.mirror import Mirror
from paddock.storage.mirror_manifest import Manifest
from paddock.storage.output_files import OutputFile, output_files
from paddock.storage.target_directory import TargetDirectory
from paddock.storage.transfer_progress import TransferProgress
from paddock.storage.trees import TREE, Trees


def write_tree(
    store: ChunkStore,
    trees: Trees,
    root: Digest,
    path: str,
    target: Path,
    *,
    mirror: bool = False,
    force: bool = False,
    cache_dir: Path | None = None,
    on_transfer: OnTransfer | None = None,
) -> GetReport:
    """Write the file at `path` to `target` (into it, where that is a directory), or what is below a directory to below `target`.

    Files that are there already with the right content and mode stay untouched, so a `get` that was cut off goes on; others are
    replaced, or left alone where the source has none of their name. Every byte is verified before its file is visible.

    `mirror` remembers in `cache_dir` what it wrote: files that are still as written and equal are left alone, missing
    and modified ones restored, and those that the source no longer has are removed, with the directories that this
    empties, unless someone modified them. A file that Paddock did not write is taken over where its content is right;
    else Conflict lists it and nothing is changed, unless `force`.

    NotFound: nothing at `path`. Conflict: a file, link or directory in the way. LimitExceeded: disk full. Corrupt: a
    damaged chunk. What was written until then stays, and a later mirror knows it. About 40 µs a small file.
    """
    started = time.monotonic()
    wanted = _wanted(trees, root, path, target)
    progress = TransferProgress(on_transfer, wanted.count, wanted.bytes)
    with TargetDirectory(wanted.directory) as output:

        def write(files: Iterable[OutputFile]) -> Iterator[tuple[OutputFile, os.stat_result]]:
            for file, status in write_files(store, wanted.directory, files):
                progress.advance(1, file.size)
                yield file, status

        if mirror:
            manifest = Manifest(cache_dir, wanted.place)
            run = Mirror(output, os.fspath(wanted.directory), manifest, store.chunking, progress)
            written, removed = run.run(list(wanted.files), write, force=force)
        else:
            missing = _missing(wanted, store.chunking, progress)
            written, removed = sum(1 for _ in write(missing)), 0
    return GetReport(progress.files, progress.bytes, written, removed, time.monotonic() - started)


def _missing(wanted: _Wanted, chunking: ChunkingParameters, progress: TransferProgress) -> Iterator[OutputFile]:
    """The files that are not there yet as they should be. Reads those of the right size."""
    root = os.fspath(wanted.directory)
    for file in wanted.files:
        if is_equal(f"{root}/{file.path}", file, chunking):
            progress.advance(1, file.size)
        else:
            yield file


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to write: `files` relative to `directory`; `place` is what the manifest is kept for."""

    files: Iterable[OutputFile]
    count: int
    bytes: int
    directory: Path
    place: Path


def _wanted(trees: Trees, root: Digest, path: str, target: Path) -> _Wanted:
    target = target.absolute()
    found = selected_files(trees, root, path)
    if not found.single:
        return _Wanted(found.files, found.count, found.bytes, target, target)
    (file,) = found.files
    place = target / file.path if target.is_dir() else target
    return _Wanted([replace(file, path=place.name)], 1, file.size, place.parent, place)


@dataclass(frozen=True, slots=True)
class Selected:
    """What an address's path stands for: one file, by its name, or the files below a directory, relative to it."""

    files: Iterable[OutputFile]
    count: int
    bytes: int
    single: bool


def selected_files(trees: Trees, root: Digest, path: str) -> Selected:
    """NotFound: nothing at `path`; the root always is there."""
    row = trees.row(root, path)
    if row is not None:
        files = output_files(trees.rows(root, path), path.rpartition("/")[0] + "/")
        return Selected(files, 1, row.size, single=True)
    first, last = below(path)
    if path == "/":
        count, size = trees.totals(root)
    else:
        info = trees.info(root, path)
        if info is None:
            raise NotFound(f"there is no file or directory {path} in the commit; check the path")
        count, size = info.files, info.size_bytes
    tables = trees.tables.scan(TREE, root, first, last)
    return Selected(output_files(tables, first), count, size, single=False)
