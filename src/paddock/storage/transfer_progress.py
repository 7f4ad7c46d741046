"""How far a transfer is."""

from __future__ import annotations

from paddock.model.services import OnTransfer, Transferred

_STEP = 0.02


class TransferProgress:
    """Tells a listener, about a hundred times in a transfer, and at its end."""

    def __init__(self, on_transfer: OnTransfer | None, files: int, size: int) -> None:
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
        share = self.bytes / max(1, self._bytes_total) + self.files / max(1, self._files_total)
        if share - self._told >= _STEP or self.files >= self._files_total:
            self._told = share
            self._on_transfer(Transferred(self.files, self.bytes, self._files_total, self._bytes_total))
