"""Fixtures that several kinds of test share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.testing.postgres import RunningPostgres, installed, running_postgres


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
