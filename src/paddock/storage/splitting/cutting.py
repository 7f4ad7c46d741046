"""A file's bytes to its pieces: runs of whole records, each with its digest. Reads the bytes once, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
from blake3 import blake3

from paddock.model.dataclass import dataclass
from paddock.model.splits import DIGITS, SplitBy, SplitFormat, SplitRule
from paddock.storage.boundaries import boundaries
from paddock.storage.columnar import arrow_schema
from paddock.storage.splitting.kinds import CUTS
from paddock.storage.splitting.parquet_groups import MAGIC, ParquetFooter
from paddock.storage.splitting.records import Ends, LineScanner, Scanner, SplitError
from paddock.storage.splitting.tar_members import BLOCK, END, TarScanner, head_bytes

Integers = Ends

WINDOW_BYTES = 8 << 20
RECORD_BYTES_MAX = 256 << 20
"""A longer record is a mistake (a quote that is not closed) far more often than meant; memory is in proportion to it."""
NAME_DIGITS = 20
"""Hex digits of a piece's digest in its name, where pieces are named by content."""
ANCHOR_PIECES = 8
"""By content, counting starts anew after one record in about so many pieces, so an insertion moves no more pieces than that."""


class Source(Protocol):
    """A file as it is stored."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes of it."""

    def stream(self, offset: int) -> Iterator[bytes]:
        """All bytes from `offset` on, in pieces."""


@dataclass(slots=True)
class Pieces:
    """Pieces in the order of the file, as columns in parts. offset, length: of their bytes in the file. size: as laid out,
    with the head before and the tail after. first: number of the first record, from 1."""

    digests: list[bytes] = field(default_factory=list)
    offsets: list[Integers] = field(default_factory=list)
    lengths: list[Integers] = field(default_factory=list)
    sizes: list[Integers] = field(default_factory=list)
    firsts: list[Integers] = field(default_factory=list)
    records: list[Integers] = field(default_factory=list)

    def add(self, digest: bytes, *, offset: int, length: int, around: int, first: int, records: int) -> None:
        """Add one piece. around: bytes of its head and tail."""
        self.digests.append(digest)
        columns = (self.offsets, self.lengths, self.sizes, self.firsts, self.records)
        for column, value in zip(columns, (offset, length, length + around, first, records), strict=True):
            column.append(np.array([value], np.int64))

    def table(self) -> pa.Table:
        """Rows of kind `cuts` in the order of the file, named by position."""
        columns = {
            "offset": self.offsets,
            "length": self.lengths,
            "size": self.sizes,
            "first": self.firsts,
            "records": self.records,
        }
        joined = {name: np.concatenate([np.zeros(0, np.int64), *parts]) for name, parts in columns.items()}
        named = {"name": _numbered(joined["first"]), "digest": pa.array(self.digests, pa.binary(32))}
        return pa.table(named | joined, schema=arrow_schema(CUTS))


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: a byte at which a piece begins, the bytes of the head, and the records before."""

    offset: int = 0
    head: int = 0
    records: int = 0


def cut_file(
    source: Source, rule: SplitRule, start: Start | None = None, *, window_bytes: int = WINDOW_BYTES
) -> tuple[pa.Table, int]:
    """The pieces of a file from `start` on, as rows of kind `cuts` in the order of the file; and the bytes of its head.

    SplitError: the file is not of its format; `byte` and `records` count from the start of the file. Cost: one pass over the
    bytes, and some 0.7 µs a piece. Memory: a window of 8 MiB, or the longest record.
    """
    if rule.format is SplitFormat.PARQUET:
        return _cut_parquet(source, rule).table(), len(MAGIC)
    cutter = _Cutter(source, rule, start, window_bytes)
    return cutter.run().table(), cutter.head


class Around:
    """What stands around the pieces of one file where they are laid out. head: how long the file's head is."""

    def __init__(self, source: Source, rule: SplitRule, head: int) -> None:
        self.head = source.read(0, head) if head else b""
        self._is_tar = rule.format is SplitFormat.TAR
        self._footer = ParquetFooter(source.size, source.read) if rule.format is SplitFormat.PARQUET else None

    def tail(self, offset: int, records: int) -> bytes:
        """What follows the piece whose bytes begin at `offset` of the file."""
        if self._footer is not None:
            return self._footer.piece(*self._footer.at(offset, records))[1]
        return END if self._is_tar else b""


@dataclass(slots=True)
class _Open:
    """The piece that is not complete yet."""

    hash: blake3
    offset: int
    first: int
    length: int = 0
    records: int = 0


class _Cutter:
    """Cuts text and archives. The buffer always begins at a record; `_base` is its place in the file."""

    def __init__(self, source: Source, rule: SplitRule, start: Start | None, window_bytes: int) -> None:
        self._source = source
        self._window_bytes = window_bytes
        self._rule = rule
        self._scanner = _scanner(rule)
        self._tail = END if rule.format is SplitFormat.TAR else b""
        self._pieces = Pieces()
        self._open: _Open | None = None
        self._headed = start is not None
        begin = start or Start()
        self._head = source.read(0, begin.head) if begin.head else b""
        self._records = begin.records
        self._base = begin.offset

    @property
    def head(self) -> int:
        return len(self._head)

    def run(self) -> Pieces:
        buffer = b""
        stream = self._source.stream(self._base)
        wanted = self._window_bytes
        final = False
        while not final and not self._scanner.ended:
            buffer, final = _fill(buffer, stream, wanted)
            done = self._step(buffer, final=final)
            wanted = self._window_bytes if done else self._grown(len(buffer))
            buffer = buffer[done:]
        self._close()
        return self._pieces

    def _step(self, buffer: bytes, *, final: bool) -> int:
        """Take what is complete in the buffer; how many bytes that is."""
        done = 0
        if not self._headed:
            done = self._take_head(buffer, final=final)
            if not self._headed:
                return 0
            buffer = buffer[done:]
        ends = self._ends(buffer, final=final)
        if len(ends):
            self._cut(buffer, ends)
            done += int(ends[-1])
        return done

    def _take_head(self, buffer: bytes, *, final: bool) -> int:
        """Take what stands in each piece, if all of it is there; its bytes."""
        taken = 0
        if self._rule.format is SplitFormat.TAR:
            if not final and len(buffer) < BLOCK:
                return 0
            taken = head_bytes(buffer)
            if taken > len(buffer):
                if final:
                    raise SplitError("ends in the middle of a header; the archive was cut off", 0)
                return 0
        elif self._rule.header:
            ends = self._ends(buffer, final=final)
            if not len(ends) and not final:
                return 0
            taken = int(ends[0]) if len(ends) else len(buffer)
        self._headed = True
        self._head = buffer[:taken]
        self._base += taken
        return taken

    def _ends(self, buffer: bytes, *, final: bool) -> Ends:
        try:
            return self._scanner.ends(buffer, final=final)
        except SplitError as error:
            headers = 0 if self._headed else min(1, error.records)
            raise SplitError(error.fault, self._base + error.byte, self._records + error.records - headers) from None

    def _grown(self, size: int) -> int:
        """How much of the file to look at, where so many bytes hold no whole record."""
        if size >= RECORD_BYTES_MAX:
            fault = (
                f"has a record of more than {RECORD_BYTES_MAX >> 20} MiB here; split it in another way, or not at all"
            )
            raise SplitError(fault, self._base, self._records)
        return 2 * max(size, self._window_bytes)

    def _cut(self, buffer: bytes, ends: Ends) -> None:
        """Cut the complete records at the start of the buffer into pieces; the last piece may stay open."""
        last = self._last_records(buffer, ends)
        bounds, counts = np.concatenate([[0], ends])[last + 1], np.diff(last, prepend=-1)
        byte = record = 0
        if self._open is not None and len(last):
            byte, record = int(bounds[0]), int(counts[0])
            self._extend(buffer[:byte], record)
            self._close()
            bounds, counts = bounds[1:], counts[1:]
        if len(bounds):
            self._add(buffer, np.concatenate([[byte], bounds]), counts, self._records + record)
            byte, record = int(bounds[-1]), record + int(counts.sum())
        end = int(ends[-1])
        self._records += record
        self._base += byte
        if len(ends) > record:
            self._extend(buffer[byte:end], len(ends) - record)
        self._records += len(ends) - record
        self._base += end - byte

    def _add(self, buffer: bytes, bounds: Ends, counts: Ends, records: int) -> None:
        """Add pieces that lie in the buffer whole. records: complete ones before the first of them."""
        head, tail, pieces = self._head, self._tail, self._pieces
        offsets = bounds.tolist()
        spans = pairwise(offsets)
        if head or tail:
            pieces.digests += [blake3(b"".join((head, buffer[a:b], tail))).digest() for a, b in spans]
        else:
            pieces.digests += [blake3(buffer[a:b]).digest() for a, b in spans]
        lengths = np.diff(bounds)
        pieces.offsets.append(bounds[:-1] + self._base)
        pieces.lengths.append(lengths)
        pieces.sizes.append(lengths + (len(head) + len(tail)))
        pieces.firsts.append(np.cumsum(counts) - counts + (records + 1))
        pieces.records.append(counts)

    def _extend(self, data: bytes, records: int) -> None:
        """Add complete records to the open piece. `_base` and `_records` are still those of its first."""
        if self._open is None:
            self._open = _Open(blake3(self._head), self._base, self._records + 1)
        self._open.hash.update(data)
        self._open.length += len(data)
        self._open.records += records

    def _close(self) -> None:
        piece = self._open
        if piece is not None:
            self._pieces.add(
                piece.hash.update(self._tail).digest(),
                offset=piece.offset,
                length=piece.length,
                around=len(self._head) + len(self._tail),
                first=piece.first,
                records=piece.records,
            )
            self._open = None

    def _last_records(self, buffer: bytes, ends: Ends) -> Ends:
        """The records (by their place in `ends`) that are the last of a piece; -1: the open piece ended before them."""
        most = self._rule.records
        if most is None:
            return self._last_by_bytes(ends)
        open_records = 0 if self._open is None else self._open.records
        counted = np.arange(open_records + 1, open_records + 1 + len(ends))
        if most == 1 or self._rule.by is SplitBy.POSITION:
            return np.flatnonzero(counted % most == 0)
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        bits = max(1, (ANCHOR_PIECES * most - 1).bit_length())
        anchors = boundaries(offsets, np.frombuffer(buffer, np.uint8)[: int(ends[-1])], bits)
        anchored = np.zeros(len(ends), dtype=np.int64)
        anchored[anchors] = counted[anchors]
        restart = np.concatenate([[0], np.maximum.accumulate(anchored)[:-1]])
        is_last = (counted - restart) % most == 0
        is_last[anchors] = True
        return np.flatnonzero(is_last)

    def _last_by_bytes(self, ends: Ends) -> Ends:
        most = self._rule.bytes
        assert most is not None, "a rule counts records or bytes"
        starts = np.concatenate([[0], ends[:-1]])
        longest = int(np.argmax(ends - starts))
        if ends[longest] - starts[longest] > most:
            fault = (
                f"has a record of {ends[longest] - starts[longest]:,} bytes, and a piece holds {most:,}; raise `bytes`"
            )
            raise SplitError(fault, self._base + int(starts[longest]), self._records + longest)
        found: list[int] = []
        begin = 0 if self._open is None else -self._open.length
        while True:
            reach = int(np.searchsorted(ends, begin + most, side="right")) - 1
            if reach == len(ends) - 1:
                return np.array(found, np.int64)
            found.append(reach)
            begin = int(ends[reach]) if reach >= 0 else 0


def _scanner(rule: SplitRule) -> Scanner:
    match rule.format:
        case SplitFormat.TAR:
            return TarScanner()
        case SplitFormat.CSV:
            return LineScanner(skip_blank=True, quoted=True)
        case SplitFormat.JSONL:
            return LineScanner(skip_blank=True)
    return LineScanner()


def _fill(buffer: bytes, stream: Iterator[bytes], wanted: int) -> tuple[bytes, bool]:
    """The buffer with more of the stream, and whether the stream ended."""
    parts, size = [buffer], len(buffer)
    while size < wanted:
        data = next(stream, None)
        if data is None:
            return b"".join(parts), True
        parts.append(data)
        size += len(data)
    return b"".join(parts), False


def _numbered(firsts: Integers) -> pa.Array:
    """Numbers as text of `DIGITS` digits."""
    digits = np.empty((len(firsts), DIGITS), np.uint8)
    rest = firsts
    for place in range(DIGITS - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        digits[:, place] = digit + ord("0")
    offsets = np.arange(len(firsts) + 1, dtype=np.int32) * np.int32(DIGITS)
    return pa.StringArray.from_buffers(len(firsts), pa.py_buffer(offsets), pa.py_buffer(digits))


def named_by_content(digests: Sequence[bytes]) -> list[str]:
    """Names of pieces by their bytes; the second, third, … of equal bytes say so."""
    names = [digest.hex()[:NAME_DIGITS] for digest in digests]
    if len(set(names)) == len(names):
        return names
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = times = seen.get(name, 0) + 1
        if times > 1:
            names[place] = f"{name}-{times}"
    return names


def _cut_parquet(source: Source, rule: SplitRule) -> Pieces:
    footer = ParquetFooter(source.size, source.read)
    pieces = Pieces()
    first = 1
    for start, count in _grouped(footer, rule):
        group, tail = footer.piece(start, count)
        digest = blake3(MAGIC)
        for offset in range(group.offset, group.offset + group.length, WINDOW_BYTES):
            digest.update(source.read(offset, min(WINDOW_BYTES, group.offset + group.length - offset)))
        pieces.add(
            digest.update(tail).digest(),
            offset=group.offset,
            length=group.length,
            around=len(MAGIC) + len(tail),
            first=first,
            records=group.rows,
        )
        first += group.rows
    return pieces


def _grouped(footer: ParquetFooter, rule: SplitRule) -> Iterator[tuple[int, int]]:
    """(first, count) of the row groups of each piece: as many as fit, at least one. Empty ones at its ends are left out."""
    filled = [(number, group) for number, group in enumerate(footer.groups) if group.rows]
    begin, total = 0, 0
    previous = -1
    for number, group in filled:
        cost = group.rows if rule.records is not None else group.length
        most = rule.records if rule.records is not None else rule.bytes
        assert most is not None, "a rule counts records or bytes"
        if rule.bytes is not None and cost > most:
            fault = f"has a row group (number {number}) of {cost:,} bytes, and a piece holds {most:,}; raise `bytes`"
            raise SplitError(fault, group.offset, sum(each.rows for each in footer.groups[:number]))
        if previous >= 0 and total + cost > most:
            yield begin, previous - begin + 1
            begin, total = number, 0
        elif previous < 0:
            begin = number
        total += cost
        previous = number
    if previous >= 0:
        yield begin, previous - begin + 1
