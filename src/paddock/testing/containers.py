"""Containers for tests, made of namespaces and one static program: what a pod has in one, with nothing of an image."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from paddock.runtime.commands import children_of
from paddock.runtime.runner_link import connect_runner

SOURCES = Path(__file__).resolve().parents[3] / "runner"
WITHOUT_POWER = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Starts a program as a root that may do no more than another user: not read what is others', nor remove it."""
NODE_ID = 4321
"""User and group to whom a volume in memory belongs: neither the worker's nor the commands'."""
START_SECONDS = 20.0
_UNSHARE = ("unshare", "--mount", "--pid", "--fork")
_ENTER = """
set -e
mount --make-rprivate /
mount --bind "$1/paddock" "$2$1/paddock"
mount --bind "$1/pfs" "$2$1/pfs"
mount -o remount,bind,ro "$2$1/pfs"
mount --bind "$1/pfs/out" "$2$1/pfs/out"
mount -t proc proc "$2/proc"
if [ -n "$4" ]; then
    mkdir -p "$2/sys/fs/cgroup/memory"
    mount --bind "$4" "$2/sys/fs/cgroup/memory"
    echo $$ >"$4/cgroup.procs"
fi
exec chroot --userspec="$3" "$2" "$1/paddock/runner" "$1/paddock/socket"
"""


def compiler() -> str | None:
    """What builds runners here; None where there is nothing."""
    return shutil.which("musl-gcc") or shutil.which("gcc")


def build_runner(target: Path) -> Path:
    """Build the runner from this checkout; takes a second."""
    subprocess.run(["sh", str(SOURCES / "build.sh"), str(target)], check=True)
    return target


def busybox() -> str | None:
    """A busybox that needs no libraries (Debian: busybox-static)."""
    found = shutil.which("busybox")
    return found if found is not None and _is_static(Path(found)) else None


def _is_static(program: Path) -> bool:
    """Whether an ELF program of 64 bits names no loader (a program header of type 3)."""
    data = program.read_bytes()
    (first,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, first + index * size)[0] != 3 for index in range(count))


def find_apptainer(image: Path) -> tuple[str | None, str]:
    """The program, if it runs containers of this image here; else None, and why."""
    program = shutil.which("apptainer")
    if program is None:
        return None, "there is no apptainer in PATH (Debian 13 has none; sid and apptainer.org do)"
    ran = subprocess.run([program, "exec", str(image), "true"], capture_output=True, text=True, check=False)
    return (program, "") if ran.returncode == 0 else (None, f"apptainer runs no containers here: {ran.stderr.strip()}")


def make_image(folder: Path, *, tools: Sequence[str], environment: Mapping[str, str] | None = None) -> Path:
    """A folder that Apptainer takes for an image: it holds nothing but tools of busybox.

    environment: that of the image, as those of registries have one; it says no more than what Apptainer writes into them.
    """
    program = busybox()
    assert program is not None, "busybox-static is not installed"
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/tmp"):
        (folder / name).mkdir(parents=True)
    for tool in tools:
        shutil.copy(program, folder / "bin" / tool)
    if environment is not None:
        scripts = folder / ".singularity.d" / "env"
        scripts.mkdir(parents=True)
        lines = [f'export {name}="${{{name}:-{value}}}"' for name, value in environment.items()]
        (scripts / "10-docker2singularity.sh").write_text("\n".join(["#!/bin/sh", *lines, ""]))
        (scripts / "99-base.sh").write_text("#!/bin/sh\n")
    return folder


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker and a runner share."""

    pfs: Path
    shared: Path
    kill: Callable[[], None] = lambda: None
    """Ends the runner of `running_runner`."""

    @property
    def socket_path(self) -> Path:
        return self.shared / "socket"

    def worker_options(self, connection: socket.socket) -> list[str]:
        """For the command line of a worker process, which has to get the connection under the same number."""
        return ["--runner-fd", str(connection.fileno()), "--pfs", str(self.pfs), "--shared", str(self.shared)]

    def make(self) -> None:
        """Make the folders, with those where commands write open to all."""
        (self.pfs / "out").mkdir(parents=True)
        self.shared.mkdir(parents=True, exist_ok=True)
        for path in (self.pfs / "out", self.shared):
            path.chmod(0o777)


@contextmanager
def running_runner(program: Path, folder: Path) -> Iterator[Place]:
    """A runner as a process of this machine and this user, which ends with the connection that it is given."""
    Place(folder / "pfs", folder).make()
    process = subprocess.Popen([program, folder / "socket"])
    place = Place(folder / "pfs", folder, process.kill)
    try:
        yield place
        process.wait(START_SECONDS)
    finally:
        process.kill()
        process.wait()


class Container:
    """A runner as process 1 of its own root, which holds a busybox (or nothing), `/proc`, and two folders that are shared.

    The folders are `shared/pfs` (read-only there, but for `out`) and `shared/paddock`, under the same path inside and outside;
    inside, `/pfs` is a link to the first. Needs root. A context manager: on leaving, all of it is killed.
    """

    def __init__(
        self,
        folder: Path,
        runner: Path,
        *,
        user: str = "1234:1234",
        tools: Sequence[str] = ("sh",),
        environment: Mapping[str, str] | None = None,
        memory_group: Path | None = None,
    ) -> None:
        """folder: empty, and every user can get there. tools: of busybox. memory_group: a cgroup (of the first version) to be in."""
        self.place = Place(folder / "shared" / "pfs", folder / "shared" / "paddock")
        self._make_volumes(runner)
        self.root = folder / "root"
        for name in ("proc", "bin", "dev"):
            (self.root / name).mkdir(parents=True)
        for path in (self.place.pfs, self.place.shared):
            (self.root / path.relative_to("/")).mkdir(parents=True)
        (self.root / "tmp").mkdir(exist_ok=True)
        (self.root / "tmp").chmod(0o777)
        (self.root / "pfs").symlink_to(self.place.pfs)
        for name, minor in (("null", 3), ("zero", 5)):
            os.mknod(self.root / "dev" / name, 0o020666, os.makedev(1, minor))
            (self.root / "dev" / name).chmod(0o666)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            (self.root / "dev" / name).symlink_to(f"/proc/self/fd/{number}")
        program = busybox()
        if tools and program is not None:
            shutil.copy(program, self.root / "bin" / "busybox")
            for tool in tools:
                (self.root / "bin" / tool).symlink_to("busybox")
        group = "" if memory_group is None else str(memory_group)
        self.process = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _ENTER, "enter", str(folder / "shared"), str(self.root), user, group],
            env={"PATH": "/bin:/usr/bin:/sbin:/usr/sbin", **(environment or {})},
            cwd="/",
        )

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _make_volumes(self, runner: Path) -> None:
        """As the node and the init container of a pod do: the volume with the inputs is another's, and sticky, as one in memory is."""
        for path, mode in ((self.place.shared, 0o777), (self.place.pfs, 0o1777)):
            path.mkdir(parents=True)
            path.chmod(mode)
        os.chown(self.place.pfs, NODE_ID, NODE_ID)
        places = (runner, "--install", self.place.shared / "runner", self.place.pfs / "out")
        subprocess.run([*WITHOUT_POWER, *map(str, places)], check=True)

    def connect(self) -> socket.socket:
        """The one connection that its runner takes."""
        return connect_runner(self.place.socket_path, wait_seconds=START_SECONDS)

    def kill(self) -> None:
        """End everything in it at once, as the kernel does where the container has too little memory."""
        for child in children_of(self.process.pid):
            with suppress(ProcessLookupError):  # It may be ending by itself.
                os.kill(child, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        """Wait for the runner's end; its exit code."""
        return self.process.wait(START_SECONDS)
