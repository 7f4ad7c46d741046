"""What a put of a directory leaves behind for the next one: a mark of each directory, and the tree that holds its files.

Where the branch still has that tree, and a directory still has its mark, its files need no look: they are in the tree as they are on the disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from paddock.model.dataclass import dataclass
from paddock.model.ids import Digest
from paddock.storage.remembered_scans import RACY_NS, RememberedScan
from paddock.storage.walk import Mark

_KIND = "marks"


@dataclass(frozen=True, slots=True)
class ScanMarks:
    """tree: its root. target: the path in the tree below which the files are. mirrored: there are no others below it."""

    tree: Digest
    target: str
    mirrored: bool
    directories: Mapping[str, str]
    """{path: mark in hexadecimal digits}; no digits where a file may change again without its times telling."""

    @classmethod
    def load(cls, directory: Path, source: Path | str, epoch: str) -> ScanMarks | None:
        """Of the last put of a source; None where that is not known."""
        body = RememberedScan(directory, _KIND, source, epoch).load()
        if body is None:
            return None
        values = json.loads(body)
        return cls(Digest(bytes.fromhex(values["tree"])), values["target"], values["mirrored"], values["directories"])

    def save(self, directory: Path, source: Path | str, epoch: str) -> None:
        values = {
            "tree": self.tree.hex(),
            "target": self.target,
            "mirrored": self.mirrored,
            "directories": dict(self.directories),
        }
        RememberedScan(directory, _KIND, source, epoch).save(json.dumps(values).encode())


def settled_marks(marks: Iterable[Mark], started_ns: int) -> dict[str, str]:
    """Marks by directory. started_ns: when their walk began."""
    limit = started_ns - RACY_NS
    return {mark.path: mark.digest.hex() if mark.newest_ns < limit else "" for mark in marks}
