"""Puts: bytes go through a writer, then their rows into a tree, under one pin from the first question to the commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from paddock.model.addresses import Address
from paddock.model.errors import InvalidInput
from paddock.model.ids import Digest
from paddock.model.records import PutReport
from paddock.storage.chunks import ChunkWriter
from paddock.storage.ingest import Committed, Ingested
from paddock.versions.changes import Change, Edit, TreeNeed, write
from paddock.versions.edits import append_files, mirror_files, put_files
from paddock.versions.home import Home

Fill = Callable[[ChunkWriter], Ingested]
"""Puts the bytes of files through a writer, and says what they are."""

Body = Callable[[ChunkWriter], tuple[Edit, int, int]]
"""Puts bytes; says the edit, and how many files and bytes it is about."""


class Put(NamedTuple):
    """What was put, and the tree that the branch has then, where that is known."""

    report: PutReport
    tree: Digest | None


def put_filled(
    home: Home, address: Address, path: str, fill: Fill, *, append: bool = False, mirror: bool = False
) -> PutReport:
    """Put files as one atomic commit, or into the open commit. `path`: what a mirror makes equal to them."""
    if append and mirror:
        raise InvalidInput("append and mirror exclude each other; mirroring makes the target equal to the source")
    filled: list[Ingested] = []

    def body(writer: ChunkWriter) -> tuple[Edit, int, int]:
        found = fill(writer)
        filled.append(found)

        def edit(tree: Digest | None) -> Change:
            if tree is not None and append:
                writer.flush()
                return append_files(home.chunks, home.trees, tree, found.table, writer)
            if tree is not None and mirror:
                return mirror_files(home.trees, tree, path, found.table)
            return put_files(home.trees, tree, found.table)

        return edit, found.files, found.bytes

    need = TreeNeed.ALWAYS if append or mirror else TreeNeed.NONE
    put = run_put(home, address, body, needs_tree=need, only_if_changed=mirror)
    for found in filled:
        found.commit_cache(None if append or put.tree is None else Committed(put.tree, mirror))
    return put.report


def run_put(
    home: Home,
    address: Address,
    body: Body,
    *,
    needs_tree: TreeNeed = TreeNeed.NONE,
    only_if_changed: bool = False,
    create_branch: bool = True,
    edit_waits: bool = False,
) -> Put:
    """Run a write (`changes.write` explains the options). Errors leave everything as it was, but for chunks that are garbage."""
    started = time.monotonic()
    with home.pin(), home.chunks.writer() as writer:
        edit, files, size_bytes = body(writer)
        written = write(
            home,
            address,
            edit,
            writer,
            needs_tree=needs_tree,
            only_if_changed=only_if_changed,
            create_branch=create_branch,
            edit_waits=edit_waits,
        )
        report = PutReport(
            commit=written.commit,
            files=files,
            bytes=size_bytes,
            changed=written.changed,
            removed=written.removed,
            stored_bytes=writer.stored_bytes,
            seconds=time.monotonic() - started,
        )
        return Put(report, written.tree)
