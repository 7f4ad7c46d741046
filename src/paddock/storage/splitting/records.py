"""Where records of text end: lines, JSON lines, CSV. Vectorised, and pure in the bytes, however they come in windows.

A scanner is given bytes that begin at a record, and says where the records in them end. Of bytes that more follow, the last
record is never told: what follows may still belong to it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Ends = npt.NDArray[np.int64]

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_BEFORE_QUOTE = np.zeros(256, dtype=bool)
_BEFORE_QUOTE[list(b'\n\r,;\t| "\xbf')] = True
"""What may stand before a quote that opens a field: a delimiter, a line's start, another quote, a byte order mark."""


class SplitError(Exception):
    """A file is not of its format. byte: where, from the start of the bytes at hand; records: complete ones before it."""

    def __init__(self, fault: str, byte: int, records: int = 0) -> None:
        super().__init__(fault)
        self.fault = fault
        self.byte = byte
        self.records = records


class Scanner(Protocol):
    ended: bool
    """Nothing more in the file is of interest."""

    def ends(self, data: bytes, *, final: bool) -> Ends:
        """The end (exclusive) of each record in `data`, ascending. SplitError: the bytes are not of the format."""


class LineScanner:
    """Every line is a record; with `skip_blank`, blank ones belong to the record before (at the start: after) them."""

    def __init__(self, *, skip_blank: bool = False, quoted: bool = False) -> None:
        self.ended = False
        self._skip_blank = skip_blank
        self._quoted = quoted

    def ends(self, data: bytes, *, final: bool) -> Ends:
        view = np.frombuffer(data, np.uint8)
        breaks = np.flatnonzero(view == _NEWLINE)
        if self._quoted and b'"' in data:
            breaks = _outside_quotes(view, breaks, final=final)
        ends = breaks.astype(np.int64) + 1
        if final and len(view) and (not len(ends) or ends[-1] < len(view)):
            ends = np.append(ends, len(view))
        if self._skip_blank and len(ends):
            ends = _without_blank(view, ends)
        return ends if final else ends[:-1]


def _outside_quotes(view: npt.NDArray[np.uint8], breaks: Ends, *, final: bool) -> Ends:
    """The line breaks with an even number of quotes before them: RFC 4180 doubles a quote inside a quoted field."""
    quotes = np.flatnonzero(view == _QUOTE)
    outside: Ends = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    opening = quotes[::2]
    placed = (opening == 0) | _BEFORE_QUOTE[view[opening - 1]]
    if not placed.all():
        byte = int(opening[np.argmin(placed)])
        fault = (
            "has a quote inside a field that does not begin with one, or after a field whose quote is not closed; put "
            "such a field in quotes and double the quotes in it, or split by `lines` with `header: true`"
        )
        raise SplitError(fault, byte, int(np.searchsorted(outside, byte)))
    if final and len(quotes) % 2:
        byte = int(quotes[-1])
        raise SplitError("opens a quote that is never closed; close it", byte, int(np.searchsorted(outside, byte)))
    return outside


def _without_blank(view: npt.NDArray[np.uint8], ends: Ends) -> Ends:
    """The ends of records, where a blank line is none of its own."""
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    last = view[ends - 1]
    blank = (lengths <= 2) & np.isin(view[starts], (_NEWLINE, _RETURN)) & np.isin(last, (_NEWLINE, _RETURN))
    if not blank.any():
        return ends
    keep = np.ones(len(ends), dtype=bool)
    keep[:-1] = ~blank[1:]
    if blank[0]:
        keep[: int(np.argmin(blank)) if not blank.all() else len(ends)] = False
    return ends[keep]
