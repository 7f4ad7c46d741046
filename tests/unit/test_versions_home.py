"""Homes: creation, refusal, search, locks, and what opening one imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.model.errors import Conflict, Corrupt, InvalidInput, NotFound
from paddock.versions.home import FORMAT_VERSION, Home, find_home
from paddock.versions.projects import ProjectService
from paddock.versions.repos import RepoService


def test_a_new_home_has_the_default_project_and_opens_again(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        identity = home.id
        assert [project.name for project in ProjectService(home).list()] == ["default"]
        RepoService(home).create("data")
    with Home.open(tmp_path / "home") as home:
        assert home.id == identity
        assert [repo.name for repo in RepoService(home).list()] == ["data"]
        assert (home.chunking.min_bytes, home.chunking.average_bytes, home.chunking.max_bytes) == (2**18, 2**20, 2**22)


def test_without_create_a_missing_home_is_not_found_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Paddock home"):
        Home.open(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", ["http://127.0.0.1:1659", Path("http://127.0.0.1:1659"), "postgresql://db/paddock"])
def test_a_url_is_no_home(named: str | Path) -> None:
    with pytest.raises(InvalidInput, match=r"is a URL, and a home is a folder; name a server with --url"):
        find_home(named)


def test_a_directory_with_other_things_is_no_home_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InvalidInput, match=r"not a Paddock home.*thesis\.tex"):
        Home.open(tmp_path, create=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_no_home(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((InvalidInput, NotFound), match="file"):
        Home.open(tmp_path / "file", create=create)


def test_a_half_made_home_is_completed(tmp_path: Path) -> None:
    (tmp_path / "home" / "locks").mkdir(parents=True)
    (tmp_path / "home" / "objects").mkdir()
    with Home.open(tmp_path / "home", create=True) as home:
        assert [project.name for project in ProjectService(home).list()] == ["default"]


def test_a_newer_format_is_refused_with_both_versions_and_the_next_step(tmp_path: Path) -> None:
    Home.open(tmp_path / "home", create=True).close()
    file = tmp_path / "home" / "home.json"
    content = json.loads(file.read_text()) | {"format_version": 7}
    file.write_text(json.dumps(content))
    for create in (True, False):
        with pytest.raises(Conflict, match=rf"version 7.*up to {FORMAT_VERSION}.*pip install --upgrade"):
            Home.open(tmp_path / "home", create=create)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format_version": "x"}', '{"format_version": 1}'])
def test_a_damaged_home_file_is_named(tmp_path: Path, content: str) -> None:
    Home.open(tmp_path / "home", create=True).close()
    (tmp_path / "home" / "home.json").write_text(content)
    with pytest.raises(Corrupt, match=r"home\.json is damaged"):
        Home.open(tmp_path / "home")


def test_a_lost_catalog_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    Home.open(tmp_path / "home", create=True).close()
    (tmp_path / "home" / "catalog.db").unlink()
    with pytest.raises(Corrupt, match="lost its catalog"):
        Home.open(tmp_path / "home", create=True)
    assert not (tmp_path / "home" / "catalog.db").exists()


def test_the_nearest_home_upwards_is_found_else_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home(start=deep) == tmp_path / "user" / ".paddock"
    (tmp_path / "a" / ".paddock").mkdir()
    assert find_home(start=deep) == tmp_path / "a" / ".paddock"
    (deep / ".paddock").mkdir()
    assert find_home(start=deep) == deep / ".paddock"
    assert find_home(tmp_path / "other", start=deep) == tmp_path / "other"
    assert find_home("~/x", start=deep) == tmp_path / "user" / "x"
    assert find_home("", start=deep) == deep / ".paddock"


def test_a_lock_excludes_other_holders_until_it_is_released(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        lock = home.try_lock("scheduler")
        assert lock is not None
        assert home.try_lock("scheduler") is None
        other = home.try_lock("other")
        assert other is not None
        other.release()
        lock.release()
        lock.release()
        with home.try_lock("scheduler") or pytest.fail("the lock is free"):
            assert home.try_lock("scheduler") is None
        assert home.try_lock("scheduler") is not None


def test_a_home_that_is_removed_under_us_is_named(tmp_path: Path) -> None:
    with Home.open(tmp_path / "home", create=True) as home:
        shutil.rmtree(home.path / "locks")
        lock = home.try_lock("scheduler")
        assert lock is not None
        lock.release()
        shutil.rmtree(home.path)
        with pytest.raises(NotFound, match="is gone"):
            home.try_lock("scheduler")


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from paddock.versions.home import Home\n"
        "lock = Home.open(Path(sys.argv[1]), create=True).try_lock('scheduler')\n"
        "assert lock is not None\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "home")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with Home.open(tmp_path / "home") as home:
            assert home.try_lock("scheduler") is None
            process.kill()
            process.wait()
            lock = home.try_lock("scheduler")
            assert lock is not None
            lock.release()


def test_listing_repos_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from paddock.versions.home import Home; from paddock.versions.repos import RepoService\n"
        "home = Home.open(Path(sys.argv[1]))\n"
        "assert [repo.name for repo in RepoService(home).list()] == ['data']\n"
        "heavy = {'pyarrow', 'numpy', 'blake3', 'zstandard', 'pydantic', 'importlib.resources', 'paddock.storage.tables'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    with Home.open(tmp_path / "home", create=True) as home:
        RepoService(home).create("data")
    run = [sys.executable, "-c", code, str(tmp_path / "home")]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_home_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    with pytest.raises(Exception, match="permission"):
        Home.open(tmp_path / "shut" / "home", create=True)
