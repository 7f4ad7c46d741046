"""`engine: slurm` against a real Slurm on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.model.errors import InvalidInput
from paddock.model.ids import new_id
from paddock.pipelines.spec import validate_spec
from paddock.pipelines.worker_pools import worker_pool
from paddock.runtime.engines.provisioner import Member, MemberState, PoolTemplate, Site
from paddock.runtime.engines.slurm.provisioner import SlurmProvisioner
from paddock.settings import Settings
from paddock.testing.slurm import NODE_CPUS, NODES, RunningSlurm

LIMIT_SECONDS = 60
WAITING, STARTED, ENDED = MemberState.WAITING, MemberState.STARTED, MemberState.ENDED


class StandIn:
    """Members that wait for SIGTERM in place of working: a program that is started as `paddock` would be."""

    def __init__(self, slurm: RunningSlurm, folder: Path) -> None:
        self._slurm = slurm
        self._folder = folder
        self.program = folder / "paddock"
        self.becomes(
            'trap "exit 0" TERM; echo "$PADDOCK_WORKER_TOKEN" > "$0.slurm-${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"; sleep 60 & wait'
        )
        self.provisioner = self.open(new_id())

    def becomes(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    def open(self, home: str) -> SlurmProvisioner:
        self.home = home
        settings = Settings(slurm_folder=str(self._folder / "out"), slurm_command=str(self.program))
        return SlurmProvisioner(
            Site(home, "http://server:1659", None, settings), environment=self._slurm.environment, look_seconds=0
        )

    def start(self, count: int, **fields: Any) -> str:
        """Start members for a spec; their pool."""
        minimal = {"pipeline": "p", "transform": {"cmd": ["true"]}, "input": {"pfs": {"repo": "a", "glob": "/*"}}}
        spec = validate_spec({**minimal, "engine": "slurm", **fields}).spec
        pool = worker_pool(spec, "local")
        self.provisioner.start(PoolTemplate(pool, spec, "secret"), count)
        return pool

    def members(self, pool: str) -> list[Member]:
        return [member for member in self.provisioner.members() if member.pool == pool]

    def wait(self, pool: str, *states: MemberState) -> list[Member]:
        """Until the pool's members are in these states, in any order."""
        return self.wait_until(pool, lambda found: sorted(each.state for each in found) == sorted(states))

    def wait_until(self, pool: str, reached: Any) -> list[Member]:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not reached(found := self.members(pool)):
            assert time.monotonic() < deadline, f"{found}\n{self._slurm.logs()}"
        return found

    def await_trap(self, *names: str) -> None:
        """Until these members listen to SIGTERM."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not all(Path(f"{self.program}.{name}").exists() for name in names):
            assert time.monotonic() < deadline, self._slurm.logs()


@pytest.fixture
def stand_in(slurm: RunningSlurm, tmp_path: Path) -> Iterator[StandIn]:
    yield StandIn(slurm, tmp_path)
    slurm.cancel_all()


def test_members_start_drain_and_are_found_by_the_next_server(stand_in: StandIn, slurm: RunningSlurm) -> None:
    pool = stand_in.start(2)
    names = [member.name for member in stand_in.wait(pool, STARTED, STARTED)]
    stand_in.await_trap(*names)
    # The token is in the environment, and not where others can see it.
    assert Path(f"{stand_in.program}.{names[0]}").read_text() == "secret\n"
    assert "secret" not in slurm.run("scontrol", "show", "job", names[0].removeprefix("slurm-"))
    assert [(each.name, each.pool) for each in stand_in.open(stand_in.home).members()] == [
        (each, pool) for each in names
    ]
    assert stand_in.open(new_id()).members() == []
    stand_in.provisioner.cancel([names[0], "slurm-999999_0"])
    members = {each.name: each for each in stand_in.wait(pool, STARTED, ENDED)}
    assert members[names[0]] == Member(names[0], pool, ENDED)
    # It ended by itself after SIGTERM, and only its first process had it.
    assert slurm.jobs()[names[0].removeprefix("slurm-")] == "COMPLETED"
    stand_in.provisioner.remove_pool(pool)
    assert all(not each.reason for each in stand_in.wait(pool, ENDED, ENDED))
    stand_in.provisioner.remove_pool(pool)


def test_what_waits_says_why_and_is_taken_from_the_queue(stand_in: StandIn) -> None:
    pool = stand_in.start(len(NODES) + 2, resource_requests={"cpu": NODE_CPUS})
    running = [STARTED] * len(NODES)
    waiting = stand_in.wait_until(
        pool, lambda found: sum(each.state is STARTED for each in found) == len(NODES) and all_told(found)
    )
    assert {each.reason.partition(" (")[0] for each in waiting if each.state is WAITING} <= {
        "it is the next to start when enough CPUs, memory and GPUs are free",
        "jobs of higher priority come first",
    }
    stand_in.provisioner.cancel([each.name for each in waiting if each.state is WAITING])
    assert [each.reason for each in stand_in.wait(pool, *running, ENDED, ENDED)] == [""] * 4


def all_told(members: list[Member]) -> bool:
    return all(each.reason for each in members if each.state is WAITING)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resource_requests": {"cpu": 99}}, "no node of the partition ever has"),
        ({"slurm": {"partition": "short", "time_limit": "2h"}}, "lower slurm.time_limit"),
    ],
    ids=["cpus", "time"],
)
def test_what_can_never_start_says_what_to_change(stand_in: StandIn, fields: dict[str, Any], said: str) -> None:
    pool = stand_in.start(1, **fields)
    (member,) = stand_in.wait_until(pool, lambda found: said in found[0].reason)
    assert not member.retry
    assert member.state is not STARTED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"slurm": {"partition": "nowhere"}}, "slurm.partition"),
        ({"slurm": {"constraint": "quantum"}}, "slurm.constraint"),
        ({"slurm": {"gres": "tape:1"}}, "slurm.gres"),
        ({"resource_requests": {"gpu": {"number": 1}}}, "resource_requests.gpu"),
        ({"resource_requests": {"memory": "1Ti"}}, "resource_requests.memory"),
        ({"slurm": {"options": ["--no-such-option"]}}, "slurm.options"),
        ({"slurm": {"options": ["--reservation=mine"]}}, "slurm.options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refused_submission_names_the_field(stand_in: StandIn, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"Slurm refuses the workers: .*change .*{field}"):
        stand_in.start(1, **fields)
    # Slurm keeps a record of some that it refuses; none of them waits or runs.
    assert {member.state for member in stand_in.provisioner.members()} <= {ENDED}


def test_a_worker_that_can_not_start_says_why(stand_in: StandIn) -> None:
    stand_in.becomes("echo 'no python here' >&2; exit 127")
    pool = stand_in.start(1)
    (member,) = stand_in.wait(pool, ENDED)
    assert "ended with exit code 127: no python here (Slurm: FAILED)" in member.reason
    assert member.retry


def test_a_node_that_fails_and_a_stranger_who_cancels_are_told(stand_in: StandIn, slurm: RunningSlurm) -> None:
    pool = stand_in.start(2, slurm={"options": ["--nodelist=n2"]})
    first, second = (member.name for member in stand_in.wait(pool, STARTED, STARTED))
    stand_in.await_trap(first, second)
    slurm.run("scancel", first.removeprefix("slurm-"))
    stand_in.wait(pool, STARTED, ENDED)
    slurm.kill_node("n2")
    reasons = {member.name: member.reason for member in stand_in.wait(pool, ENDED, ENDED)}
    assert reasons[first] == "somebody cancelled it (scancel); its datums run again (Slurm: CANCELLED)"
    assert reasons[second] == "its node n2 failed; its datums run again elsewhere (Slurm: NODE_FAIL)"
    # Nothing is started again by Slurm itself.
    slurm.start_node("n2")
    stand_in.wait(pool, ENDED, ENDED)
