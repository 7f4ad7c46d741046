"""Watches what a datum takes while its command runs: memory of the whole process tree, scratch, output (design note 026)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from paddock.model.sizes import format_size
from paddock.runtime.batch_format import OutputFile
from paddock.runtime.process_memory import MemoryGroup, tree_memory_bytes
from paddock.runtime.protocol import Limit

MEMORY_SECONDS = 0.02
"""A command can take some 100 MB between two looks. Where the system gives a memory cgroup the kernel watches too, but not what
a command started in the moment before it was moved into the group."""
FOLDERS_SECONDS = 0.1
_COST_SHARE = 10
"""Looking takes a tenth of a processor at most."""


class MeasureMemory(Protocol):
    def __call__(self, *, enough: int = 0) -> int: ...


class LimitWatch:
    """The limits of one transform, for one command after another. Not thread-safe."""

    def __init__(
        self,
        limits: Sequence[Limit],
        *,
        out: str,
        scratch: str,
        group: MemoryGroup | None = None,
        memory_bytes: MeasureMemory = tree_memory_bytes,
    ) -> None:
        """out, scratch: the directories where a datum writes. group: where the kernel counts memory."""
        self._memory_bytes = memory_bytes
        by_kind = {each.kind: each for each in limits}
        self.output = by_kind.get("output")
        self._memory = by_kind.get("memory")
        self._folders = [
            (by_kind[kind], folders)
            for kind, folders in (("scratch", (scratch,)), ("output", (out,)), ("disk", (scratch, out)))
            if kind in by_kind
        ]
        self._group = group if self._memory is not None else None
        self._next = {"memory": 0.0, "folders": 0.0}

    def started(self, process: int) -> None:
        """A command has just been started, and no other runs."""
        if self._group is not None and self._memory is not None:
            if self._group.limit(self._memory.bytes):
                self._group.add(process)
            else:
                self._group = None
        self._next = dict.fromkeys(self._next, time.monotonic())

    def wait_seconds(self, now: float) -> float:
        """How long until the next look is due."""
        due = [self._next["memory"]] if self._memory is not None else []
        due += [self._next["folders"]] if self._folders else []
        return max(0.0, min(due, default=now + 3600) - now)

    def look(self, now: float) -> str:
        """Why the command has to end, if a look is due and a limit was exceeded; else empty."""
        reason = ""
        if self._memory is not None and now >= self._next["memory"]:
            reason = self._timed("memory", MEMORY_SECONDS, self._look_at_memory)
        if not reason and self._folders and now >= self._next["folders"]:
            reason = self._timed("folders", FOLDERS_SECONDS, self._look_at_folders)
        return reason

    def last_look(self) -> str:
        """The same for a command that has ended or has answered."""
        if self._group is not None and self._memory is not None and self._group.killed():
            return self._killed(self._memory)
        return self._look_at_folders() if self._folders else ""

    def over_output(self, files: Sequence[OutputFile]) -> str:
        """Why collected output can't be kept, links to inputs included; else empty."""
        total = sum(file.size for file in files) if self.output is not None else 0
        return exceeded(self.output, total) if self.output is not None and total > self.output.bytes else ""

    def _timed(self, kind: str, seconds: float, look: Callable[[], str]) -> str:
        begin = time.thread_time()
        reason = look()
        self._next[kind] = time.monotonic() + max(seconds, _COST_SHARE * (time.thread_time() - begin))
        return reason

    def _look_at_memory(self) -> str:
        limit = self._memory
        if limit is None:
            return ""
        if self._group is not None and self._group.killed():
            return self._killed(limit)
        seen = self._memory_bytes(enough=limit.bytes)
        return exceeded(limit, seen) if seen > limit.bytes else ""

    def _look_at_folders(self) -> str:
        for limit, folders in self._folders:
            seen = sum(_folder_bytes(folder) for folder in folders)
            if seen > limit.bytes:
                return exceeded(limit, seen)
        return ""

    def _killed(self, limit: Limit) -> str:
        return (
            f"the command was ended by the kernel: it wanted more memory than its limit of {format_size(limit.bytes)} "
            f"({limit.field})"
        )


_NOUNS = {
    "memory": "the command was ended: it used {} of memory",
    "scratch": "the command was ended: it had {} below $TMPDIR",
    "output": "the datum's output is {}",
    "disk": "the command was ended: it had {} in /pfs/out and below $TMPDIR",
}


def exceeded(limit: Limit, seen: int) -> str:
    """What a datum fails with: the value seen, the limit, and the field that sets it."""
    what = _NOUNS[limit.kind].format(format_size(seen))
    return f"{what}, more than its limit of {format_size(limit.bytes)} ({limit.field})"


def _folder_bytes(folder: str) -> int:
    """Bytes of all files below a directory; O(files). Links count nothing, and what vanishes meanwhile neither."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _folder_bytes(entry.path)
                elif not entry.is_symlink():
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass
    return total
