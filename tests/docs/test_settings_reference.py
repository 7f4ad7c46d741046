"""The page of settings has each setting as the code has it, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from paddock.settings import SETTINGS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")


def test_each_setting_has_its_row() -> None:
    for setting in SETTINGS:
        row = f"| `{setting.variable}` | {setting.meaning} | {setting.unit} | {setting.default} | {setting.why} |"
        assert row in PAGE
    assert re.findall(r"^\| `(PADDOCK_\w+)` ", PAGE, re.MULTILINE) == [setting.variable for setting in SETTINGS]
