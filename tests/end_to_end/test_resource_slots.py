"""What datums ask for is theirs while they run: no more run at once than fit, each GPU has one user."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import JobState
from paddock.settings import Settings

SPAN = 'date +%s.%N > /pfs/out/$(basename $data); sleep 0.1; echo "$(date +%s.%N) $CUDA_VISIBLE_DEVICES" >> /pfs/out/$(basename $data)'


def run(home: Path, pipelines: dict[str, dict[str, Any]], **settings: Any) -> EmbeddedPaddock:
    """Eight datums through each of the pipelines, which write when they ran."""
    paddock = EmbeddedPaddock.open(home, settings=Settings(grace_seconds=0.1, **settings))
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for number in range(8):
        paddock.files.put(f"data@main:/{number}", b"x")
    paddock.commits.finish("data@main")
    for name, fields in pipelines.items():
        paddock.pipelines.apply(
            {
                "pipeline": {"name": name},
                "transform": {"cmd": ["sh", "-c", SPAN]},
                "input": {"pfs": {"repo": "data", "glob": "/*"}},
                **fields,
            }
        )
    paddock.process()
    return paddock


def spans(paddock: EmbeddedPaddock, pipeline: str) -> list[tuple[float, float, str]]:
    found = []
    for number in range(8):
        text = b"".join(paddock.files.read(f"{pipeline}@main:/{number}")).decode()
        begin, rest = text.splitlines()
        end, _, gpus = rest.partition(" ")
        found.append((float(begin), float(end), gpus))
    return found


def most_at_once(found: list[tuple[float, float, float]]) -> float:
    """The highest sum of the weights of spans (begin, end, weight) that overlap."""
    events = sorted([(begin, weight) for begin, _, weight in found] + [(end, -weight) for _, end, weight in found])
    total = most = 0.0
    for _, weight in events:
        total += weight
        most = max(most, total)
    return most


def test_no_more_datums_run_at_once_than_have_room(home_path: Path) -> None:
    wide = {"resource_requests": {"cpu": 2, "memory": "1Gi"}}
    paddock = run(home_path, {"wide": wide, "plain": {}}, workers=4, memory=16 << 30)
    weighted = [(begin, end, 2.0) for begin, end, _ in spans(paddock, "wide")]
    weighted += [(begin, end, 1.0) for begin, end, _ in spans(paddock, "plain")]
    assert 2.0 <= most_at_once(weighted) <= 4.0


def test_memory_is_set_aside(home_path: Path) -> None:
    paddock = run(home_path, {"big": {"resource_requests": {"memory": "3Gi"}}}, workers=4, memory=5 << 30)
    assert most_at_once([(begin, end, 1.0) for begin, end, _ in spans(paddock, "big")]) == 1.0


def test_each_gpu_has_one_datum(home_path: Path) -> None:
    gpu = {"resource_limits": {"gpu": {"type": "nvidia.com/gpu", "number": 1}}}
    paddock = run(home_path, {"one": gpu, "other": gpu}, workers=4, gpus=("a", "b"))
    users = defaultdict(list)
    for begin, end, gpus in spans(paddock, "one") + spans(paddock, "other"):
        users[gpus].append((begin, end, 1.0))
    assert set(users) == {"a", "b"}
    assert [most_at_once(found) for found in users.values()] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("asks", "reason"),
    [
        ({"gpu": {"number": 1}}, "resource_requests.gpu asks for 1 GPUs, and this machine has none"),
        ({"memory": "2Gi"}, "resource_requests.memory asks for 2 GiB of memory, and this machine has 1 GiB"),
        ({"cpu": 5000}, "resource_requests.cpu asks for 5000 CPUs, and this machine has"),
    ],
)
def test_what_can_never_run_is_unrunnable(home_path: Path, asks: dict[str, Any], reason: str) -> None:
    paddock = run(home_path, {"p": {"resource_requests": asks}}, workers=2, memory=1 << 30, gpus=())
    (job,) = paddock.jobs.list(pipeline="p")
    assert job.state is JobState.UNRUNNABLE
    assert reason in job.reason


def test_what_only_pods_are_given_does_not_run_without_them(home_path: Path) -> None:
    transform = {"cmd": ["sh", "-c", SPAN], "user": "nobody"}
    paddock = run(home_path, {"p": {"engine": "kubernetes", "transform": transform}}, workers=1)
    (job,) = paddock.jobs.list(pipeline="p")
    assert job.state is JobState.UNRUNNABLE
    assert "transform.user is for pods only; let a server with `engine: kubernetes` run the pipeline" in job.reason
