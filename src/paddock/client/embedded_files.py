"""Files of a home in this process: what is asked for most is done before the rest is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddock.model.records import PutReport
from paddock.model.services import Files, OnTransfer
from paddock.versions.home import Home
from paddock.versions.quick_puts import put_again


class EmbeddedFiles:
    """`Files`, whose service brings in numpy and pyarrow, 0.3 s of them, when something needs it."""

    def __init__(self, home: Home, load: Callable[[], Files]) -> None:
        self._home = home
        self._load = load

    def put_tree(
        self,
        target: str,
        source: Path,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        if not append:
            report = put_again(self._home, target, source, mirror=mirror, on_transfer=on_transfer)
            if report is not None:
                return report
        return self._load().put_tree(target, source, append=append, mirror=mirror, on_transfer=on_transfer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)
