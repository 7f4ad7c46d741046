"""Any damage to a home: a repair tells what a check after it tells, and with a copy of the home at hand nothing is lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.store_records import CheckReport
from paddock.runtime.fsck import check_store
from paddock.versions.home import Home

SIZES = (10, 3000, 300_000, 1_500_000)


def _delete(pack: Path, content: bytes, at: int) -> None:
    pack.unlink()


def _flip(pack: Path, content: bytes, at: int) -> None:
    pack.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])


def _flip_near_the_end(pack: Path, content: bytes, at: int) -> None:
    _flip(pack, content, max(0, len(content) - 1 - at % 200))


def _truncate(pack: Path, content: bytes, at: int) -> None:
    pack.write_bytes(content[:at])


PACK_DAMAGES: tuple[Callable[[Path, bytes, int], None], ...] = (_delete, _flip, _flip_near_the_end, _truncate)
INDEX_DAMAGES = (
    ("DELETE FROM chunks", "DELETE FROM packs"),
    ("DELETE FROM chunks WHERE digest = (SELECT digest FROM chunks ORDER BY digest LIMIT 1 OFFSET {})",),
    ("UPDATE chunks SET position = position + 1 WHERE pack_id % 2 = {} % 2",),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a few commits in two repos, which share files."""
    folder = tmp_path_factory.mktemp("repairs")
    source = folder / "files"
    source.mkdir()
    with EmbeddedPaddock.open(folder / "home") as paddock:
        for number in range(10):
            content = random.Random(number).randbytes(SIZES[number % len(SIZES)])
            (source / f"{number % 7}").write_bytes(content)
            if number in (3, 6, 9):
                repo = f"repo{number}"
                paddock.repos.create(repo)
                paddock.files.put_tree(f"{repo}@main", source)
    return folder


def _check(home: Path, *, repair: bool = False, source: Path | None = None) -> CheckReport:
    with Home.open(home) as opened:
        return check_store(opened, data=True, repair=repair, source=source)


def _damage_index(home: Path, statements: tuple[str, ...], at: int) -> None:
    with Home.open(home) as opened, opened.catalog.write() as tx:
        for statement in statements:
            tx.execute(statement.format(at % 10))


damages = st.tuples(st.sampled_from((*PACK_DAMAGES, *INDEX_DAMAGES)), st.integers(0, 10), st.integers(0, 1 << 24))


@settings(max_examples=40)
@given(st.lists(damages, min_size=1, max_size=3), st.sampled_from(["nothing", "files", "home"]))
def test_a_repair_tells_what_a_check_after_it_tells(
    template: Path, chosen: list[tuple[object, int, int]], copy: str
) -> None:
    home = template / "damaged"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template / "home", home)
    packs = sorted(path for path in (home / "objects" / "packs").rglob("*") if path.is_file())
    for damage, which, at in chosen:
        pack = packs[which % len(packs)]
        if isinstance(damage, tuple):
            _damage_index(home, damage, at)
        elif pack.exists() and (content := pack.read_bytes()):
            assert callable(damage)
            damage(pack, content, at % len(content))
    repaired = _check(home, repair=True, source=None if copy == "nothing" else template / copy)
    again = _check(home)
    assert (set(repaired.damages), repaired.files, repaired.files_hit, repaired.others, repaired.chunks) == (
        set(again.damages),
        again.files,
        again.files_hit,
        again.others,
        again.chunks,
    )
    assert repaired.sound or copy != "home"
