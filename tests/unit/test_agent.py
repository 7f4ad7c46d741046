"""The agent without a server: how long it waits, and what it says in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from paddock.client import agent as agent_module
from paddock.client.agent import PATIENCE_SECONDS_MIN, Agent
from paddock.model.errors import Unavailable
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.engine import OWN_PLACE, Place, WorkerEvent, WorkerId, WorkerMessage
from paddock.runtime.engines.local import LocalEngine, WorkerOptions
from paddock.runtime.engines.network import BEAT_SECONDS_MAX, Answer, FromWorker
from paddock.runtime.protocol import Claim, Down, Heartbeat, Up, decode
from paddock.storage.chunking import ChunkingParameters


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Nobody:
    """An uplink whose server is gone; each attempt takes a while of the clock's time."""

    def __init__(self, clock: Clock, *, answers: int) -> None:
        self._clock = clock
        self._answers = answers
        self.joined: list[float] = []

    def join(self) -> str:
        self._clock.now += 5
        if len(self.joined) < self._answers:
            self.joined.append(self._clock.now)
            return "agent"
        raise Unavailable("nobody is there")

    def exchange(self, agent: str, *, received: int, messages: Sequence[FromWorker], wait: bool) -> Answer:
        self._clock.now += 5
        raise Unavailable("nobody is there")

    def leave(self, agent: str) -> None:
        raise Unavailable("nobody is there")


@pytest.mark.parametrize("answers", [0, 1])
def test_an_agent_ends_when_no_server_was_heard_of_for_its_patience(
    answers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS_MAX", 0.2)
    monkeypatch.setattr(agent_module, "LOOK_SECONDS", 0.05)
    clock = Clock()
    engine = LocalEngine(
        objects=str(tmp_path), scratch=tmp_path, chunking=ChunkingParameters(1, 2, 3), options=WorkerOptions()
    )
    uplink = Nobody(clock, answers=answers)
    agent = Agent(uplink, engine, slots=0, patience_seconds=20.0, monotonic=clock)
    with pytest.raises(Unavailable, match="no server was heard of for 20 s; start another worker"):
        agent.run()
    engine.stop()
    assert len(uplink.joined) == answers
    assert clock.now > (uplink.joined or [100.0])[-1] + 20
    assert PATIENCE_SECONDS_MIN < 20


def test_an_agent_whose_workers_do_not_start_says_why_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS_MAX", 0.2)
    engine = LocalEngine(
        objects="http://127.0.0.1:1/objects",
        token_file=tmp_path / "missing",
        scratch=tmp_path / "scratch",
        chunking=ChunkingParameters(1, 2, 3),
        options=WorkerOptions(sandbox="directory"),
    )
    agent = Agent(Nobody(Clock(), answers=1), engine, slots=1)
    with pytest.raises(Unavailable, match=r"^workers don't start on this host: [^\n]*FileNotFoundError[^\n]*missing'$"):
        agent.run()
    engine.stop()


class Listener:
    """An uplink whose server wants heartbeats once an hour. heard: what it heard, by exchange."""

    def __init__(self) -> None:
        self.heard: list[list[Up]] = []
        self.left = threading.Event()
        self.on_claim: Callable[[], None] = lambda: None

    def join(self) -> str:
        return "agent"

    def exchange(self, agent: str, *, received: int, messages: Sequence[FromWorker], wait: bool) -> Answer:
        if wait:
            self.left.wait(60)
        said = [decode(message.line or b"") for message in messages]
        self.heard.append([each for each in said if isinstance(each, Up)])
        if Claim() in said:
            self.on_claim()
        return Answer((), beat_seconds=3600.0)

    def leave(self, agent: str) -> None:
        self.left.set()


class Beating:
    """An engine with one worker, which says a heartbeat at each look, and at the last one that it has room for a batch. A look takes a
    tenth of a second of the clock's time."""

    LOOKS = 100

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready = os.eventfd(1)
        self._looks = 0
        self._started = False

    def fileno(self) -> int:
        return self._ready

    def scale(self, workers: int) -> None:
        self._started = True

    def workers(self) -> Sequence[WorkerId]:
        return (WorkerId(0),) if self._started and self._looks < self.LOOKS else ()

    def place(self, worker: WorkerId) -> Place:
        return OWN_PLACE

    def machines(self) -> Mapping[Place, Capacity]:
        return {}

    def send(self, worker: WorkerId, message: Down) -> None:
        pass

    def flush(self) -> None:
        pass

    def kill(self, worker: WorkerId) -> None:
        pass

    def poll(self, timeout_seconds: float) -> Sequence[WorkerEvent]:
        self._looks += 1
        self._clock.now += 0.1
        beat = Heartbeat("lease", self._looks, 0, "datum", 0.0)
        said: list[Up] = [beat, Claim()] if self._looks == self.LOOKS else [beat]
        return [WorkerMessage(WorkerId(0), each) for each in said]

    def stop(self) -> None:
        os.close(self._ready)


def test_of_heartbeats_the_newest_is_sent_as_often_as_the_server_wants_it() -> None:
    clock = Clock()
    clock.now = 0.0
    uplink, engine = Listener(), Beating(clock)
    agent = Agent(uplink, engine, slots=1, monotonic=clock)
    uplink.on_claim = agent.drain
    agent.run()
    engine.stop()
    said = [each for messages in uplink.heard for each in messages]
    beats = [each for each in said if isinstance(each, Heartbeat)]
    assert Claim() in said
    assert len(beats) <= clock.now / BEAT_SECONDS_MAX + 2
    assert all(len([each for each in messages if isinstance(each, Heartbeat)]) <= 1 for messages in uplink.heard)
