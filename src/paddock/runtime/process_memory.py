"""The memory of all processes that descend from this one, and what the kernel ended for want of memory.

Only for processes without other children than those to be measured: a worker's slot.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
GROUP_PREFIX = "paddock-"


def descendants() -> list[int]:
    """Process ids, as this /proc names them; O(processes that it shows)."""
    own = int(os.readlink("/proc/self"))  # not getpid: a /proc of another PID namespace has other numbers
    shown = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if own == 1:
        return [pid for pid in shown if pid != own]
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid in shown:
        parent = _parent(pid)
        if parent is not None:
            children[parent].append(pid)
    found: list[int] = []
    wanted = [own]
    while wanted:
        more = children[wanted.pop()]
        found += more
        wanted += more
    return found


def tree_memory_bytes(*, enough: int = 0) -> int:
    """Memory of all descendants. Pages that several share count once, unless already their plain sum is not above `enough`."""
    pids = descendants()
    plain = sum(_resident(pid) for pid in pids)
    return plain if plain <= enough or len(pids) < 2 else sum(_proportional(pid) for pid in pids)


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory, of the machine or of a cgroup; 0 if it doesn't say."""
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


class MemoryGroup:
    """A memory cgroup of one slot, whose limit the kernel enforces; pages of the file cache are given back before it strikes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kills = self._most_bytes = 0
        self._names = ("memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes")
        if (folder / "memory.max").exists():
            self._names = ("memory.max", "memory.events", "memory.peak")

    @classmethod
    def make(cls, name: str) -> MemoryGroup | None:
        """A new group below this process's own; None where the system does not allow that."""
        for parent in _own_groups():
            folder = parent / f"{GROUP_PREFIX}{name}"
            try:
                folder.mkdir(exist_ok=True)
            except OSError:
                continue
            group = cls(folder)
            if (folder / group._names[0]).exists() and group.limit(1 << 50):
                return group
            with contextlib.suppress(OSError):
                folder.rmdir()
        return None

    def limit(self, most_bytes: int) -> bool:
        """Set the limit, of memory and swap together; whether that went well. For a group that holds no process."""
        self._kills = self._count()
        if most_bytes == self._most_bytes:
            return True
        swap = {"memory.max": ("memory.swap.max", "0")}.get(
            self._names[0], ("memory.memsw.limit_in_bytes", str(most_bytes))
        )
        # The old kind of group wants the sum of both to be the higher one at every moment, on the way up and down.
        for name, text in (swap, (self._names[0], str(most_bytes)), swap):
            with contextlib.suppress(OSError):
                (self.folder / name).write_text(text)
        with contextlib.suppress(OSError):
            self._most_bytes = int((self.folder / self._names[0]).read_text())
        # The kernel rounds down to whole pages.
        return most_bytes - _PAGE_BYTES < self._most_bytes <= most_bytes

    def add(self, process: int) -> None:
        """Move a process in, with what it will start; one that has ended meanwhile is let go."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.procs").write_text(str(process))

    def killed(self) -> bool:
        """Whether the kernel has ended a process of the group since this was last asked."""
        before, self._kills = self._kills, self._count()
        return self._kills > before

    def _count(self) -> int:
        with contextlib.suppress(OSError):
            for line in (self.folder / self._names[1]).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0


def remove_groups(names: Sequence[str]) -> None:
    """Remove memory groups whose processes have ended."""
    for parent in _own_groups():
        for name in names:
            with contextlib.suppress(OSError):
                (parent / f"{GROUP_PREFIX}{name}").rmdir()


def _own_groups() -> list[Path]:
    """This process's place in the hierarchies that could limit memory."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    top = Path("/sys/fs/cgroup")
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append(top / path.lstrip("/"))
        elif "memory" in controllers.split(","):
            found.append(top / "memory" / path.lstrip("/"))
    return found


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Memory with shared pages divided among those that share them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return _resident(pid)
