"""A home whose bulk data is in a store of its own: S3, spoken to by real processes, and a folder by URL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from paddock.storage.object_urls import open_objects, parse_store_url
from paddock.storage.objects import ObjectStore
from paddock.testing.commands import CommandLine
from paddock.versions.home import Home
from paddock.versions.storage_mark import MARK_KEY

SIZE = """
import pathlib, sys
given = pathlib.Path(sys.argv[1])
(pathlib.Path(sys.argv[2]) / given.name).write_text(str(given.stat().st_size))
"""


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3_url")) if request.param == "s3" else f"file://{tmp_path}/store"


def keys(url: str) -> set[str]:
    return {info.key for info in objects_of(url).list("")}


def objects_of(url: str) -> ObjectStore:
    return open_objects(parse_store_url(url))


def test_a_home_lives_its_life_on_a_store(url: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name * 3000)
    (source / "large").write_bytes(bytes(range(256)) * (12 << 12))
    with connect(tmp_path / "home", storage=url, environment={}) as paddock:
        paddock.repos.create("data")
        paddock.files.put_tree("data@main", source)
        assert not (tmp_path / "home" / "objects").exists()
        assert {key.split("/")[0] for key in keys(url)} == {MARK_KEY, "packs"}
        assert paddock.files.get_tree("data@main", tmp_path / "out").files == 4
        assert (tmp_path / "out" / "large").read_bytes() == (source / "large").read_bytes()
        assert paddock.store.check(data=True).sound
        paddock.repos.delete("data")
        report = paddock.store.collect_garbage(grace_seconds=0)
        assert report.removed_packs > 0
        assert keys(url) == {MARK_KEY}
        assert paddock.store.check().sound


def test_workers_read_and_write_the_store_themselves(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(5):
        (source / f"{number}").write_bytes(b"x" * number)
    command = CommandLine.on_home(tmp_path / "home", capfd.readouterr)
    made = command.json("init", "--storage", url)
    assert made == {"home": str(tmp_path / "home"), "storage": url, "made": True}
    command.ok("map", source, "-o", target, "--", sys.executable, "-c", SIZE, "{in}", "{out}")
    assert not (tmp_path / "home" / "objects").exists()
    assert {file.name: file.read_text() for file in target.iterdir()} == {str(size): str(size) for size in range(5)}
    assert command.json("fsck", "--data")["damages"] == []


def test_two_homes_cannot_share_a_place(url: str, tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "one", storage=url) as first:
        owner = first.home.id
    with pytest.raises(Conflict, match=rf"{url} holds the data of another home \(id {owner}\); give each home"):
        EmbeddedPaddock.open(tmp_path / "two", storage=url)
    with EmbeddedPaddock.open(tmp_path / "one", storage=url + "/") as again:
        assert again.home.id == owner
    with pytest.raises(Conflict, match="does not move by naming another place"):
        EmbeddedPaddock.open(tmp_path / "one", storage=url + "/other")


def test_nothing_is_deleted_from_a_store_that_lost_its_mark(url: str, tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home", storage=url) as paddock:
        paddock.repos.create("data")
        paddock.files.put("data:/a", b"a")
        paddock.repos.delete("data")
        objects_of(url).delete(MARK_KEY)
        with pytest.raises(Conflict, match=f"has lost the object {MARK_KEY}.*{paddock.home.id}"):
            paddock.store.collect_garbage(grace_seconds=0)
        assert keys(url)


def test_a_creation_that_was_cut_off_is_completed(url: str, tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home", storage=url) as paddock:
        owner = paddock.home.id
    # As a crash between the mark and home.json leaves it.
    (tmp_path / "home" / "home.json").rename(tmp_path / "home" / "home.json.new")
    with EmbeddedPaddock.open(tmp_path / "home", storage=url) as paddock:
        assert paddock.home.id == owner


def test_the_setting_counts_for_new_homes_only(url: str, tmp_path: Path) -> None:
    with connect(tmp_path / "old", environment={}):
        pass
    for name in ("old", "new"):
        with connect(tmp_path / name, environment={"PADDOCK_STORAGE": url}):
            pass
    with Home.open(tmp_path / "old") as old, Home.open(tmp_path / "new") as new:
        assert (old.storage, new.storage) == (None, url)


def test_what_can_be_no_place_of_a_home(tmp_path: Path) -> None:
    for wrong, reason in (("memory://x", "gone when this process ends"), ("bucket", "does not name an object store")):
        with pytest.raises(InvalidInput, match=reason):
            EmbeddedPaddock.open(tmp_path / "home", storage=wrong)
    assert not (tmp_path / "home").exists()
    with pytest.raises(InvalidInput, match="has its storage already"):
        connect(url="http://127.0.0.1:1", storage="s3://bucket", environment={})


@pytest.mark.usefixtures("s3_url")
def test_no_home_is_made_where_the_store_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = CommandLine.on_home(tmp_path / "home", capfd.readouterr)("init", "--storage", "s3://paddock/x")
    assert (done.code, "check the credentials" in done.errors) == (PermissionDenied.exit_code, True)
    with pytest.raises(NotFound):
        Home.open(tmp_path / "home")
