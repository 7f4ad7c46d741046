"""Containers for the kubelet of the tests: processes in namespaces of their own, whose root is made of parts of this machine. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddock.testing.containers import busybox

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SYSTEM = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/dev")
_ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
while [ "$1" != -- ]; do
    mount --rbind "$1" "$root$2"
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
    shift 3
done
shift
mount -t proc proc "$root/proc"
exec chroot $AS "$root" env -u AS "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What stands in for an image. files: {path inside: path here}; environment: as the image has it.

    any_user: its files can be read by whoever a pod asks to run as; else it runs as root.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    any_user: bool = False


SYSTEM_IMAGE = Image(environment={"PATH": SYSTEM_PATH}, any_user=True)
"""The programs of this machine, and nothing of Paddock."""


def busybox_image(folder: Path) -> Image:
    """A static busybox under the names of all its programs, and nothing else. folder: to be made, to be read by every user."""
    program = busybox()
    assert program is not None, "there is a static busybox here"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    shutil.copy(program, programs / "busybox")
    for name in subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (programs / name).symlink_to("busybox")
    return Image({"/usr": folder}, environment={"PATH": SYSTEM_PATH}, any_user=True)


def paddock_image(runner: Path) -> Image:
    """Paddock as it is installed here, with a runner."""
    source = Path(__file__).resolve().parents[3]
    places = {sys.prefix, sys.base_prefix, str(source.parent)}
    path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
    return Image(
        {**{place: Path(place) for place in places}, "/usr/local/lib/paddock/runner": runner},
        {"PATH": path, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
    )


class Container:
    """A process whose root has a system, an image and volumes. Its output goes to `log`."""

    def __init__(
        self,
        folder: Path,
        image: Image,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        volumes: Mapping[str, Path],
        read_only: Collection[str] = (),
        user: str = "",
    ) -> None:
        """folder: empty. volumes: {path inside: folder here}; read_only: those of them that can't be written. user: `uid:gid`, or root."""
        root = folder / "root"
        self.log = folder / "log"
        for name in ("proc", "tmp"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        binds = {**image.files, **volumes}
        words: list[str] = []
        for place in SYSTEM:
            words += _show(root, Path(place), binds)
        for place in sorted(binds):
            words += _bind(root, place, binds[place], "ro" if place in read_only else "rw")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-c",
                    _ENTER,
                    "enter",
                    str(root),
                    *words,
                    "--",
                    *command,
                ],
                env={**image.environment, **environment, "AS": f"--userspec={user}" if user and image.any_user else ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """To its main process alone; no error where that has ended."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            for child in children.read_text().split():
                os.kill(int(child), number)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def kill(self) -> None:
        """All of it, at once."""
        self.signal(signal.SIGKILL)
        self.process.kill()

    def exit_code(self) -> int | None:
        """None while it runs; 128 and the number for one that a signal ended."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def _show(root: Path, place: Path, binds: Mapping[str, Path]) -> list[str]:
    """What to mount so that a place of this machine is there, too; one level lower where something else is to lie in it."""
    inside = root / place.relative_to("/")
    if place.is_symlink():
        inside.symlink_to(place.readlink())
        return []
    if not place.exists() or str(place) in binds:
        return []
    if not any(other.startswith(f"{place}/") for other in binds):
        return _bind(root, str(place), place)
    inside.mkdir(parents=True)
    return [word for child in sorted(place.iterdir()) for word in _show(root, child, binds)]


def _bind(root: Path, place: str, source: Path, mode: str = "rw") -> list[str]:
    """What to mount, and its mount point made."""
    inside = root / place.lstrip("/")
    if source.is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
    return [str(source), place, mode]
