"""Pieces of bytes, as they come from the network, read as a binary file."""

from __future__ import annotations

from collections.abc import Iterable


class PieceReader:
    """A minimal binary file over an iterator of bytes: `read` returns less than asked for at the end only."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = self._at + size
        if size >= 0 and end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
            return data
        parts = [self._piece[self._at :]]
        missing = size - len(parts[0])
        self._piece, self._at = b"", 0
        while size < 0 or missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            if size >= 0 and len(piece) > missing:
                self._piece, self._at = piece, missing
                parts.append(piece[:missing])
                break
            parts.append(piece)
            missing -= len(piece)
        return b"".join(parts)
