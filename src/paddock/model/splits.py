"""How a file is split into records, and records into the pieces that datums read (docs/design/027-records-as-datums.md)."""

from __future__ import annotations

import enum

from paddock.model.dataclass import dataclass

DIGITS = 12
"""Of the number of a piece's first record in its name."""


class SplitFormat(enum.StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    LINES = "lines"
    PARQUET = "parquet"
    TAR = "tar"


class SplitBy(enum.StrEnum):
    POSITION = "position"
    """Pieces are counted off from the start of the file and named by the number of their first record."""
    CONTENT = "content"
    """Pieces are cut where the records say, and named by their bytes, so an edit anywhere costs the pieces around it."""


@dataclass(frozen=True, slots=True)
class SplitRule:
    """records, bytes: most of either in a piece; exactly one is set. header: the first record stands in each piece."""

    format: SplitFormat
    records: int | None
    bytes: int | None
    header: bool
    by: SplitBy

    @property
    def text(self) -> str:
        """Tells rules apart that cut a file in different ways; cuts are remembered under it, so it is stored."""
        most = f"records={self.records}" if self.records is not None else f"bytes={self.bytes}"
        return f"v1 {self.format} {most} header={int(self.header)} by={self.by}"


def piece_path(path: str, name: str) -> str:
    """Where the piece `name` of the file `path` is laid out: `/a.csv` and `000000000001` give `/a.csv/a-000000000001.csv`."""
    stem, suffix = name_parts(path)
    return f"{path}/{stem}-{name}{suffix}"


def name_parts(path: str) -> tuple[str, str]:
    """A file's name before and after its last dot: `/dir/a.csv` gives `a` and `.csv`."""
    file = path.rpartition("/")[2]
    stem, dot, suffix = file.rpartition(".")
    return (stem, dot + suffix) if stem else (file, "")


def file_of(path: str) -> str:
    """The file that the piece at `path` is of."""
    return path.rpartition("/")[0]


def piece_of(path: str) -> str:
    """The name of the piece at `path`, as `piece_path` got it."""
    file, _, name = path.rpartition("/")
    stem, suffix = name_parts(file)
    return name[len(stem) + 1 : len(name) - len(suffix)]
