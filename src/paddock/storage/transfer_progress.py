"""How far a transfer is."""

from __future__ import annotations

from paddock.model.services import OnTransfer, Transferred

_STEP = 0.02
_UNKNOWN_BYTES = 256 << 20
_UNKNOWN_FILES = 50_000
"""Taken for the whole where nobody knows how much there is."""


class TransferProgress:
    """Tells a listener, about a hundred times in a transfer, and at its end. A total that nobody knows yet is None."""

    def __init__(self, on_transfer: OnTransfer | None, files: int | None, size: int | None) -> None:
        self.files = 0
        self.bytes = 0
        self._on_transfer = on_transfer
        self._files_total = files
        self._bytes_total = size
        self._told = 0.0

    def advance(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size
        if self._on_transfer is None:
            return
        bytes_total = _UNKNOWN_BYTES if self._bytes_total is None else self._bytes_total
        files_total = _UNKNOWN_FILES if self._files_total is None else self._files_total
        share = self.bytes / max(1, bytes_total) + self.files / max(1, files_total)
        if share - self._told >= _STEP or (self._files_total is not None and self.files >= files_total):
            self._told = share
            self._on_transfer(Transferred(self.files, self.bytes, self._files_total, self._bytes_total))
