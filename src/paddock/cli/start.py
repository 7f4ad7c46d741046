"""Where the `paddock` command begins: what may go on while its own code is being loaded."""

# ruff: noqa: E402  (the collector is off before the imports that make it run)

from __future__ import annotations

import gc

# Importing makes much and drops nothing: without the collector the command starts a fifth sooner.
gc.disable()

import importlib
import os
import sys
from collections.abc import Sequence

from paddock.client.hints import expect_put

_WITH_VALUES = frozenset(
    [
        "--home",
        "--url",
        "--project",
        "--concurrency",
        "--output",
        "-o",
        "--glob",
        "--split",
        "--workers",
        "-j",
        "--code",
        "--function",
        "--audit",
    ]
)
_SOURCE_POSITIONS = {"put": 2, "map": 1}


def main() -> int:
    """Run the command of this process's arguments; returns its exit code."""
    source = put_source(sys.argv[1:])
    if source is not None:
        expect_put(source)
    # Only now, since half of the time of a small command is this import.
    code: int = importlib.import_module("paddock.cli.main").main()
    return code


def put_source(arguments: Sequence[str]) -> str | None:
    """The first source of a `paddock put` or `paddock map`; None where it is another command.

    A guess, as the command line is parsed later: where it is wrong, a directory is looked at for nothing.
    """
    words = iter(arguments)
    named: list[str] = []
    for word in words:
        if word in _WITH_VALUES:
            next(words, None)
        elif not word.startswith("-"):
            named.append(word)
        elif word in ("--help", "--extract", "--"):
            return None
        if not named:
            continue
        position = _SOURCE_POSITIONS.get(named[0])
        if position is None:
            return None
        if position < len(named):
            # A map knows folders by where they really are.
            return named[position] if named[0] == "put" else os.path.realpath(named[position])
    return None
