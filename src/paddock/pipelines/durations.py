"""Durations as specs write them: Go's `1m30s`, protobuf's `3s`, or a plain number of seconds."""

from __future__ import annotations

import math
import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
SECONDS_MAX = 10 * 365 * 24 * 3600.0


def parse_duration(value: object) -> float:
    """Seconds, more than 0. ValueError says what is wrong and what to write."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"{value!r} is not a duration; write for example 90s, 1m30s or 2h")
    if not 0 < seconds <= SECONDS_MAX:
        raise ValueError(f"{value!r} must be more than 0 and at most ten years; leave the field out for no limit")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds!r}s"


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    sign = -1.0 if text.startswith("-") else 1.0
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0.0
    total = 0.0
    position = 0
    while position < len(body):
        part = _PART.match(body, position)
        if part is None:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    return sign * total if body else None
