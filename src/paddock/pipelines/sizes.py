"""Sizes as specs write them: a number of bytes, or with a unit as Kubernetes has them (`512Mi`, `2G`)."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?|[KMGT]i)B?")


def parse_size(value: object) -> int:
    """Bytes, at least 1. ValueError says what is wrong and what to write."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a size; write a number of bytes, or for example 512Mi or 2G")
        size = int(float(match[1]) * _UNITS[match[2]])
    if size < 1:
        raise ValueError(f"{value!r} must be at least one byte; leave the field out for no limit")
    return size
