"""What datums take of a machine, and what is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.errors import InvalidInput
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.runtime.capacity import Capacity
from paddock.runtime.dispatch import LeaseId
from paddock.runtime.engines.engine import WorkerId
from paddock.runtime.engines.machine import machine_capacity
from paddock.runtime.resources import Budget, Need, need_of, never_fits, shares

MACHINE = Capacity(cpus=4, memory_bytes=8 << 30, disk_bytes=100 << 30, gpus=("0", "1"))


def spec(**fields: Any) -> PipelineSpec:
    return validate_spec(
        {
            "pipeline": {"name": "p"},
            "transform": {"cmd": ["true"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            **fields,
        }
    ).spec


def test_a_datum_that_says_nothing_takes_one_cpu() -> None:
    assert need_of(spec()) == Need(millicpus=1000)


def test_limits_stand_in_for_requests() -> None:
    found = need_of(
        spec(
            resource_requests={"cpu": "500m", "memory": "64M"},
            resourceLimits={"cpu": 2, "memory": "1Gi", "disk": "2Gi", "gpu": {"type": "nvidia.com/gpu", "number": 1}},
        )
    )
    assert found == Need(500, 64_000_000, 2 << 30, 1, "nvidia.com/gpu")


def test_what_protobuf_writes_for_nothing_is_nothing() -> None:
    unset = {"cpu": 0, "memory": "", "disk": "", "gpu": {"type": "", "number": 0}}
    assert need_of(spec(resource_requests=unset)) == Need()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("resource_requests", {"cpu": "two"}, "resource_requests.cpu"),
        ("resource_requests", {"cpu": -1}, "resource_requests.cpu"),
        ("resource_requests", {"memory": "lots"}, "resource_requests.memory"),
        ("resource_limits", {"gpu": {"number": -1}}, "resource_limits.gpu.number"),
        ("resource_limits", {"ram": "1G"}, "unknown field 'ram'"),
        ("datum_limits", {"memory": 0}, "datum_limits.memory"),
        ("datum_limits", {"time": "soon"}, "datum_limits.time"),
        ("datum_limits", {"output": True}, "datum_limits.output"),
    ],
)
def test_a_wrong_value_is_named(field: str, value: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        spec(**{field: value})
    assert says in str(caught.value)


def test_what_never_fits_names_field_and_machine() -> None:
    assert not never_fits(
        spec(resource_requests={"cpu": 4, "memory": "8Gi", "disk": "100Gi", "gpu": {"number": 2}}), MACHINE
    )
    found = never_fits(
        spec(
            resource_requests={"cpu": 5, "memory": "9Gi", "disk": "101Gi"},
            resource_limits={"gpu": {"type": "nvidia.com/gpu", "number": 3}},
        ),
        MACHINE,
    )
    assert found.split("; ") == [
        "resource_requests.cpu asks for 5 CPUs, and this machine has 4",
        "resource_requests.memory asks for 9 GiB of memory, and this machine has 8 GiB",
        "resource_requests.disk asks for 101 GiB of disk, and this machine has 100 GiB free",
        "resource_limits.gpu asks for 3 GPUs, and this machine has 2 (PADDOCK_GPUS names them)",
    ]
    other = never_fits(spec(resource_limits={"gpu": {"type": "amd.com/gpu"}}), MACHINE)
    assert other == "resource_limits.gpu asks for amd.com/gpu, and only nvidia.com/gpu is known here"


def test_a_cluster_gives_its_workers_the_kind_of_gpu_that_they_ask_for() -> None:
    assert not never_fits(spec(resource_limits={"gpu": {"type": "a100"}}), MACHINE, "slurm")


def test_what_only_pods_are_given_fits_them_alone() -> None:
    transform = {"cmd": ["true"], "user": "nobody", "secrets": [{"name": "s", "mount_path": "/s"}]}
    wanted = spec(engine="kubernetes", transform=transform, resource_limits={"gpu": {"type": "amd.com/gpu"}})
    assert not never_fits(wanted, MACHINE, "kubernetes")
    assert never_fits(wanted, MACHINE).split("; ")[:2] == [
        "transform.secrets is for pods only",
        "let a server with `engine: kubernetes` run the pipeline",
    ]


def test_a_worker_holds_the_most_that_its_batches_need() -> None:
    budget = Budget(MACHINE)
    one, other = WorkerId(1), WorkerId(2)
    assert budget.take(one, LeaseId("a"), Need(1000, gpus=1)) == ("0",)
    assert budget.take(one, LeaseId("b"), Need(3000, gpus=1)) == ("0",)
    assert budget.lacks(other, Need(2000, gpus=2)) == {"cpu", "gpu"}
    assert budget.lacks(other, Need(1000, gpus=1)) == frozenset()
    assert budget.lacks(one, Need(4000)) == frozenset()
    budget.free(one, LeaseId("b"))
    assert budget.lacks(other, Need(3000)) == frozenset()
    assert budget.lacks(other, budget.whole(Need())) == {"cpu"}
    budget.free(one, LeaseId("a"))
    assert budget.lacks(other, budget.whole(Need(gpus=2))) == frozenset()


def test_who_takes_of_what_another_lacks_shares_with_it() -> None:
    assert shares(frozenset({"cpu"}), Need())
    assert not shares(frozenset({"gpu", "memory"}), Need())
    assert shares(frozenset({"gpu", "memory"}), Need(memory_bytes=1))


needs = st.builds(
    Need,
    millicpus=st.integers(1, 4000),
    memory_bytes=st.sampled_from([0, 1 << 30, 5 << 30]),
    disk_bytes=st.sampled_from([0, 60 << 30]),
    gpus=st.integers(0, 2),
)


@given(st.lists(st.one_of(st.tuples(st.integers(0, 5), needs), st.integers(0, 100)), max_size=60))
def test_what_is_taken_always_fits_and_no_gpu_is_given_twice(steps: list[Any]) -> None:
    """An integer gives one of the leases back; anything else is a lease that is taken if it fits."""
    budget = Budget(MACHINE)
    leases: list[tuple[WorkerId, LeaseId, Need, tuple[str, ...]]] = []
    for number, step in enumerate(steps):
        if isinstance(step, int):
            if leases:
                worker, lease, need, _ = leases.pop(step % len(leases))
                assert budget.free(worker, lease) == need
            continue
        worker, need = WorkerId(step[0]), step[1]
        if not budget.lacks(worker, need):
            lease = LeaseId(str(number))
            leases.append((worker, lease, need, budget.take(worker, lease, need)))
        _check(leases)
    for worker, lease, _, _ in leases:
        budget.free(worker, lease)
    assert budget.lacks(WorkerId(0), Need(4000, 8 << 30, 100 << 30, 2)) == frozenset()


def _check(leases: list[tuple[WorkerId, LeaseId, Need, tuple[str, ...]]]) -> None:
    workers = {worker for worker, *_ in leases}
    most = [[need for worker, _, need, _ in leases if worker == each] for each in workers]
    assert sum(max(need.millicpus for need in group) for group in most) <= 4000
    assert sum(max(need.memory_bytes for need in group) for group in most) <= 8 << 30
    assert sum(max(need.disk_bytes for need in group) for group in most) <= 100 << 30
    assert all(len(gpus) == need.gpus for _, _, need, gpus in leases)
    owners = {(gpu, worker) for worker, _, _, gpus in leases for gpu in gpus}
    assert len({gpu for gpu, _ in owners}) == len(owners)


def test_the_machine_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    found = machine_capacity(tmp_path, workers=500)
    assert (found.cpus, found.gpus) == (500, ("3", "GPU-a"))
    assert 1 << 20 < found.memory_bytes < 1 << 50
    assert found.disk_bytes > 0
    told = machine_capacity(tmp_path, workers=1, memory_bytes=5, gpus=())
    assert (told.memory_bytes, told.gpus) == (5, ())
