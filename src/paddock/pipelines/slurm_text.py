"""What a spec says to Slurm in Slurm's own words: time limits, and options of `sbatch`."""

from __future__ import annotations

import math
import re
from typing import Any

from paddock.pipelines.durations import parse_duration

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?")
_OWN = frozenset(
    {
        "array", "batch", "chdir", "clusters", "cpus-per-task", "error", "export", "export-file", "help", "input", "job-name",
        "mem", "nodes", "ntasks", "no-requeue", "open-mode", "output", "parsable", "quiet", "requeue", "signal", "test-only", "usage",
        "verbose", "version", "wait", "wrap",
    }
)  # fmt: skip
"""Options that Paddock gives itself, or whose effect it could not see."""
_FIELDS = ("account", "constraint", "gres", "partition", "qos", "time")
"""Options that have a field of their own."""


def parse_time_limit(value: object) -> float:
    """Seconds of a duration (`90m`) or of Slurm's `D-HH`, `D-HH:MM`, `D-HH:MM:SS`, `HH:MM:SS`, `MM:SS`. ValueError says what to write.

    Plain numbers are refused: to Slurm they are minutes, and everywhere else in a spec seconds.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{value!r} has no unit; write for example 90m or 4h (and times such as 1:30:00 in quotes)")
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[1] is None and found[3] is None):
        seconds = parse_duration(value)
    elif found[1] is not None:
        seconds = int(found[1]) * 86400.0 + int(found[2]) * 3600 + int(found[3] or 0) * 60 + int(found[4] or 0)
    elif found[4] is not None:
        seconds = int(found[2]) * 3600.0 + int(found[3]) * 60 + int(found[4])
    else:
        seconds = int(found[2]) * 60.0 + int(found[3])
    if seconds < 60 or math.isinf(seconds):
        raise ValueError(f"{value!r} is less than a minute, which is the least that Slurm knows; write for example 30m")
    return seconds


def check_sbatch_option(value: Any) -> Any:
    """`--name` or `--name=value`, and none that Paddock gives itself. ValueError says what to write."""
    if not isinstance(value, str):
        return value
    name, _, _ = value.removeprefix("--").partition("=")
    if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", value):
        raise ValueError(
            f"write an option of sbatch in its long form, as --name or --name=value, in place of {value!r}"
        )
    if name in _OWN:
        raise ValueError(f"--{name} is Paddock's to give; remove it")
    if name in _FIELDS:
        field = "time_limit" if name == "time" else name
        raise ValueError(f"--{name} has a field of its own; write it as slurm.{field}")
    return value
