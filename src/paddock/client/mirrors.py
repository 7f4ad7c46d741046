"""What an earlier mirror wrote below a local folder, so that a later one removes and rewrites no more than that.

Kept in `$XDG_STATE_HOME/paddock/mirrors` (default `~/.local/state`), one JSON file a folder, never inside the folder.
Losing it is safe: the next mirror then rewrites everything and removes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paddock.client.archives import write_file


@dataclass(frozen=True, slots=True)
class Written:
    """One file as it was left: its tree digest (hex), and size and mtime on disk."""

    digest: str
    size: int
    mtime_ns: int


def memory_path(target: Path, environment: Mapping[str, str]) -> Path:
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:32]
    return Path(state) / "paddock" / "mirrors" / f"{name}.json"


def remember(place: Path, target: Path, files: Mapping[str, Written]) -> None:
    rows = {path: [file.digest, file.size, file.mtime_ns] for path, file in files.items()}
    document = json.dumps({"target": str(target.resolve()), "files": rows}, separators=(",", ":"))
    write_file(place, [document.encode()], executable=False)


def recall(place: Path) -> dict[str, Written]:
    try:
        rows = json.loads(place.read_bytes())["files"]
        return {str(path): Written(str(row[0]), int(row[1]), int(row[2])) for path, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def is_untouched(path: Path, written: Written | None) -> bool:
    """Whether the file is still as the mirror left it (size and mtime)."""
    if written is None:
        return False
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_size == written.size and found.st_mtime_ns == written.mtime_ns
