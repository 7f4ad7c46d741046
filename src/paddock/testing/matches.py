"""What globs match in made-up trees, for tests of planning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from paddock.model.globs import compile_glob
from paddock.model.ids import Digest


@dataclass(frozen=True, slots=True)
class FakeMatches:
    """Columns of matches, as storage gives them."""

    paths: Sequence[str]
    digests: Sequence[Digest]
    sizes: Sequence[int]
    directories: Sequence[bool]
    captures: Sequence[tuple[str, ...]]


def match_paths(glob: str, files: Iterable[str]) -> FakeMatches:
    """What `glob` matches among `files` and the directories above them. A digest is over the path below it."""
    names = sorted(set(files))
    above = {name[:end] or "/" for name in names for end, char in enumerate(name) if char == "/"}
    everything = sorted({*names, *above})
    compiled = compile_glob(glob)
    indexes, captures = compiled.filter(everything)
    paths = [everything[index] for index in indexes]
    return FakeMatches(
        paths=paths,
        digests=[Digest(blake3(path.encode()).digest()) for path in paths],
        sizes=[len(path) for path in paths],
        directories=[path in above for path in paths],
        captures=captures or [()] * len(paths),
    )
