"""A directory put again of which little changed: the same tree as a put that looks at everything, without what that loads.

The processes that walk are forks, so each put is a command of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock

# Files are settled at once, or each step would have to wait for two seconds.
PUT = """
import sys
from paddock.storage import remembered_scans
remembered_scans.RACY_NS = 0
from paddock.cli.start import main
sys.argv[0] = "paddock"
code = main()
print("quick" if "pyarrow" not in sys.modules else "whole")
sys.exit(code)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for directory in ("", "a", "a/deep", "a-b", "b"):
        for number in range(20):
            file = root / directory / f"f{number:02d}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{directory} {number}")
    return root


class Putting:
    """Puts the source, and compares with a put into a repo that has never seen it."""

    def __init__(self, tmp_path: Path, source: Path, path: str, options: list[str]) -> None:
        self.home = tmp_path / "home"
        self.source = source
        self.path = path
        self.options = options
        self.repos = 0
        with EmbeddedPaddock.open(self.home) as paddock:
            paddock.repos.create("data")

    def put(self, *, compared: bool = True) -> tuple[str, str]:
        """What the put said, and how it went."""
        said, how = self._run("data@main").splitlines()[-2:]
        if compared:
            assert self._files("data") == self._fresh()
        return said, how

    def _run(self, branch: str) -> str:
        words = [sys.executable, "-c", PUT, "--home", str(self.home), "put", f"{branch}:{self.path}", str(self.source)]
        finished = subprocess.run([*words, *self.options], capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def _fresh(self) -> list[object]:
        """In a home of its own, or this one would remember that put as the last one of the source."""
        self.repos += 1
        name = f"fresh{self.repos}"
        with EmbeddedPaddock.open(self.home.with_name("fresh")) as paddock:
            paddock.repos.create(name)
            paddock.files.put_tree(f"{name}@main:{self.path}", self.source)
            return list(paddock.files.list(f"{name}@main:{self.path}", recursive=True))

    def _files(self, repo: str) -> list[object]:
        with EmbeddedPaddock.open(self.home) as paddock:
            return list(paddock.files.list(f"{repo}@main:{self.path}", recursive=True))


@pytest.fixture(params=["/", "/below/here"])
def putting(request: pytest.FixtureRequest, tmp_path: Path, source: Path) -> Putting:
    return Putting(tmp_path, source, request.param, ["--mirror"])


def test_what_changed_is_put_and_nothing_else_is_looked_at(putting: Putting, source: Path) -> None:
    assert putting.put()[1] == "whole"
    assert putting.put(compared=False) == ("nothing changed (100 files, 470 B)", "quick")

    (source / "a" / "f03").write_text("changed")
    (source / "a" / "f05").chmod(0o755)
    (source / "a" / "f07").unlink()
    (source / "b" / "new").write_text("new")
    (source / "c").mkdir()
    (source / "c" / "empty").touch()
    said, how = putting.put()

    assert how == "quick"
    assert "101 files" in said
    assert "(4 changed, 1 removed)" in said
    assert putting.put(compared=False)[0].startswith("nothing changed")


def file_to_directory(source: Path) -> None:
    (source / "a" / "f03").unlink()
    (source / "a" / "f03").mkdir()
    (source / "a" / "f03" / "inside").touch()


def directory_to_file(source: Path) -> None:
    shutil.rmtree(source / "a")
    (source / "a").touch()


def test_what_is_not_simple_is_put_right(tmp_path: Path, source: Path) -> None:
    putting = Putting(tmp_path, source, "/", ["--mirror"])
    putting.put(compared=False)

    for change in (
        lambda: (source / "link").symlink_to("a"),
        lambda: file_to_directory(source),
        lambda: (source / "b" / "f01").write_bytes(os.urandom(300_000)),
        lambda: (source / "f19").rename(source / "zlast"),
        lambda: directory_to_file(source),
    ):
        change()
        putting.put()


def test_a_tree_that_others_changed_is_compared_as_a_whole(tmp_path: Path, source: Path) -> None:
    putting = Putting(tmp_path, source, "/", ["--mirror"])
    putting.put(compared=False)
    with EmbeddedPaddock.open(putting.home) as paddock:
        paddock.files.put("data@main:/a/other", b"other")
        paddock.files.put("data@main:/a/f01", b"other")

    said, how = putting.put()

    assert how == "whole"
    assert "(1 changed, 1 removed)" in said


def test_without_mirror_files_that_are_gone_stay(tmp_path: Path, source: Path) -> None:
    putting = Putting(tmp_path, source, "/", [])
    putting.put(compared=False)
    (source / "a" / "f07").unlink()
    (source / "a" / "f08").write_text("changed")

    said, how = putting.put(compared=False)

    assert how == "quick"
    assert "(1 changed, 0 removed)" in said
    with EmbeddedPaddock.open(putting.home) as paddock:
        assert b"".join(paddock.files.read("data@main:/a/f07")) == b"a 7"
        assert b"".join(paddock.files.read("data@main:/a/f08")) == b"changed"


def test_a_mirror_after_another_put_removes_what_that_left(tmp_path: Path, source: Path) -> None:
    putting = Putting(tmp_path, source, "/", [])
    putting.put(compared=False)
    (source / "a" / "f07").unlink()
    putting.put(compared=False)

    putting.options = ["--mirror"]

    assert "1 removed" in putting.put()[0]
