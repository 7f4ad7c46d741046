"""`paddock plan`, `datum explain` and `datum preview` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.cli.main import main

SPEC = """
pipeline: copy
transform:
  cmd: [sh, -c, cp "$data" /pfs/out/]
input:
  pfs: {repo: data, glob: "/(*).txt"}
---
pipeline: all
transform:
  cmd: [sh, -c, cat /pfs/copy/* > /pfs/out/all]
input:
  pfs: {repo: copy, glob: /}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PADDOCK_HOME", str(tmp_path / ".paddock"))
    (tmp_path / "specs.yaml").write_text(SPEC)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.txt").write_text(name)
    return tmp_path


def put(folder: Path) -> None:
    assert main(["put", "data@main", str(folder / "source"), "--mirror"]) == 0


def test_a_plan_shows_what_will_run_and_a_datum_explains_that_it_did(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "specs.yaml", "--input", "data=source", "--workers", "1"]) == 0
    (folder / "source" / "a.txt").write_text("changed")
    (folder / "source" / "b.txt").unlink()
    (folder / "source" / "c.txt").write_text("new")
    assert main(["pipeline", "stop", "copy"]) == 0
    put(folder)
    capsys.readouterr()
    assert main(["plan", "specs.yaml"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[:4] == [
        "default/copy (unchanged): 2 datums: 2 to run, 0 reused; 1 dropped",
        "  + data:/a.txt: data:/a.txt changed",
        "  + data:/c.txt: data:/c.txt was added",
        "  - data:/b.txt: data:/b.txt was removed",
    ]
    assert lines[4].startswith("  1 worker: about ")
    assert lines[5].startswith("  2 workers: about ")
    assert lines[6:] == ["", "default/all (unchanged): 1 datum: 0 to run, 1 reused; 0 dropped"]
    assert "warning: default/all reads default/copy, which is to change" in shown.err

    assert main(["plan", "specs.yaml", "--json", "--limit", "1"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["run"], first["drop"], first["truncated"], len(first["datums"])) == (2, 1, 2, 1)
    assert second["reuse"] == 1

    assert main(["pipeline", "start", "copy"]) == 0
    assert main(["job", "wait", "copy"]) == 0
    capsys.readouterr()
    assert main(["datum", "list", "copy", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert main(["datum", "explain", "copy", listed[0]["id"]]) == 0
    explained = capsys.readouterr().out.splitlines()
    assert explained[-1] == "  data:/a.txt changed"


def test_a_preview_takes_a_spec_an_input_or_an_address(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repo", "create", "data"]) == 0
    put(folder)
    (folder / "input.yaml").write_text('pfs: {repo: data, glob: "/(*).txt"}')
    capsys.readouterr()
    for name in ("input.yaml", "data:/(*).txt", "default/data@main:/(*).txt"):
        assert main(["datum", "preview", name]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "data: 2 matches of default/data@main:/(*).txt",
            "2 datums",
            "  data:/a.txt [a]",
            "  data:/b.txt [b]",
        ]
    assert main(["datum", "preview", "data:/none*", "--json"]) == 0
    preview = json.loads(capsys.readouterr().out)
    assert preview["total"] == 0
    assert "/none* matches nothing" in preview["warnings"][0]
    assert main(["datum", "preview", "absent.yaml"]) == 4
