"""`make soak` runs rounds with known seeds and prints the one that failed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "soak.py"
TEST = """
from hypothesis import given, settings, strategies

@settings(max_examples=5, database=None)
@given(strategies.integers())
def test_numbers(number):
    assert {condition}
"""


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with one property test of our own as its properties."""
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PROPERTIES", str(tmp_path / "test_numbers.py"))
    return module


def run(soak: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, condition: str) -> bool:
    (tmp_path / "test_numbers.py").write_text(TEST.format(condition=condition))
    given = ["soak.py", "--only", "properties", "--seed", "41", "--seeds", "2", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    return bool(soak.soak("properties", soak.arguments()))


def test_rounds_count_the_seed_up(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(soak, monkeypatch, tmp_path, "number == number")
    assert "properties: 2 seeds from 41 on, all well" in capsys.readouterr().out


def test_the_first_failure_ends_it_and_its_seed_is_printed(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run(soak, monkeypatch, tmp_path, "number != number")
    out = capsys.readouterr().out
    assert 'seed 41 FAILED; again: make soak ARGS="--only properties --seed 41 --seeds 1"' in out
    assert "42" not in out
