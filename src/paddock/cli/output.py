"""What commands print: aligned tables and plain lines for people, one JSON document for programs.

Results go to standard output, all else (progress, warnings, hints, errors) to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from paddock.model.records import DEFAULT_PROJECT, DatumInput, to_json

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def line(text: str) -> None:
    sys.stdout.write(text + "\n")


def flush() -> None:
    sys.stdout.flush()


def note(text: str) -> None:
    """One line for the person at the terminal; not part of the result."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def document(value: Any) -> None:
    """The one JSON document of a command."""
    sys.stdout.write(json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n")


def document_stream(values: Iterable[Any]) -> None:
    """A JSON array, written as its items come, so that a million of them need no memory."""
    separator = "["
    for value in values:
        sys.stdout.write(f"{separator}\n{json.dumps(to_json(value), ensure_ascii=False)}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def element(item: DatumInput) -> str:
    """One of a datum's inputs: `in:/a.csv`, `in:/a.csv records 5 to 8`."""
    return f"{item.name}:{printable(item.path)}{records(item.first_record, item.last_record)}"


def records(first: int | None, last: int | None) -> str:
    """Which records of a file, to stand after its path; nothing where it is read whole."""
    if first is None:
        return ""
    return f" record {first}" if first == last else f" records {first} to {last}"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Aligned columns; numbers to the right. `empty` is noted where there are no rows."""
    lines = [[printable(str(cell)) for cell in row] for row in rows]
    if not lines:
        note(empty)
        return
    widths = [max(map(len, column)) for column in zip(headers, *lines, strict=True)]
    right = [all(_numeric(row[index]) for row in lines) for index in range(len(headers))]
    for cells in ([header.upper() for header in headers], *lines):
        padded = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(cells, widths, right, strict=True)
        )
        line("  ".join(padded).rstrip())


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """`name: value` lines, those without a value left out."""
    shown = [(name, printable(str(value))) for name, value in pairs if value not in (None, "", ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line(f"{name + ':':<{width + 1}}  {value}")


def _numeric(cell: str) -> bool:
    return (cell[:1].isdigit() and not cell[-1:].isalpha() and ":" not in cell) or cell.endswith(_UNITS)


def printable(text: str) -> str:
    """Text that can't drive a terminal or break a line: control characters are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def size(count: int) -> str:
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit always fits")


def moment(time: datetime | None) -> str:
    """Local time, to the second."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_name(project: str, name: str) -> str:
    """A name without the default project."""
    return name if project == DEFAULT_PROJECT else f"{project}/{name}"


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def counted(values: Iterator[Any], seen: list[int]) -> Iterator[Any]:
    """The same values; `seen[0]` counts them."""
    for value in values:
        seen[0] += 1
        yield value
