"""Sizes and shares of CPUs as specs write them: as Kubernetes has them (`512Mi`, `2G`; `0.5`, `500m`)."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "Pi": 1 << 50,
}
_SIZE = r"(\d+(?:\.\d+)?)\s*([kKMGTP]?|[KMGTP]i)B?"


def parse_size(value: object) -> int:
    """Bytes, at least 1. ValueError says what is wrong and what to write."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = re.fullmatch(_SIZE, value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a size; write a number of bytes, or for example 512Mi or 2G")
        size = int(float(match[1]) * _UNITS[match[2]])
    if size < 1:
        raise ValueError(f"{value!r} must be at least one byte; leave the field out for no limit")
    return size


def parse_cpus(value: object) -> float:
    """CPUs, more than 0. ValueError says what is wrong and what to write."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a number of CPUs; write for example 2, 0.5 or 500m")
    return float(match[1]) / (1000 if match[2] else 1)


def format_size(size: int) -> str:
    """A size for people, in the largest unit of which it has at least one: `512 MiB`, `1.5 GiB`."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size // factor} {unit}"
    return f"{size} bytes"
