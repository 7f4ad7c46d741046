"""Durations as specs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.pipelines.durations import SECONDS_MAX, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2h45m30.5s", 9930.5),
        ("100ms", 0.1),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("10ns", 1e-8),
        (".5s", 0.5),
        ("+2s", 2),
        (" 2s ", 2),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "s", "3", "3 s", "3d", "1m30", "-", "x3s", True, None, [], float("nan"), "1e3s"])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write for example 90s, 1m30s or 2h"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["0", "0s", "-3s", 0, -1, "100000h"])
def test_durations_out_of_range(value: object) -> None:
    with pytest.raises(ValueError, match="must be more than 0 and at most ten years"):
        parse_duration(value)


@given(st.floats(1e-3, SECONDS_MAX))
def test_formatted_durations_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
