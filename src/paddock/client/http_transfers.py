"""Transfers over HTTP: what is missing is asked for in bulk, chunks travel many a request, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pydantic import TypeAdapter

from paddock.client.pieces import PieceReader
from paddock.client.transport import Transport, error_of, path_of
from paddock.model.archives import PIECE_BYTES
from paddock.model.dataclass import dataclass
from paddock.model.errors import Bug, Unavailable
from paddock.model.ids import Digest
from paddock.model.records import PutReport
from paddock.model.store_records import Transfer
from paddock.storage.chunk_frames import FRAMES_MEDIA_TYPE, PROBLEM, decoded, read_frame

CHUNK_BYTES_MAX = (1 << 32) - 1
_NUMBERS: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, int])


@dataclass(frozen=True, slots=True)
class HttpTransfers:
    transport: Transport

    def begin(self, target: str | None = None) -> Transfer:
        result: Transfer = self.transport.request(Transfer, "POST", path_of("transfers"), body={"target": target})
        return result

    def missing(self, transfer: str, digests: Sequence[Digest]) -> Sequence[bool]:
        flags = self.transport.request_bytes(
            "POST", path_of("transfers", transfer, "missing"), content=b"".join(digests)
        )
        if len(flags) != len(digests):
            raise Bug(f"the server said of {len(flags)} chunks whether they are missing, not of {len(digests)}")
        return [flag != 0 for flag in flags]

    def send(self, transfer: str, frames: BinaryIO | bytes) -> int:
        content = frames if isinstance(frames, bytes) else iter(lambda: frames.read(PIECE_BYTES), b"")
        sent: dict[str, int] = self.transport.request(
            dict[str, int],
            "POST",
            path_of("transfers", transfer, "chunks"),
            content=content,
            content_type=FRAMES_MEDIA_TYPE,
        )
        return sent["stored_bytes"]

    def fetch(self, transfer: str, digests: Sequence[Digest]) -> Iterator[bytes]:
        path = path_of("transfers", transfer, "fetch")
        with self.transport.stream("POST", path, content=b"".join(digests)) as pieces:
            reader = PieceReader(pieces)
            for wanted in digests:
                found = _next_frame(reader)
                digest, stored, size, codec = found
                if codec == PROBLEM:
                    raise error_of(json.loads(stored))
                if digest != wanted:
                    raise Bug(f"the server sent chunk {digest.hex()} in place of {wanted.hex()}")
                yield decoded(digest, stored, size, codec)

    def tree(self, transfer: str, source: str) -> Digest:
        found: dict[str, str] = self.transport.request(
            dict[str, str], "GET", path_of("transfers", transfer, "tree"), parameters={"source": source}
        )
        return Digest(bytes.fromhex(found["root"]))

    def put(
        self, transfer: str, target: str, table: BinaryIO | bytes, *, append: bool = False, mirror: bool = False
    ) -> PutReport:
        content = table if isinstance(table, bytes) else iter(lambda: table.read(PIECE_BYTES), b"")
        result: PutReport = self.transport.request(
            PutReport,
            "PUT",
            path_of("transfers", transfer, "files"),
            parameters={"target": target, "append": append, "mirror": mirror},
            content=content,
        )
        return result

    def end(self, transfer: str) -> None:
        self.transport.request(None, "DELETE", path_of("transfers", transfer))


def _next_frame(reader: PieceReader) -> tuple[Digest, bytes, int, int]:
    try:
        found = read_frame(reader, stored_max=CHUNK_BYTES_MAX)
    except EOFError:
        found = None
    if found is None:
        raise Unavailable("the server's answer broke off; try again")
    return found
