"""Commands in an image, by Apptainer (or Singularity, its older name): a container engine that needs no daemon and no root.

Each command is `apptainer exec IMAGE command…`, in the slot's own namespaces if it has some: a container for each datum, or for
each warm process. Paddock itself is not in the image.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, Unavailable
from paddock.runtime.commands import CannotStart, LocalCommands, Running, Workplace
from paddock.runtime.sandbox import PFS

PROGRAMS = ("apptainer", "singularity")
FETCHING, WORKING = "fetching image", "working for"
"""What a worker says, at the beginning of a line, when it begins to fetch its image (which may take minutes), and to work."""
_LOCAL_SCHEMES = ("docker-archive:", "docker-daemon:", "oci:", "oci-archive:")
_FETCHED = "image.sif"
_SAID_CHARACTERS = 500
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_EVALUATED = re.compile(rb"[\\$`]")


@dataclass(frozen=True, slots=True)
class Image:
    """program: the container engine's file. name: a file, a folder, or a URI such as `docker://debian:13`. options: of `exec`."""

    program: str
    name: str
    options: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """For the worker's command line."""
        return [
            "--image",
            self.name,
            "--image-program",
            self.program,
            *(f"--image-option={each}" for each in self.options),
        ]


def find_image(name: str, options: Sequence[str]) -> Image:
    """An image as a spec names it: without a scheme, and no path, it is one of a container registry.

    InvalidInput: nothing here runs it, or it is a file that is not here.
    """
    program = next((found for each in PROGRAMS if (found := shutil.which(each)) is not None), None)
    if program is None:
        raise InvalidInput(
            f"image {name} can't be run: neither apptainer nor singularity is in PATH; install or load one (slurm.setup), or let"
            " commands run without an image (slurm.container: false)"
        )
    if _is_path(name):
        path = Path(name).absolute()
        if not path.exists():
            raise InvalidInput(
                f"image {path} is not there on {socket.gethostname()}; put it where workers see it by this path, or correct"
                " transform.image"
            )
        name = str(path)
    elif "://" not in name and not name.startswith(_LOCAL_SCHEMES):
        name = f"docker://{name}"
    return Image(program, name, tuple(options))


def is_fetched(image: Image) -> bool:
    """Whether it is a file or folder of this machine (or a container that runs here)."""
    return _is_path(image.name) or image.name.startswith("instance://")


def fetch_image(image: Image, folder: Path) -> Image:
    """The same image as a file in `folder`. Takes seconds to minutes; what the engine has in its cache is copied.

    The engine itself would ask the registry at each command, and registries soon refuse who asks that often. Unavailable: it can't
    be fetched now.
    """
    file = str(folder / _FETCHED)
    ran = subprocess.run(
        [image.program, "--silent", "pull", file, image.name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode != 0:
        lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
        said = lines[-1].removeprefix("FATAL:").strip() if lines else f"exit code {ran.returncode}"
        said = said.rpartition("error fetching image to cache: ")[2]
        raise Unavailable(
            f"image {image.name} can't be fetched: {said[:_SAID_CHARACTERS]}; correct transform.image, or fetch it to a file that"
            " workers see (`apptainer pull`)"
        )
    return replace(image, name=file)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../")) or name.endswith(".sif")


class _Inherited(bytes):
    """The value of a variable that is this machine's own, and not given by Paddock or the spec."""


class ImageCommands(LocalCommands):
    """`LocalCommands` in containers, which have the slot's `/pfs` and scratch under the same paths, and the environment.

    Of a variable that image and machine have, the image's value counts; what Paddock and the spec give counts before both.
    """

    def __init__(self, image: Image, *, pfs: str, scratch: str, owns_namespace: bool) -> None:
        super().__init__(owns_namespace=owns_namespace)
        self.environment = {name: _Inherited(value) for name, value in os.environb.items()}
        self.cwd = "/"
        self.python = "python3"
        self._image = image
        # Where there is no private /pfs, variables name the folder itself; code that says /pfs finds it all the same.
        binds = ["--bind", f"{pfs}:{PFS}", "--bind", scratch]
        self._before = [image.program, "--silent", "exec", *binds]
        self._after = [*image.options, image.name]
        engine = "SINGULARITYENV_" if Path(image.program).name == "singularity" else "APPTAINERENV_"
        self._prefix = engine.encode()
        self._here = Workplace("/")

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        descriptors: Sequence[int],
    ) -> Running | CannotStart:
        command = [*self._before, "--pwd", place.cwd, *self._after, *words]
        return super().start(command, {**environment, **self._given(environment)}, self._here, descriptors)

    def _given(self, environment: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """What is not inherited, by the names that make the engine set it in the container whatever the image says.

        The engine evaluates such values as a shell does between double quotes, and fails where a name is none for a shell.
        """
        return {
            self._prefix + name: _EVALUATED.sub(rb"\\\g<0>", value)
            for name, value in environment.items()
            if not isinstance(value, _Inherited) and name != b"PWD" and _NAME.fullmatch(name)
        }
