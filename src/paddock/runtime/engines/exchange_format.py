"""Bodies of exchanges between agents and the server: one message a line, `NUMBER SLOT TEXT`.

TEXT is a line of the protocol as it stands (JSON, so it begins with `{`); or `-` and, upwards, why the worker has ended (`!` in
place of `-`: for want of memory); or, downwards, `=`, which asks the agent itself to end in good order. Before the messages that
go down stands `beat SECONDS`: how often the agent is to send heartbeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from paddock.model.errors import InvalidInput
from paddock.runtime.engines.network import Answer, FromWorker, ToWorker

MEDIA_TYPE = "application/x-paddock-exchange"
_FOREIGN = "this is no exchange of a Paddock agent; use the same Paddock version on both sides"


def write_up(messages: Iterable[FromWorker]) -> bytes:
    return b"".join(
        _line(message.number, message.slot, _ended(message) if message.line is None else message.line)
        for message in messages
    )


def write_down(answer: Answer) -> bytes:
    lines = [_line(message.number, message.slot, _asked(message)) for message in answer.messages]
    return b"".join([b"beat %.3f\n" % answer.beat_seconds, *lines])


def read_up(body: bytes) -> Sequence[FromWorker]:
    """InvalidInput: the body is no list of messages."""
    return [_said(number, slot, text) for number, slot, text in _read(body)]


def read_down(body: bytes) -> Answer:
    """InvalidInput: the body is no answer to an exchange."""
    first, _, rest = body.partition(b"\n")
    messages = [
        ToWorker(number, slot, text if text.startswith(b"{") else None, retire=text.startswith(b"="))
        for number, slot, text in _read(rest)
    ]
    return Answer(messages, _beat_seconds(first))


def _beat_seconds(line: bytes) -> float:
    word, _, text = line.partition(b" ")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if word != b"beat" or not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(_FOREIGN)
    return seconds


def _said(number: int, slot: int, text: bytes) -> FromWorker:
    if text.startswith(b"{"):
        return FromWorker(number, slot, text)
    if text.startswith(b"="):
        raise InvalidInput("an agent asks no server to end; use the same Paddock version on both sides")
    return FromWorker(number, slot, None, text[1:].decode(errors="replace"), starved=text.startswith(b"!"))


def _ended(message: FromWorker) -> bytes:
    return (b"!" if message.starved else b"-") + message.reason.encode()


def _asked(message: ToWorker) -> bytes:
    if message.retire:
        return b"="
    return b"-" if message.line is None else message.line


def _line(number: int, slot: int, text: bytes) -> bytes:
    return b"%d %d %s\n" % (number, slot, text.replace(b"\n", b" ").strip())


def _read(body: bytes) -> Iterable[tuple[int, int, bytes]]:
    for line in body.split(b"\n"):
        if not line:
            continue
        number, _, rest = line.partition(b" ")
        slot, _, text = rest.partition(b" ")
        if not (number.isdigit() and slot.isdigit() and text[:1] in (b"{", b"-", b"!", b"=")):
            raise InvalidInput(_FOREIGN)
        yield int(number), int(slot), text
