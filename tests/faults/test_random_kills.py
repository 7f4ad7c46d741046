"""Jobs under random fire come to the result that they come to in peace; `make soak` does the same for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.testing.kills import run_under_fire


@pytest.mark.slow
def test_the_result_is_the_same(tmp_path: Path) -> None:
    fallen = run_under_fire(4, tmp_path, seconds=10, files=60)
    assert fallen["rounds"] >= 1
    assert sum(fallen.values()) > fallen["rounds"], "nobody was hit"
