"""Marks that are kept from one collection to the next, so that a collection reads only what changed (design note 010).

Kept is, in the home's folder `cache`: which roots were marked, how often each table and each chunk is named from them, and how much
of each pack is in use. The former is true of the content that digests name, whatever happened since; the latter as long as the
epoch of the store stays, since only a change of epoch takes chunks out of packs in use. Two files:

    gc-marks           "PDKMARK1", BLAKE3-256 of what follows; a JSON line; tables and their numbers; differences to the base
    gc-base-<digest>   digests and numbers of the chunks; named by the BLAKE3-256 of its content

What is damaged, torn, or missing is not believed: all is marked anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from paddock.catalog import garbage as garbage_sql
from paddock.catalog.garbage import PackRow, RootRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import Corrupt, NotFound
from paddock.model.ids import Digest
from paddock.runtime.marking import Marking, Root
from paddock.runtime.pack_census import PackUse, pack_use
from paddock.storage.digest_counts import Counts, DigestCounts, Tally, net
from paddock.storage.digest_set import Heads, heads, unique
from paddock.versions.home import Home

_MAGIC = b"PDKMARK1"
_FILE = "gc-marks"
_BASE = "gc-base-"
_TALLY_BYTES = 12
_CHANGED_BYTES_MAX = 64 << 20
"""Beyond two million digests that changed, the use of packs is counted anew: looking each up would take longer."""


def mark(home: Home, roots: Sequence[RootRow], packs: Sequence[PackRow]) -> tuple[Marking, dict[int, PackUse]]:
    """What is in use from these roots, and {pack row id: what is in use of it}. The caller holds the lock of the store's upkeep.

    Errors: Corrupt, NotFound, where what is in use can't be read (and was not marked before).
    """
    memory = _load(home.cache)
    if memory is not None:
        try:
            return _go_on(home, memory, roots, packs)
        except (Corrupt, NotFound):
            pass  # what went out of use can't be read to be taken away; or else the same is met again
    marking = Marking(home)
    marking.add(roots)
    marking.live.values()  # in one level it is looked up fastest
    return marking, pack_use(home, marking.live, packs)


def remember(home: Home, marking: Marking, packs: Mapping[str, PackUse]) -> None:
    """Keep a marking for the next collection. packs: what is in use of the packs that are not condemned, by name.

    A disk that is full, or read-only, only costs time next time.
    """
    with home.catalog.read() as tx:
        epoch = garbage_sql.epoch(tx)
    base, changes = marking.live.levels()
    try:
        home.cache.mkdir(parents=True, exist_ok=True)
        name = _write_base(home.cache, base)
        _write(home.cache / _FILE, _encode(name, changes, marking, packs, epoch))
        for old in home.cache.glob("gc-*"):
            if old.name not in (name, _FILE):
                old.unlink(missing_ok=True)
    except OSError:
        return


# ---- going on ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Memory:
    live: DigestCounts
    tables: dict[bytes, int]
    roots: Sequence[Root]
    packs: dict[str, PackUse]
    epoch: str


def _go_on(
    home: Home, memory: _Memory, roots: Sequence[RootRow], packs: Sequence[PackRow]
) -> tuple[Marking, dict[int, PackUse]]:
    changed = _Changed()
    marking = Marking(home, on_change=changed.note, live=memory.live, tables=memory.tables, roots=memory.roots)
    marking.add(roots)
    marking.keep_only(roots)
    with home.catalog.read() as tx:
        epoch = garbage_sql.epoch(tx)
    if epoch != memory.epoch or changed.too_many:
        return marking, pack_use(home, marking.live, packs)
    use = {pack.name: memory.packs[pack.name] for pack in packs if not pack.condemned and pack.name in memory.packs}
    for digests, step in changed.turned(marking.live):
        for place in home.chunks.locate(digests).values():
            old = use.get(place.pack)
            if old is not None:
                use[place.pack] = PackUse(old.chunks + step, old.bytes + step * place.stored)
    fresh = pack_use(home, marking.live, [pack for pack in packs if pack.name not in use])
    return marking, fresh | {pack.id: use[pack.name] for pack in packs if pack.name in use}


@dataclass(slots=True)
class _Changed:
    """The chunks that changed tables name."""

    too_many: bool = False
    _notes: list[tuple[bytes, int]] = field(default_factory=list)
    _bytes: int = 0

    def note(self, digests: bytes, step: int) -> None:
        self._bytes += len(digests)
        if self._bytes > _CHANGED_BYTES_MAX:
            self.too_many = True
            self._notes.clear()
        else:
            self._notes.append((digests, step))

    def turned(self, live: DigestCounts) -> Iterable[tuple[list[Digest], int]]:
        """The chunks that came into use (with 1), and those that went out of it (with -1)."""
        if not self._notes:
            return
        steps = net([(unique(heads(digests)), step) for digests, step in self._notes])
        after = live.of(steps.heads)
        before = after - steps.counts
        names = np.frombuffer(b"".join([digests for digests, _ in self._notes]), dtype="V32")
        order = np.argsort(heads(names.tobytes()))
        ordered = heads(names[order].tobytes())
        for step, mask in ((1, (before <= 0) & (after > 0)), (-1, (before > 0) & (after <= 0))):
            places = order[np.searchsorted(ordered, steps.heads[mask])]
            yield [Digest(bytes(name)) for name in names[places]], step


# ---- files ---------------------------------------------------------------------------------------------------


def _encode(base: str, changes: Tally, marking: Marking, packs: Mapping[str, PackUse], epoch: str) -> bytes:
    facts: dict[str, Any] = {
        "base": base,
        "epoch": epoch,
        "tables": len(marking.tables),
        "changes": len(changes.heads),
        "packs": {name: [use.chunks, use.bytes] for name, use in packs.items()},
        "roots": sorted([kind, root.hex()] for kind, root in marking.roots),
    }
    named = np.fromiter(marking.tables.values(), dtype="<i8", count=len(marking.tables))
    parts: list[bytes | memoryview] = [
        json.dumps(facts).encode(),
        b"\n",
        *marking.tables,
        named.tobytes(),
        *_tally_parts(changes),
    ]
    return b"".join(parts)


def _tally_parts(tally: Tally) -> list[memoryview]:
    """Without a copy: a tally may be large."""
    return [tally.heads.astype("<u8", copy=False).data.cast("B"), tally.counts.astype("<i4", copy=False).data.cast("B")]


def _tally(data: memoryview, file: str = "") -> Tally:
    number = len(data) // _TALLY_BYTES
    found: Heads = np.frombuffer(data[: 8 * number], dtype=np.uint64)
    counts: Counts = np.frombuffer(data[8 * number :], dtype=np.int32)
    return Tally(found, counts, file)


def _load(directory: Path) -> _Memory | None:
    """What was remembered; None where nothing is, or it is damaged."""
    try:
        data = (directory / _FILE).read_bytes()
        digest, body = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
        if not data.startswith(_MAGIC) or blake3(body).digest() != digest:
            return None
        line, _, rest = body.partition(b"\n")
        facts: dict[str, Any] = json.loads(line)
        base = (directory / facts["base"]).read_bytes()
    except OSError:
        return None
    if facts["base"] != _base_name([memoryview(base)]):
        (directory / facts["base"]).unlink(missing_ok=True)
        return None
    view = memoryview(rest)
    named = 32 * facts["tables"]
    numbers = named + 8 * facts["tables"]
    tables = [rest[start : start + 32] for start in range(0, named, 32)]
    return _Memory(
        live=DigestCounts(_tally(memoryview(base), facts["base"]), _tally(view[numbers:])),
        tables=dict(zip(tables, np.frombuffer(view[named:numbers], dtype="<i8").tolist(), strict=True)),
        roots=[(kind, Digest(bytes.fromhex(root))) for kind, root in facts["roots"]],
        packs={name: PackUse(chunks, size) for name, (chunks, size) in facts["packs"].items()},
        epoch=facts["epoch"],
    )


def _base_name(parts: Sequence[memoryview]) -> str:
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return _BASE + hasher.hexdigest()


def _write_base(directory: Path, base: Tally) -> str:
    if base.file:
        return base.file
    parts = _tally_parts(base)
    name = _base_name(parts)
    if not (directory / name).exists():
        _replace(directory / name, parts)
    return name


def _write(path: Path, body: bytes) -> None:
    _replace(path, [_MAGIC, blake3(body).digest(), body])


def _replace(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
