"""What this machine has for datums: CPUs, memory, disk and GPUs, within what a container leaves of it."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

from paddock.runtime.capacity import Capacity

_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")
_CGROUPS = Path("/sys/fs/cgroup")


def machine_capacity(
    scratch: Path, *, workers: int, memory_bytes: int | None = None, gpus: tuple[str, ...] | None = None
) -> Capacity:
    """Look at this machine; a few file reads. scratch: a directory on the disk where datums write.

    workers: where there are more of them than CPUs, the user wants as many datums at once, so each counts as a CPU.
    memory_bytes, gpus: what to believe in place of what is found.
    """
    return Capacity(
        cpus=max(workers, len(os.sched_getaffinity(0))),
        memory_bytes=memory_bytes or _memory_bytes(),
        disk_bytes=shutil.disk_usage(scratch).free,
        gpus=_gpus() if gpus is None else gpus,
    )


def _memory_bytes() -> float:
    """The machine's memory, or the lowest limit of a cgroup that this process is in."""
    limits: list[float] = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in _memory_cgroups():
        for name in _MEMORY_LIMITS:
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            limits.append(int(text) if text.isdigit() else math.inf)
    return min(limits)


def _memory_cgroups() -> list[Path]:
    """This process's cgroups with their ancestors, as far as they can be seen; a container sees its own as the top."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = _CGROUPS / "memory" if controllers else _CGROUPS
        inner = Path(path.lstrip("/"))
        found += [top / inner, *(top / parent for parent in inner.parents), top]
    return found


def _gpus() -> tuple[str, ...]:
    """The NVIDIA devices, or those of them that this process was given."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1")
    numbers = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(sorted((number for number in numbers if number.isdigit()), key=int))
