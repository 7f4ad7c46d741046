"""`gc`, `fsck` and `du` as a user meets them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from paddock.model.errors import Corrupt, InvalidInput, NotFound
from paddock.testing.commands import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    def capture() -> tuple[str, str]:
        output, errors = capfd.readouterr()
        return output, errors

    return CommandLine.on_home(tmp_path / "home", capture)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.jpg").write_bytes(random.Random(name).randbytes(500_000))
    return folder


def test_gc_says_what_it_would_do_and_does_it(cli: CommandLine, photos: Path) -> None:
    assert "freed 0 B of 0 B in 0 packs" in cli.ok("gc").output
    for repo in ("photos", "other"):
        cli.ok("repo", "create", repo)
    cli.ok("put", "photos@main", photos)
    cli.ok("put", "other@main:/a", photos / "a.jpg")
    cli.ok("repo", "delete", "photos")
    assert "younger than the grace period" in cli.ok("gc").output
    said = cli.ok("gc", "--grace", "0", "--dry-run").output
    assert "would free" in said
    done = cli.json("gc", "--grace", "0")
    assert done["freed_bytes"] > 490_000
    assert cli.json("gc", "--grace", "0s")["garbage"] == []
    assert "sound" in cli.ok("fsck", "--data").output


def test_gc_refuses_what_is_no_duration(cli: CommandLine) -> None:
    ran = cli("gc", "--grace", "soon")
    assert ran.code == InvalidInput.exit_code
    assert "--grace: 'soon' is not a duration" in ran.errors


def test_fsck_names_the_files_and_repairs_them_from_the_folder(cli: CommandLine, photos: Path, tmp_path: Path) -> None:
    cli.ok("repo", "create", "photos")
    cli.ok("put", "photos@main", photos)
    (pack,) = (file for file in (tmp_path / "home" / "objects" / "packs").rglob("*") if file.is_file())
    content = bytearray(pack.read_bytes())
    content[100] ^= 1
    pack.write_bytes(content)
    ran = cli("fsck", "--data")
    commit = cli.json("commit", "inspect", "photos@main")["id"]
    assert ran.code == Corrupt.exit_code
    assert f"can't be read: default/photos@{commit}:/a.jpg" in ran.output
    assert "b.jpg" not in ran.output
    assert "1 damage found; 1 file can't be read in full" in ran.errors
    fixed = cli.ok("fsck", "--data", "--repair", "--from", photos)
    assert f"took 1 chunk from {photos}" in fixed.output
    assert cli.json("fsck", "--data")["damages"] == []


def test_fsck_refuses_a_source_without_a_repair_or_that_is_not_there(cli: CommandLine, photos: Path) -> None:
    assert cli("fsck", "--from", photos).code == InvalidInput.exit_code
    assert cli("fsck", "--repair", "--from", photos / "none").code == NotFound.exit_code


def test_du_of_home_repo_and_commit(cli: CommandLine, photos: Path) -> None:
    cli.ok("repo", "create", "photos")
    cli.ok("put", "photos@main", photos)
    assert [row["kind"] for row in cli.json("du")["rows"]] == ["repo", "results"]
    assert [row["kind"] for row in cli.json("du", "photos")["rows"]] == ["repo", "branch", "commit"]
    (row,) = cli.json("du", "photos@main")["rows"]
    assert (row["files"], row["logical_bytes"]) == (2, 1_000_000)
    assert "photos" in cli.ok("du").output
    assert cli("du", "nothing").code == NotFound.exit_code
