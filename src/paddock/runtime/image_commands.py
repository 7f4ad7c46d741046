"""Commands in an image, by Apptainer (or Singularity, its older name): a container engine that needs no daemon and no root.

Each command is `apptainer exec IMAGE command…`, in the slot's own namespaces if it has some: a container for each datum, or for
each warm process. Paddock itself is not in the image.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.runtime.commands import CannotStart, LocalCommands, Running, Workplace
from paddock.runtime.sandbox import PFS

PROGRAMS = ("apptainer", "singularity")


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
    """An image as a spec names it: without a scheme, and no path, it is one of a container registry. InvalidInput: nothing here runs it."""
    program = next((found for each in PROGRAMS if (found := shutil.which(each)) is not None), None)
    if program is None:
        raise InvalidInput(
            f"image {name} can't be run: neither apptainer nor singularity is in PATH; install or load one (slurm.setup), or let"
            " commands run without an image (slurm.container: false)"
        )
    local = name.startswith(("/", "./", "../")) or name.endswith(".sif")
    return Image(program, name if local or "://" in name else f"docker://{name}", tuple(options))


class ImageCommands(LocalCommands):
    """`LocalCommands` in containers, which have the slot's `/pfs` and scratch under the same paths, and the environment."""

    def __init__(self, image: Image, *, pfs: str, scratch: str, owns_namespace: bool) -> None:
        super().__init__(owns_namespace=owns_namespace)
        self.cwd = "/"
        self.python = "python3"
        self._image = image
        # Where there is no private /pfs, variables name the folder itself; code that says /pfs finds it all the same.
        self._binds = ["--bind", f"{pfs}:{PFS}", "--bind", scratch]
        self._here = Workplace("/")
        self._search_path = os.environb.get(b"PATH")

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[bytes, bytes],
        place: Workplace,
        descriptors: Sequence[int],
    ) -> Running | CannotStart:
        image = self._image
        search_path = environment.get(b"PATH")
        if search_path is not None and search_path != self._search_path:
            # The image's own counts, unless the pipeline has one.
            names = (b"APPTAINERENV_PATH", b"SINGULARITYENV_PATH")
            environment = {**environment, **dict.fromkeys(names, search_path)}
        command = [image.program, "exec", *self._binds, "--pwd", place.cwd, *image.options, image.name, *words]
        return super().start(command, environment, self._here, descriptors)
