"""The network engine: numbers of messages, agents that fall silent, and what is left of a repeated or broken exchange."""

from __future__ import annotations

import dataclasses

import pytest

from paddock.model.errors import Conflict, InvalidInput, NotFound, PermissionDenied, Unavailable
from paddock.runtime.engines.engine import WorkerGone, WorkerMessage
from paddock.runtime.engines.exchange_format import read_down, read_up, write_down, write_up
from paddock.runtime.engines.network import (
    BEAT_SECONDS,
    BEAT_SECONDS_MAX,
    FIRST_WORKER,
    SILENCE_SECONDS,
    Answer,
    FromWorker,
    NetworkEngine,
    ToWorker,
    beat_seconds,
)
from paddock.runtime.protocol import BatchReport, Cancel, Claim, Drain, Ready, Stop, decode, encode

READY = encode(Ready(7, "namespaces", ""))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def say(number: int, line: bytes | None, *, slot: int = 0, reason: str = "") -> FromWorker:
    return FromWorker(number, slot, line, reason)


def exchange(engine: NetworkEngine, agent: str, *messages: FromWorker, received: int = 0) -> list[ToWorker]:
    return list(engine.exchange(agent, pool="p", received=received, messages=messages).messages)


def test_a_worker_counts_from_its_ready_on_and_has_its_pool() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    exchange(engine, agent, say(0, encode(Claim()), slot=4))
    assert engine.poll(0) == ()
    exchange(engine, agent, say(1, READY, slot=4), say(2, encode(Claim()), slot=4))
    ready, claim = engine.poll(0)
    assert isinstance(ready, WorkerMessage)
    assert ready.worker >= FIRST_WORKER
    assert claim == WorkerMessage(ready.worker, Claim())
    assert engine.workers() == (ready.worker,)
    assert engine.place(ready.worker).pool == "p"
    engine.stop()


def test_what_a_worker_could_not_store_is_told_with_its_host() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    lost = BatchReport("a", True, None, (), (), error_code="limit-exceeded", error="the disk is full")
    exchange(engine, agent, say(0, READY), say(1, encode(lost)))
    _, said = engine.poll(0)
    assert isinstance(said, WorkerMessage)
    assert said.message == dataclasses.replace(lost, error="the disk is full (on alder)")
    engine.stop()


def test_a_repeated_exchange_counts_once_and_says_the_same() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    messages = (say(0, READY), say(1, encode(Claim())))
    exchange(engine, agent, *messages)
    worker = engine.workers()[0]
    engine.send(worker, Cancel("a"))
    engine.send(worker, Cancel("b"))
    first = exchange(engine, agent, *messages)
    again = exchange(engine, agent, *messages)
    assert first == again
    assert [decode(message.line or b"") for message in first] == [Cancel("a"), Cancel("b")]
    assert len(engine.poll(0)) == 2
    assert [message.number for message in exchange(engine, agent, received=1)] == [1]
    assert exchange(engine, agent, received=2) == []
    engine.stop()


def test_a_message_that_is_missing_is_asked_for_and_nothing_is_taken() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    with pytest.raises(Conflict, match="left out message 0"):
        exchange(engine, agent, say(1, READY))
    assert engine.workers() == ()
    exchange(engine, agent, say(0, READY))
    assert len(engine.workers()) == 1
    engine.stop()


def test_a_retired_agent_is_told_once_and_its_workers_are_in_no_pool() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    exchange(engine, agent, say(0, READY))
    (worker,) = engine.workers()
    for _ in range(2):
        engine.retire(agent)
    engine.retire("nobody")
    (message,) = exchange(engine, agent, received=0)
    assert read_down(write_down(Answer([message]))).messages == [ToWorker(0, 0, None, retire=True)]
    assert engine.workers() == (worker,)
    assert engine.place(worker).pool == ""
    (info,) = engine.agents()
    assert (info.retired, info.workers) == (True, (worker,))
    engine.leave(agent, "its node failed", taken=True)
    assert WorkerGone(worker, "its node failed", taken=True) in engine.poll(0)
    with pytest.raises(InvalidInput):
        read_up(b"0 0 =\n")
    engine.stop()


def test_a_worker_that_ends_is_told_with_its_host_and_another_takes_its_slot() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    exchange(engine, agent, say(0, READY))
    (first,) = engine.workers()
    exchange(engine, agent, say(1, None, reason="killed by SIGKILL"), say(2, READY))
    events = engine.poll(0)
    assert events[1] == WorkerGone(first, "killed by SIGKILL (on alder)")
    assert engine.workers() != (first,)
    engine.stop()


def test_a_silent_agent_is_lost_with_its_workers_and_has_to_join_again() -> None:
    clock = Clock()
    engine = NetworkEngine(monotonic=clock)
    quiet, lively = engine.join(pool="p", host="alder"), engine.join(pool="p", host="birch")
    exchange(engine, quiet, say(0, READY))
    exchange(engine, lively, say(0, READY))
    engine.poll(0)
    clock.now += SILENCE_SECONDS - 1
    exchange(engine, lively)
    assert engine.poll(0) == ()
    clock.now += 2
    (gone,) = engine.poll(0)
    assert isinstance(gone, WorkerGone)
    assert "alder has not been heard of" in gone.reason
    with pytest.raises(NotFound, match="join again"):
        exchange(engine, quiet, say(1, encode(Claim())))
    assert [agent.host for agent in engine.agents()] == ["birch"]
    engine.stop()


def test_a_token_of_another_pool_is_no_way_to_an_agent() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    with pytest.raises(PermissionDenied, match="another pool than q"):
        engine.exchange(agent, pool="q", received=0, messages=(say(0, READY),))
    with pytest.raises(PermissionDenied, match="another pool than q"):
        engine.leave(agent, "it is told to", pool="q")
    assert [each.id for each in engine.agents()] == [agent]
    assert engine.poll(0) == ()
    engine.stop()


def test_what_goes_down_is_refused_on_the_way_up() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    with pytest.raises(InvalidInput, match="other way"):
        exchange(engine, agent, say(0, encode(Drain())))
    engine.stop()


def test_killing_is_told_to_the_agent_and_leaving_ends_its_workers() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    exchange(engine, agent, say(0, READY))
    (worker,) = engine.workers()
    engine.kill(worker)
    assert exchange(engine, agent) == [ToWorker(0, 0, None)]
    engine.poll(0)
    engine.leave(agent, "its agent has left")
    engine.leave(agent, "its agent has left")
    assert engine.poll(0) == (WorkerGone(worker, "its agent has left"),)
    engine.send(worker, Stop())
    assert engine.workers() == ()
    engine.stop()


def test_a_stopped_engine_sends_agents_elsewhere() -> None:
    engine = NetworkEngine()
    agent = engine.join(pool="p", host="alder")
    woken: list[bool] = []
    engine.watch(agent, lambda: woken.append(True))
    engine.stop()
    engine.stop()
    assert woken == [True]
    with pytest.raises(Unavailable, match="join again"):
        exchange(engine, agent)
    with pytest.raises(Unavailable):
        engine.join(pool="p", host="alder")


def test_a_server_that_goes_down_lets_agents_go_and_knows_them_still() -> None:
    engine = NetworkEngine()
    near, far = engine.join(pool="p", host="alder"), engine.join(pool="p", host="birch")
    woken: list[str] = []
    engine.watch(near, lambda: woken.append("near"))
    engine.let_go()
    assert woken == ["near"]
    assert exchange(engine, far) == []
    engine.stop()


def test_the_more_agents_there_are_the_less_often_each_sends_heartbeats() -> None:
    assert [beat_seconds(agents) for agents in (1, 400, 1_000)] == [BEAT_SECONDS, BEAT_SECONDS, 2.5]
    assert beat_seconds(10_000) == BEAT_SECONDS_MAX < SILENCE_SECONDS / 3
    engine = NetworkEngine()
    agents = [engine.join(pool="p", host="alder") for _ in range(800)]
    assert engine.exchange(agents[0], pool="p", received=0, messages=()).beat_seconds == 2.0
    engine.stop()


def test_an_exchange_survives_its_wire_format() -> None:
    up = [say(0, READY.strip()), say(1, None, slot=3, reason="ended\nbadly")]
    assert read_up(write_up(up)) == [up[0], FromWorker(1, 3, None, "ended badly")]
    down = [ToWorker(4, 0, encode(Stop()).strip()), ToWorker(5, 1, None)]
    assert read_down(write_down(Answer(down, 2.5))) == Answer(down, 2.5)
    assert read_up(b"") == []
    for wrong in (b"nonsense\n", b"1 x {}\n", b"1 2 hello\n"):
        with pytest.raises(InvalidInput, match="same Paddock version"):
            read_up(wrong)
    for wrong in (b"", b"0 0 {}\n", b"beat\n", b"beat soon\n", b"beat nan\n", b"beat -1\n"):
        with pytest.raises(InvalidInput, match="same Paddock version"):
            read_down(wrong)
