"""`split` in short: `csv`, `csv:1000` (records), `jsonl:64Ki` (bytes)."""

from __future__ import annotations

import re
from typing import Any

from paddock.model.splits import SplitFormat

FORMATS = ", ".join(SplitFormat)
_SHORT = re.compile(r"([a-z]+)(?::(?:([0-9]+)|([0-9.]+ ?[A-Za-z]+)))?")


def parse_split(value: Any) -> Any:
    """The fields of a split that is written in short; anything else as it is. ValueError: what to write."""
    if not isinstance(value, str):
        return value
    match = _SHORT.fullmatch(value.strip())
    if match is None or match[1] not in tuple(SplitFormat):
        raise ValueError(
            f"{value!r} does not say how to split; write a format ({FORMATS}), and after ':' the most records or bytes of "
            "a datum, as in csv:1000 or csv:64Ki"
        )
    fields: dict[str, Any] = {"format": match[1]}
    if match[2] is not None:
        fields["records"] = int(match[2])
    elif match[3] is not None:
        fields["bytes"] = match[3]
    return fields
