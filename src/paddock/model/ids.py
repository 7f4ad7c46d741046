"""Identifiers as distinct types, and the few ways to make them."""

from __future__ import annotations

import re
import uuid
from typing import NewType

Digest = NewType("Digest", bytes)
"""BLAKE3-256 of some bytes: 32 bytes. Text form: 64 lower-case hex digits."""

CommitId = NewType("CommitId", str)
"""32 lower-case hex digits, shared by every commit and job of one commit set."""

DatumId = NewType("DatumId", str)
"""32 lower-case hex digits: names *which* element of the input (projects, repos, branches, input names, paths)."""

DatumKey = NewType("DatumKey", bytes)
"""32 bytes: names *what would be computed* (transform, input names, paths and file digests)."""

PackId = NewType("PackId", str)
"""32 lower-case hex digits; the pack's object key is `packs/<first two>/<id>`."""

_COMMIT_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """A fresh random id of 32 hex digits (UUID 4), for commits and packs."""
    return uuid.uuid4().hex


def is_commit_id(text: str) -> bool:
    """Whether `text` has the form of a commit id. Branches may not be named so."""
    return _COMMIT_ID.fullmatch(text) is not None
