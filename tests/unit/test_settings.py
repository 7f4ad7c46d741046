"""Settings from the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput
from paddock.settings import SETTINGS, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({setting.variable: "" for setting in SETTINGS}) == Settings()


def test_every_field_is_documented_and_every_documented_one_exists() -> None:
    assert [setting.field for setting in SETTINGS] == [field.name for field in dataclasses.fields(Settings)]
    for setting in SETTINGS:
        assert setting.variable == f"PADDOCK_{setting.field.upper()}"
        assert all(dataclasses.astuple(setting))


def test_values_are_read() -> None:
    environment = {
        "PADDOCK_HOME": "/data/home",
        "PADDOCK_STORAGE": "s3://bucket/a",
        "PADDOCK_URL": "http://localhost:8000",
        "PADDOCK_CATALOG": "postgresql://db/paddock",
        "PADDOCK_PROJECT": "vision",
        "PADDOCK_WORKERS": "3",
        "PADDOCK_ENGINE": "slurm",
        "PADDOCK_POOL_WORKERS_MAX": "40",
        "PADDOCK_SLURM_FOLDER": "/shared/out",
        "PADDOCK_SLURM_COMMAND": "apptainer run 'my paddock.sif'",
        "PADDOCK_SLURM_DIRECT": "1",
        "PADDOCK_WORKER_IMAGE": "paddock:1",
        "PADDOCK_USER_IMAGE": "debian:13",
        "PADDOCK_IMAGE_PULL_POLICY": "Never",
        "PADDOCK_IMAGE_PULL_SECRETS": "one, two",
        "PADDOCK_WORKER_URL": "http://paddock:1659",
        "PADDOCK_WORKER_CPU": "100m",
        "PADDOCK_WORKER_STORAGE_SECRET": "s3",
        "PADDOCK_KUBERNETES_NAMESPACE": "lab",
        "PADDOCK_KUBERNETES_OWNER": "paddock",
        "PADDOCK_POD_SECURITY": "restricted",
        "PADDOCK_SANDBOX": "directory",
        "PADDOCK_GRACE_SECONDS": "0.5",
        "PADDOCK_DEBUG": "1",
        "PADDOCK_MEMORY": "64Gi",
        "PADDOCK_GPUS": "0, 1",
        "UNRELATED": "x",
    }
    assert Settings.from_environment(environment) == Settings(
        Path("/data/home"),
        "s3://bucket/a",
        "http://localhost:8000",
        "postgresql://db/paddock",
        "vision",
        3,
        "slurm",
        40,
        "/shared/out",
        "apptainer run 'my paddock.sif'",
        True,
        "paddock:1",
        "debian:13",
        "Never",
        ("one", "two"),
        "http://paddock:1659",
        0.1,
        "s3",
        "lab",
        "paddock",
        "restricted",
        "directory",
        0.5,
        True,
        64 << 30,
        ("0", "1"),
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PADDOCK_WORKERS", "0"),
        ("PADDOCK_WORKERS", "-1"),
        ("PADDOCK_WORKERS", "many"),
        ("PADDOCK_WORKERS", "²"),
        ("PADDOCK_ENGINE", "nomad"),
        ("PADDOCK_POOL_WORKERS_MAX", "0"),
        ("PADDOCK_SLURM_COMMAND", "python '"),
        ("PADDOCK_IMAGE_PULL_POLICY", "never"),
        ("PADDOCK_POD_SECURITY", "privileged"),
        ("PADDOCK_WORKER_CPU", "much"),
        ("PADDOCK_WORKER_CPU", "0"),
        ("PADDOCK_SANDBOX", "docker"),
        ("PADDOCK_GRACE_SECONDS", "soon"),
        ("PADDOCK_GRACE_SECONDS", "-1"),
        ("PADDOCK_GRACE_SECONDS", "nan"),
        ("PADDOCK_GRACE_SECONDS", "inf"),
        ("PADDOCK_PROJECT", "a b"),
        ("PADDOCK_MEMORY", "much"),
        ("PADDOCK_MEMORY", "0"),
        ("PADDOCK_GPUS", "0,,1"),
        ("PADDOCK_GPUS", "0,0"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=variable):
        Settings.from_environment({variable: value})
