"""What globs match in made-up trees, for tests of planning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from paddock.model.globs import compile_glob
from paddock.model.packed import PackedBytes, PackedTexts


@dataclass(frozen=True, slots=True, eq=False)
class FakeMatches:
    """Columns of matches, as storage gives them."""

    paths: PackedTexts
    digests: PackedBytes
    directories: npt.NDArray[np.bool_]
    captures: tuple[PackedTexts, ...]


def match_paths(glob: str, files: Iterable[str]) -> FakeMatches:
    """What `glob` matches among `files` and the directories above them. A digest is over the path below it."""
    names = sorted(set(files))
    above = {name[:end] or "/" for name in names for end, char in enumerate(name) if char == "/"}
    everything = sorted({*names, *above})
    compiled = compile_glob(glob)
    indexes, captures = compiled.filter(everything)
    paths = [everything[index] for index in indexes]
    return FakeMatches(
        paths=PackedTexts.of(paths),
        digests=PackedBytes.of((blake3(path.encode()).digest() for path in paths), 32),
        directories=np.array([path in above for path in paths], np.bool_),
        captures=tuple(PackedTexts.of(column) for column in zip(*captures, strict=True)),
    )
