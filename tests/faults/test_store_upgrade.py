"""Upgrades that fail at the n-th durable operation, before or after it took effect: they go on, or are taken back."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paddock.catalog.database import Catalog
from paddock.cli.main import main
from paddock.model.errors import Conflict, LimitExceeded, PaddockError, Unavailable
from paddock.versions.files import FileService
from paddock.versions.home import FORMAT_VERSION, Home
from paddock.versions.repos import RepoService
from paddock.versions.upgrade import Step, inspect_versions, undo, upgrade

NEXT = FORMAT_VERSION + 1


def add_note(home: Path) -> None:
    """A step as a later release may have one: a row in the catalog and a file in the store, both once."""
    catalog = Catalog.open(home / "catalog.db")
    with catalog.write() as tx:
        if tx.one("SELECT 1 FROM projects WHERE name = 'notes'") is None:
            tx.execute("INSERT INTO projects (name, description, created) VALUES ('notes', 'from the step', 0)")
    catalog.close()
    note = home / "objects" / "note"
    note.with_suffix(".new").write_text("hello")
    os.replace(note.with_suffix(".new"), note)


STEPS = (Step(NEXT, "add a note", add_note),)


class Crash(Exception):  # noqa: N818 - it is no error
    """Stands for the end of the process: no code of ours handles it."""


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, fail_at: int, *, after: bool, error: Callable[[], BaseException]
) -> Iterator[list[str]]:
    """The n-th sync, rename or removal fails. Yields the names of the operations that were called."""
    called: list[str] = []

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def operation(*arguments: Any, **options: Any) -> Any:
            called.append(name)
            if len(called) != fail_at:
                return real(*arguments, **options)
            if after:
                real(*arguments, **options)
            raise error()

        return operation

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, wrap(name))
        yield called


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    with Home.open(path, create=True) as opened:
        RepoService(opened).create("data")
        FileService(opened).put("data:/a", b"kept")
    return path


def text(path: Path) -> bytes:
    with Home.open(path) as opened:
        return b"".join(FileService(opened).read("data:/a"))


def notes(path: Path) -> list[Any]:
    with sqlite3.connect(path / "catalog.db") as connection:
        found = connection.execute("SELECT name FROM projects WHERE name = 'notes'").fetchall()
    connection.close()
    return found


def test_a_step_takes_a_home_to_the_next_version_once(home: Path) -> None:
    assert inspect_versions(home, format_version=NEXT).current is False
    upgrade(home, steps=STEPS, format_version=NEXT)
    assert json.loads((home / "home.json").read_text())["format_version"] == NEXT
    assert (notes(home), (home / "upgrade").exists()) == ([("notes",)], False)
    with pytest.raises(
        Conflict, match=f"format version {NEXT}, but this Paddock knows versions up to {FORMAT_VERSION}"
    ):
        Home.open(home)
    upgrade_again = pytest.raises(Conflict, match="knows versions")
    with upgrade_again:
        upgrade(home)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("back", [False, True], ids=["go on", "go back"])
def test_an_upgrade_cut_off_at_any_operation_goes_on_or_back(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool, back: bool
) -> None:
    original = json.loads((home / "home.json").read_text())
    cut_off = 0
    for fail_at in itertools.count(1):
        copy = tmp_path / f"copy{fail_at}"
        shutil.copytree(home, copy)
        with failing(monkeypatch, fail_at, after=after, error=Crash) as called:
            try:
                upgrade(copy, steps=STEPS, format_version=NEXT)
            except Crash:
                cut_off += 1
        if len(called) < fail_at:
            break
        begun = (copy / "upgrade" / "journal.json").exists()
        finished = json.loads((copy / "home.json").read_text())["format_version"] == NEXT
        if begun and not finished:
            with pytest.raises(Conflict, match="was begun and has not ended"):
                Home.open(copy)
        if back and begun and json.loads((copy / "upgrade" / "journal.json").read_text())["state"] == "begun":
            undo(copy)
            assert json.loads((copy / "home.json").read_text()) == original
            assert (notes(copy), text(copy)) == ([], b"kept")
        else:
            upgrade(copy, steps=STEPS, format_version=NEXT)
            assert json.loads((copy / "home.json").read_text()) == original | {"format_version": NEXT}
            assert notes(copy) == [("notes",)]
        assert not (copy / "upgrade" / "journal.json").exists()
        shutil.rmtree(copy)
    assert cut_off > 15


def test_going_back_may_be_cut_off_too(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(home, begun)

    def broken(path: Path) -> None:
        add_note(path)
        raise Crash

    with pytest.raises(Crash):
        upgrade(begun, steps=(Step(NEXT, "breaks", broken),), format_version=NEXT)
    for fail_at in itertools.count(1):
        copy = tmp_path / f"copy{fail_at}"
        shutil.copytree(begun, copy)
        with failing(monkeypatch, fail_at, after=False, error=Crash) as called:
            try:
                undo(copy)
            except Crash:
                pass
        if (copy / "upgrade" / "journal.json").exists():
            undo(copy)
        assert (notes(copy), text(copy)) == ([], b"kept")
        if len(called) < fail_at:
            break
    assert fail_at > 5


def test_a_full_disk_is_named_and_the_upgrade_goes_on_afterwards(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> OSError:
        return OSError(errno.ENOSPC, "No space left on device")

    with (
        failing(monkeypatch, 4, after=False, error=full),
        pytest.raises(LimitExceeded, match=r"no space left to upgrade.*paddock upgrade --undo"),
    ):
        upgrade(home, steps=STEPS, format_version=NEXT)
    upgrade(home, steps=STEPS, format_version=NEXT)
    assert notes(home) == [("notes",)]


def test_nobody_opens_a_home_while_it_is_upgraded_nor_upgrades_one_that_is_open(home: Path) -> None:
    refused: list[PaddockError] = []

    def step(path: Path) -> None:
        try:
            Home.open(path)
        except PaddockError as error:
            refused.append(error)

    upgrade(home, steps=(Step(NEXT, "look", step),), format_version=NEXT)
    assert [type(error) for error in refused] == [Unavailable]
    file = home / "home.json"
    file.write_text(file.read_text().replace(f'"format_version": {NEXT}', f'"format_version": {FORMAT_VERSION}'))
    with Home.open(home), pytest.raises(Conflict, match="in use by another process"):
        upgrade(home, steps=STEPS, format_version=NEXT)
    assert not (home / "upgrade").exists()


def test_the_command_says_what_it_did(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade", "--check", "--home", str(home)]) == 0
    assert main(["upgrade", "--home", str(home)]) == 0
    assert main(["upgrade", "--undo", "--home", str(home)]) == Conflict.exit_code
    assert main(["upgrade", "--json", "--home", str(home)]) == 0
    out, err = capsys.readouterr()
    assert out.count("is up to date") == 2
    assert '"unfinished": false' in out
    assert "no upgrade of home" in err
