"""The messages between engine and worker, and the worker's end of the socket."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.errors import InvalidInput
from paddock.model.ids import CommitId, DatumId, DatumKey, Digest, PackId
from paddock.model.records import DatumState, Location, PackRecord
from paddock.runtime.protocol import (
    BatchReport,
    BatchTask,
    Cancel,
    Claim,
    DatumResult,
    DatumTask,
    Drain,
    FileTask,
    Heartbeat,
    InputTask,
    Message,
    Permit,
    Ready,
    Stop,
    TransformTask,
    decode,
    encode,
)
from paddock.runtime.worker_channel import Channel, EngineGoneError

texts = st.text(max_size=20)
sizes = st.integers(0, 2**62)
digests = st.binary(min_size=32, max_size=32).map(Digest)
ids = st.uuids().map(lambda each: each.hex)
locations = st.builds(Location, ids.map(PackId), sizes, sizes, sizes, st.integers(0, 1))
chunks = st.tuples(digests, locations)
files = st.builds(FileTask, texts, sizes, st.booleans(), st.lists(chunks, max_size=3).map(tuple))
inputs = st.builds(
    InputTask,
    texts,
    texts,
    texts,
    texts,
    ids.map(CommitId),
    texts,
    texts,
    st.booleans(),
    st.lists(files, max_size=3).map(tuple),
)
datums = st.builds(DatumTask, ids.map(DatumId), digests.map(DatumKey), st.lists(inputs, max_size=3).map(tuple))
words = st.lists(texts, max_size=3).map(tuple)
transforms = st.builds(
    TransformTask,
    id=texts,
    project=texts,
    pipeline=texts,
    cmd=words,
    stdin=st.none() | words,
    env=st.dictionaries(texts, texts, max_size=3),
    working_dir=texts,
    cwd=texts,
    accept_return_code=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    err_cmd=words,
    err_stdin=st.none() | words,
    datum_tries=st.integers(1, 9),
    datum_timeout_seconds=st.none() | st.floats(0, 1e6),
    placeholders=st.booleans(),
    code=st.none() | st.lists(files, max_size=3).map(tuple),
)
results = st.builds(
    DatumResult,
    sizes,
    sizes,
    st.sampled_from(DatumState),
    st.floats(0, 1e6),
    texts,
    texts,
)


@st.composite
def packs(draw: st.DrawFn) -> PackRecord:
    pack = PackId(draw(ids))
    places = st.builds(Location, st.just(pack), sizes, sizes, sizes, st.integers(0, 1))
    return PackRecord(pack, draw(sizes), tuple(draw(st.lists(st.tuples(digests, places), max_size=3))))


reports = st.builds(
    BatchReport,
    texts,
    st.booleans(),
    st.none() | digests,
    st.lists(results, max_size=3).map(tuple),
    st.lists(packs(), max_size=2).map(tuple),
    sizes,
    sizes,
    st.booleans(),
    texts,
    texts,
)
batches = st.builds(
    BatchTask,
    texts,
    ids.map(CommitId),
    ids.map(CommitId),
    texts,
    st.lists(datums, max_size=3).map(tuple),
    permits=st.lists(st.builds(Permit, ids.map(PackId), texts), max_size=3).map(tuple),
)
plain = st.one_of(
    st.builds(Cancel, texts),
    st.just(Drain()),
    st.just(Stop()),
    st.builds(Ready, sizes, texts, texts),
    st.just(Claim()),
    st.builds(Heartbeat, texts, sizes, sizes, texts, st.floats(0, 1e6)),
)


@given(st.one_of(plain, transforms, batches, reports))
def test_every_message_survives_the_way(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"nonsense", b'{"type":"other"}', b'{"type":"cancel"}', b'{"type":"batch"}']
)
def test_what_is_no_message_is_named(line: bytes) -> None:
    with pytest.raises(InvalidInput, match="does not parse"):
        decode(line)


def test_a_pack_is_named_once_in_a_batch() -> None:
    at = Location(PackId("f" * 32), 8, 1, 1, 0)
    file = FileTask("/a", 1, False, ((Digest(b"d" * 32), at),))
    element = InputTask("in", "/a", "default/r", "main", CommitId("0" * 32), "", "", False, (file, file))
    batch = BatchTask(
        "l",
        CommitId("0" * 32),
        CommitId("0" * 32),
        "t",
        (DatumTask(DatumId("1" * 32), DatumKey(b"k" * 32), (element, element)),),
    )
    assert encode(batch).count(b"f" * 32) == 1


def test_two_ends_that_both_write_do_not_lock_up() -> None:
    ours, theirs = socket.socketpair()
    large = Cancel("x" * 4_000_000)
    ends = [Channel(ours), Channel(theirs)]

    def talk(end: Channel) -> Message:
        end.send(large)
        while not end.received:
            end.wait()
        return end.received.popleft()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(talk, ends)) == [large, large]
    ours.close()
    with pytest.raises(EngineGoneError):
        ends[1].wait()
    theirs.close()


def test_messages_come_out_whole_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    end = Channel(theirs)
    data = encode(Cancel("one")) + encode(Drain()) + encode(Stop())
    for place in range(len(data)):
        ours.sendall(data[place : place + 1])
        end.read()
    assert list(end.received) == [Cancel("one"), Drain(), Stop()]
    ours.close()
    theirs.close()
