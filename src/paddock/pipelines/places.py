"""Specs as they were written: plain data, where each field stands, and how messages call values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock.model.dataclass import dataclass

FieldPath = tuple[str | int, ...]
"""Where a value lies in a document: `("input", "cross", 0, "pfs", "glob")`."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the fields of one spec stand in their file. `lines` count from 1; empty for data that has no
    file."""

    source_name: str = ""
    lines: Mapping[FieldPath, int] | None = None

    def of(self, path: FieldPath) -> str:
        """`pipeline.yaml:7: input.cross[0].pfs.glob`; the line is the nearest enclosing value's where it
        has none."""
        field = path_text(path)
        if not self.lines:
            return ": ".join(part for part in (self.source_name, field) if part)
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        return f"{self.source_name}:{line}" + (f": {field}" if field else "")


NO_PLACES = Places()


@dataclass(frozen=True, slots=True)
class SpecText:
    """One spec as it was written: plain JSON data in the user's own spelling, and where each field stands."""

    data: Mapping[str, Any]
    places: Places


def path_text(path: FieldPath) -> str:
    """`input.cross[0].pfs.glob`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def type_name(value: object) -> str:
    """What a user calls a value's type."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {_short(value)}"
        case int() | float():
            return f"the number {value}"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return f"the {type(value).__name__} {value}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
