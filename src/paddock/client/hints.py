"""Hints: what comes soon, so that it can begin. They change nothing, and import next to nothing."""

from __future__ import annotations

import importlib
import os


def expect_put(source: str | os.PathLike[str]) -> None:
    """A `put_tree` of this directory comes soon: other processes begin to look at it.

    They are forks, so a program gives this hint early: nothing is done once it has threads.
    """
    importlib.import_module("paddock.storage.scan_ahead").expect_scan(source)
