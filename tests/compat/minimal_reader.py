"""A reader of homes that shares no code with Paddock: written from docs/reference/format.md, in that page's words."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3

TREE = "tree:path=string,datum=binary,size=int64,digest=fixed(32),executable=uint8,chunks=list<fixed(32)>"
DATUMS = (
    "datums:name=string,id=fixed(16),key=fixed(32),leaves=list<int32>,paths=list<string>,digests=list<fixed(32)>,"
    "sizes=list<int64>,batch=fixed(32),ordinal=int32,job=fixed(16),success=uint8"
)
CACHE = "cache:key=fixed(32),batch=fixed(32),ordinal=int32,job=fixed(16)"
FILES = "files:path=string,size=int64,digest=fixed(32),executable=uint8,chunks=list<fixed(32)>"
RESULTS = (
    "batch-results:ordinal=int32,id=fixed(16),key=fixed(32),state=uint8,exit_code=int32,reason=string,error_code=string,"
    "tries=int32,seconds=float64,files_first=int64,files_count=int64,output_bytes=int64,log_offset=int64,log_bytes=int64"
)
MASK = (1 << 64) - 1
GEAR = [int.from_bytes(hashlib.md5(bytes([value]) * 64).digest()[:8], "big") for value in range(256)]

Row = dict[str, Any]


class Home:
    def __init__(self, path: Path) -> None:
        document = json.loads((path / "home.json").read_text())
        assert document["format_version"] == 1
        self.chunking: dict[str, int] = document["chunking"]
        self.packs = {pack.name: pack for pack in (path / "objects" / "packs").glob("??/*")}
        self.catalog = sqlite3.connect(f"file:{path / 'catalog.db'}?mode=ro", uri=True)
        self.contents: dict[bytes, bytes] = {}
        self.index: dict[bytes, tuple[str, int, int, int, int]] = {}
        for pack in self.packs:
            for digest, *place in read_index(self.packs[pack].read_bytes()):
                self.index[digest] = (pack, *place)

    def close(self) -> None:
        self.catalog.close()

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        return self.catalog.execute(sql, parameters).fetchall()

    def chunk(self, digest: bytes) -> bytes:
        pack, offset, stored, size, codec = self.index[digest]
        data = self.packs[pack].read_bytes()[offset : offset + stored]
        if codec == 1:
            assert zstandard.frame_content_size(data) == size
            data = zstandard.ZstdDecompressor().decompress(data)
        else:
            assert codec == 0
        assert (len(data), blake3(data).digest()) == (size, digest)
        return data

    def table(self, schema: str, root: bytes) -> Iterator[Row]:
        """The rows of a table; checks the root's account of each segment, and where segments end."""
        kind = schema.partition(":")[0]
        root_schema = f"root:{kind}:first=binary,last=binary,rows=int64,size=int64,digest=fixed(32)"
        if root == blake3(segment_without_rows(root_schema)).digest():
            return
        segments = read_segment(root_schema, self.chunk(root))
        for number, segment in enumerate(segments):
            rows = read_segment(schema, self.chunk(segment["digest"]))
            keys = [key_bytes(next(iter(row.values()))) for row in rows]
            assert keys == sorted(set(keys))
            assert (segment["first"], segment["last"], segment["rows"]) == (keys[0], keys[-1], len(keys))
            if ",size=int64" in schema:
                assert segment["size"] == sum(row["size"] for row in rows)
            ends = [key_hash(key) & 0x3FFF == 0 for key in keys]
            assert not any(ends[:-1])
            assert ends[-1] or number == len(segments) - 1
            yield from rows

    def content(self, row: Row) -> bytes:
        """The bytes of a file from its row; checks its digest, and that it is cut where the page says."""
        if row["digest"] in self.contents:
            return self.contents[row["digest"]]
        chunks = row["chunks"] or ([row["digest"]] if row["size"] else [])
        parts = [self.chunk(digest) for digest in chunks]
        data = b"".join(parts)
        assert (len(data), file_digest(chunks)) == (row["size"], row["digest"])
        assert [len(part) for part in parts] == list(cut(data, **self.chunking))
        self.contents[row["digest"]] = data
        return data


def read_index(pack: bytes) -> Iterator[tuple[bytes, int, int, int, int]]:
    assert pack[:8] == pack[-8:] == b"PDKPACK1"
    offset, length, digest = struct.unpack("<QQ32s", pack[-56:-8])
    index = pack[offset : offset + length]
    assert offset + length + 56 == len(pack)
    assert blake3(index).digest() == digest
    return struct.iter_unpack("<32sQIIB", index)


def read_segment(schema: str, data: bytes) -> list[Row]:
    magic, rows, count, kind = struct.unpack_from("<8sII16s", data)
    assert (magic, kind) == (b"PDKSEG1\n", blake3(schema.encode()).digest()[:16])
    lengths = struct.unpack_from(f"<{count}Q", data, 32)
    position, buffers = 32 + 8 * count, []
    for length in lengths:
        buffers.append(data[position : position + length])
        position += length + -length % 8
    assert position == len(data)
    rest = iter(buffers)
    names = [column.partition("=") for column in split_columns(schema.partition(":")[2], schema)]
    columns = {name: read_column(type_, rows, rest) for name, _, type_ in names}
    assert next(rest, None) is None
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def split_columns(columns: str, schema: str) -> list[str]:
    return (columns.partition(":")[2] if schema.startswith("root:") else columns).split(",")


def read_column(type_: str, rows: int, buffers: Iterator[bytes]) -> list[Any]:
    if type_.startswith("list<"):
        offsets = struct.unpack(f"<{rows + 1}i", next(buffers))
        items = read_column(type_[5:-1], offsets[-1], buffers)
        return [items[start:end] for start, end in pairwise(offsets)]
    if type_ in ("string", "binary"):
        offsets, data = struct.unpack(f"<{rows + 1}i", next(buffers)), next(buffers)
        values = [data[start:end] for start, end in pairwise(offsets)]
        return [value.decode() for value in values] if type_ == "string" else values
    data = next(buffers)
    if type_.startswith("fixed("):
        width = int(type_[6:-1])
        assert len(data) == rows * width
        return [data[start : start + width] for start in range(0, len(data), width)]
    code = {"int64": "q", "int32": "i", "uint8": "B", "float64": "d"}[type_]
    return list(struct.unpack(f"<{rows}{code}", data))


def segment_without_rows(root_schema: str) -> bytes:
    """first, last: one offset (0) and no bytes each; rows, size, digest: nothing."""
    lengths = (4, 0, 4, 0, 0, 0, 0)
    head = struct.pack("<8sII16s", b"PDKSEG1\n", 0, 7, blake3(root_schema.encode()).digest()[:16])
    return head + struct.pack("<7Q", *lengths) + bytes(16)


def key_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def key_hash(key: bytes) -> int:
    total, power = 0, 1
    for byte in key:
        total = (total + (byte + 1) * power) & MASK
        power = power * 0x9E3779B97F4A7C15 & MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        total ^= total >> 33
        total = total * factor & MASK
    return total ^ total >> 33


def file_digest(chunks: list[bytes]) -> bytes:
    if len(chunks) == 1:
        return chunks[0]
    return blake3(b"paddock.file.v1\0" + b"".join(chunks) if chunks else b"").digest()


def cut(data: bytes, *, min_bytes: int, average_bytes: int, max_bytes: int) -> Iterator[int]:
    """Lengths of the chunks of a file."""
    start = 0
    while start < len(data):
        length = cut_one(data[start : start + max_bytes], min_bytes, average_bytes)
        yield length
        start += length


def cut_one(data: bytes, least: int, average: int) -> int:
    n = len(data)
    if n <= least:
        return n
    middle = min(average, n) // 2 * 2
    hashed = 0
    for position in range(least // 2 * 2, n // 2 * 2):
        hashed = (2 * hashed + GEAR[data[position]]) & MASK
        if hashed & (0xD91767537000 if position < middle else 0xD91707537000) == 0:
            return position
    return n
