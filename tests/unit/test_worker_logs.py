"""The log of a datum: whole up to a limit, then its head and tail."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.worker_logs import DatumLog


@given(st.lists(st.binary(min_size=1, max_size=30)), st.integers(0, 40), st.integers(1, 40))
def test_what_is_left_out_is_counted(pieces: list[bytes], head: int, tail: int) -> None:
    log = DatumLog(head_bytes_max=head, tail_bytes_max=tail)
    for piece in pieces:
        log.add(piece)
    whole = b"".join(pieces)
    if len(whole) <= head + tail:
        assert log.content() == whole
        return
    left_out = len(whole) - head - tail
    mark = f"\npaddock: … {left_out} bytes of output left out here …\n".encode()
    assert log.content() == whole[:head] + mark + whole[-tail:]


def test_paddocks_own_lines_stand_alone() -> None:
    log = DatumLog()
    log.say("first")
    log.add(b"no newline")
    log.say("second")
    assert log.content() == b"paddock: first\nno newline\npaddock: second\n"
    assert log.last_line() == b""
    log.add(b"third\n\n")
    assert log.last_line() == b"third"


def test_memory_is_bounded() -> None:
    log = DatumLog(head_bytes_max=1000, tail_bytes_max=5000)
    for _ in range(1000):
        log.add(b"x" * 100)
    assert re.search(rb"94000 bytes of output left out", log.content())
    assert len(log.content()) < 6200
