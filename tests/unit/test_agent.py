"""The agent without a server: how long it waits, and what it says in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from paddock.client import agent as agent_module
from paddock.client.agent import PATIENCE_SECONDS_MIN, Agent
from paddock.model.errors import Unavailable
from paddock.runtime.engines.local import LocalEngine, WorkerOptions
from paddock.runtime.engines.network import FromWorker, ToWorker
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

    def exchange(self, agent: str, *, received: int, messages: Sequence[FromWorker], wait: bool) -> Sequence[ToWorker]:
        self._clock.now += 5
        raise Unavailable("nobody is there")

    def leave(self, agent: str) -> None:
        raise Unavailable("nobody is there")


@pytest.mark.parametrize("answers", [0, 1])
def test_an_agent_ends_when_no_server_was_heard_of_for_its_patience(
    answers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS_MAX", 0.2)
    monkeypatch.setattr(agent_module, "BEAT_SECONDS", 0.05)
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
