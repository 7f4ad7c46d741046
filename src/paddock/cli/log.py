"""The log of processes that run for long (`up`, `worker`): lines on standard error, for people and whatever collects them."""

from __future__ import annotations

import logging


def start_log() -> None:
    """Say warnings of all libraries, and of Paddock also what happens, each with its time and zone."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    logging.getLogger("paddock").setLevel(logging.INFO)
