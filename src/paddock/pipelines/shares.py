"""Shares of a whole, as options write them: `5%` or `0.05`."""

from __future__ import annotations

import math


def parse_share(text: str) -> float:
    """A number from 0 to 1. ValueError says what is wrong and what to write."""
    body, percent = text.strip(), 1.0
    if body.endswith("%"):
        body, percent = body[:-1], 100.0
    try:
        share = float(body) / percent
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share; write for example 5% or 0.05, from 0 (none) to 100% (all)")
    return share
