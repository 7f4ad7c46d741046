"""What a datum printed: all of it up to a limit, then its beginning and its end.

The beginning shows how a program was called, the end why it died; the middle of a hundred megabytes shows
neither.
"""

from __future__ import annotations

from collections import deque

HEAD_BYTES_MAX = 1 << 20
TAIL_BYTES_MAX = 15 << 20
PART_BYTES = 64 << 10
FRESH_PIECES_MAX = 256
"""Pieces of 64 KiB at most that wait to be shown; nobody takes them while a datum has just begun. More are shown at its end only."""


class DatumLog:
    """Bytes of standard output and error of one datum, over all its tries, in the order they were read.

    Holds at most `head_bytes_max + tail_bytes_max` bytes and two parts more, however much is added. Not
    thread-safe.
    """

    __slots__ = (
        "_fresh",
        "_head",
        "_head_bytes_max",
        "_left_out",
        "_printed",
        "_tail",
        "_tail_bytes",
        "_tail_bytes_max",
    )

    def __init__(self, *, head_bytes_max: int = HEAD_BYTES_MAX, tail_bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._head_bytes_max = head_bytes_max
        self._tail_bytes_max = tail_bytes_max
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        """What follows the head, in parts; a program that prints byte by byte makes no more of them than another."""
        self._tail_bytes = 0
        self._left_out = 0
        self._printed = False
        self._fresh: list[bytes] = []

    @property
    def fresh(self) -> bool:
        """Whether anything was added since `take_fresh`."""
        return bool(self._fresh)

    def take_fresh(self) -> bytes:
        """What was added since the last call."""
        fresh = b"".join(self._fresh)
        self._fresh.clear()
        return fresh

    def add(self, piece: bytes) -> None:
        """Append what was read; amortised O(len(piece))."""
        self._printed = True
        if len(self._fresh) < FRESH_PIECES_MAX:
            self._fresh.append(piece)
        room = self._head_bytes_max - len(self._head)
        if room > 0:
            self._head += piece[:room]
            piece = piece[room:]
        if not piece:
            return
        if self._tail and len(self._tail[-1]) < min(PART_BYTES, self._tail_bytes_max):
            self._tail[-1] += piece
        else:
            self._tail.append(bytearray(piece))
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(self._tail[0]) >= self._tail_bytes_max:
            dropped = self._tail.popleft()
            self._tail_bytes -= len(dropped)
            self._left_out += len(dropped)

    def say(self, text: str) -> None:
        """Append a line of Paddock's own, marked as such, on a line of its own."""
        self.add(f"{'' if self.at_line_start else chr(10)}paddock: {text}\n".encode("utf-8", "replace"))
        self._printed = False

    @property
    def at_line_start(self) -> bool:
        last = self._tail[-1] if self._tail else self._head
        return not last or last[-1:] == b"\n"

    def last_line(self) -> bytes:
        """The last line that is not blank, at most its last 4 KiB; empty if nothing was added since `say`."""
        if not self._printed:
            return b""
        end = b"".join(list(self._tail)[-2:])[-4096:] or bytes(self._head[-4096:])
        return end.rstrip().rpartition(b"\n")[2]

    def content(self) -> bytes:
        """The log as it is kept; a line in the middle says how many bytes were left out, if any were."""
        if not self._tail:
            return bytes(self._head)
        tail = b"".join(self._tail)
        surplus = max(0, len(tail) - self._tail_bytes_max)
        left_out = self._left_out + surplus
        if not left_out:
            return bytes(self._head) + tail
        mark = f"\npaddock: … {left_out} bytes of output left out here …\n".encode()
        return bytes(self._head) + mark + tail[surplus:]
