"""Fixtures that several kinds of test share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    """Where a test's home goes; nothing is there yet."""
    return tmp_path / ".paddock"


@pytest.fixture
def paddock(home_path: Path) -> Iterator[EmbeddedPaddock]:
    """An embedded Paddock on a fresh home."""
    with EmbeddedPaddock.open(home_path) as opened:
        yield opened
