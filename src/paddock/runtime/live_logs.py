"""What running datums print, in files beside them: written by workers, followed by whoever looks (design note 026).

A worker's `live/` has one file for each datum that runs for a while, named `<job>.<transform>.<datum>`. It grows as the datum
prints, and is removed when the datum is reported; who has it open then reads the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId
from paddock.runtime.worker_logs import DatumLog

FOLDER = "live"
LIVE_SECONDS = 0.3
"""Datums that end sooner are shown when they are reported; a file for each would cost more than they do."""
LIVE_BYTES_MAX = 16 << 20
"""Of one datum; as much as is kept of its log."""


class LiveLog:
    """The file of the datum that a worker runs. Errors of the file system end it silently: a log is kept in any case."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch / FOLDER
        self._log: DatumLog | None = None
        self._file = -1
        self._written = 0
        self._paths: list[Path] = []

    @property
    def open(self) -> bool:
        """Whether there is a file that is still written."""
        return self._file >= 0

    def flush(self, log: DatumLog | None, name: tuple[CommitId, str, str], age_seconds: float) -> None:
        """Write what `log` has got since the last call; name: job, transform and datum. Cheap where there is nothing."""
        if log is not self._log:
            self._end()
            self._log = log
            self._written = 0
        if log is None or age_seconds < LIVE_SECONDS or not log.fresh:
            return
        with contextlib.suppress(OSError):
            if self._file < 0:
                self._open(".".join(name))
            piece = log.take_fresh()[: LIVE_BYTES_MAX - self._written]
            self._written += os.write(self._file, piece) if piece else 0

    def forget(self) -> None:
        """Remove the files of datums that have been reported."""
        self._end()
        self._log = None
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()
        self._paths.clear()

    def _open(self, name: str) -> None:
        self._folder.mkdir(exist_ok=True)
        path = self._folder / name
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._paths.append(path)

    def _end(self) -> None:
        """Close the file of a datum that has ended, with the last that it printed."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if self._log is not None:
                os.write(self._file, self._log.take_fresh()[: LIVE_BYTES_MAX - self._written])
            os.close(self._file)
        self._file = -1


class Printed(NamedTuple):
    datum: str
    text: bytes


@dataclass(slots=True)
class _Source:
    datum: str
    file: int
    partial: bytes = b""
    gone: bool = False


@dataclass(slots=True)
class LiveReader:
    """Follows the running datums of one job, across all workers of a home's schedulers on this machine."""

    scratch: Path
    prefix: str
    """`<job>.<transform>.`"""
    datum: str = ""
    """Only datums whose id starts so."""
    shown_bytes: dict[str, int] = field(default_factory=dict)
    """How much of each datum was shown."""
    _sources: dict[str, _Source] = field(default_factory=dict)

    def read(self) -> Iterator[Printed]:
        """Whole lines that came since the last call."""
        for path in self.scratch.glob(f"*/*/{FOLDER}/{self.prefix}{self.datum}*"):
            if str(path) not in self._sources:
                with contextlib.suppress(OSError):
                    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    self._sources[str(path)] = _Source(path.name.removeprefix(self.prefix), file)
        for key, source in list(self._sources.items()):
            # Asked before it is read: what is gone does not grow any more.
            source.gone = os.fstat(source.file).st_nlink == 0
            yield from self._read(source)
            if source.gone:
                os.close(source.file)
                del self._sources[key]

    def rest(self, datum: str, log: bytes) -> bytes:
        """What of the log of a datum that has ended was not shown while it ran."""
        return log[self.shown_bytes.pop(datum, 0) :]

    def close(self) -> None:
        for source in self._sources.values():
            os.close(source.file)
        self._sources.clear()

    def _read(self, source: _Source) -> Iterator[Printed]:
        while piece := os.read(source.file, 1 << 18):
            lines, newline, source.partial = (source.partial + piece).rpartition(b"\n")
            if newline:
                yield self._shown(source, lines + newline)
        if source.gone and source.partial:
            text, source.partial = source.partial, b""
            yield self._shown(source, text)

    def _shown(self, source: _Source, text: bytes) -> Printed:
        self.shown_bytes[source.datum] = self.shown_bytes.get(source.datum, 0) + len(text)
        return Printed(source.datum, text)


def running_log(scratch: Path, prefix: str, datum: str) -> bytes:
    """What a datum that runs has printed up to now; empty if it does not run, or has not for long."""
    for path in scratch.glob(f"*/*/{FOLDER}/{prefix}{datum}"):
        with contextlib.suppress(OSError):
            return path.read_bytes()
    return b""
