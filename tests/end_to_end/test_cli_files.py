"""Objects and files through the command: output for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.testing.commands import CommandLine


@pytest.fixture
def cli(home_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for variable in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(variable)
    return CommandLine.on_home(home_path, lambda: (lambda read: (read.out, read.err))(capsys.readouterr()))


@pytest.fixture
def data(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """A repo `data` with /a, /d/b and /d/c."""
    folder = tmp_path / "folder"
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_text("one\n")
    (folder / "d" / "b").write_text("two\n")
    (folder / "d" / "c").write_text("three\n")
    cli.ok("repo", "create", "data")
    cli.ok("put", "data", folder)
    return cli


def test_objects_live_and_die(cli: CommandLine) -> None:
    assert cli.ok("repo", "list").errors.startswith("no repos")
    assert cli.json("repo", "list") == []
    assert cli.ok("project", "create", "lab", "-d", "for tests").output == "created project lab\n"
    assert cli.json("project", "inspect", "lab")["description"] == "for tests"
    assert {item["name"] for item in cli.json("project", "list")} == {"default", "lab"}
    assert "for tests" in cli.ok("project", "list").output
    assert cli.ok("repo", "create", "images", "--project", "lab").output == "created repo lab/images\n"
    assert cli.json("repo", "inspect", "lab/images")["kind"] == "user"
    assert "lab/images" in cli.ok("repo", "list").output
    assert cli.json("--project", "lab", "repo", "list")[0]["name"] == "images"
    assert cli.ok("branch", "create", "lab/images@dev").output == "branch lab/images@dev\n"
    assert cli.json("branch", "list", "lab/images")[0]["name"] == "dev"
    assert "dev" in cli.ok("branch", "list", "lab/images").output
    assert cli.json("branch", "inspect", "lab/images@dev")["head"] is None
    assert cli.json("branch", "delete", "lab/images@dev") == {"deleted": "lab/images@dev"}
    assert cli.ok("repo", "delete", "lab/images").output == "deleted repo lab/images\n"
    assert cli.json("project", "delete", "lab") == {"deleted": "lab"}


def test_files_in_and_out(data: CommandLine, tmp_path: Path) -> None:
    assert data.ok("ls", "data").output == "/a\n/d/\n"
    assert data.ok("ls", "data@main", "-r").output == "/a\n/d/b\n/d/c\n"
    assert [item["path"] for item in data.json("ls", "data:/d")] == ["/d/b", "/d/c"]
    assert "4 B" in data.ok("ls", "-l", "data:/a").output
    assert data.ok("glob", "data:/**/c").output == "/d/c\n"
    assert data.ok("cat", "data:/d/b", "data:/d/c").output == "two\nthree\n"
    assert data.ok("cat", "data:/d/c", "--offset", "1", "--length", "3").output == "hre"
    assert data.json("get", "data:/d", "-o", tmp_path / "out")["files"] == 2
    assert (tmp_path / "out" / "c").read_text() == "three\n"
    assert data.ok("get", "data:/a", "-o", tmp_path / "single").output.startswith("got 1 file, 4 B")
    assert (tmp_path / "single").read_text() == "one\n"


def test_a_mirror_follows_its_source(data: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "folder" / "a").unlink()
    assert data.json("put", "data", tmp_path / "folder", "--mirror")["removed"] == 1
    assert data.ok("put", "data", tmp_path / "folder", "--mirror").output.startswith("nothing changed")
    data.ok("get", "data", "-o", tmp_path / "out", "--mirror")
    data.ok("rm", "data:/d/b")
    assert data.json("get", "data", "-o", tmp_path / "out", "--mirror")["removed"] == 1
    assert sorted(path.name for path in (tmp_path / "out" / "d").iterdir()) == ["c"]


def test_put_from_standard_input_and_append(data: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
    data.ok("put", "data:/a", "-", "--append")
    assert data.ok("cat", "data:/a").output == "one\npiped\n"
    for words in (
        ("put", "data", "-"),
        ("put", "data:/x/", "-"),
        ("put", "data:/x", "-", "-"),
        ("put", "data:/x", "-", "--mirror"),
    ):
        assert data(*words).code == 3


def test_several_sources_are_one_commit(data: CommandLine, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_text(name)
    before = len(data.json("log", "data"))
    assert len(data.json("put", "data:/new/", tmp_path / "x", tmp_path / "y")) == 2
    assert data.ok("ls", "data:/new").output == "/new/x\n/new/y\n"
    assert len(data.json("log", "data")) == before + 1

    failed = data("put", "data:/more/", tmp_path / "x", tmp_path / "none")
    assert failed.code != 0
    assert "none" in failed.errors
    assert len(data.json("log", "data")) == before + 1
    assert data.json("branch", "inspect", "data@main")["open_commit"] is None


def test_open_commits(data: CommandLine, tmp_path: Path) -> None:
    started = data.json("commit", "start", "data@main", "-d", "work")
    (tmp_path / "x").write_text("x")
    data.ok("put", "data:/x", tmp_path / "x")
    data.ok("put", "data:/more/", tmp_path / "x", tmp_path / "folder" / "a")
    assert data.ok("ls", "data").output == "/a\n/d/\n"
    assert data.ok("commit", "finish", "data@main").output.startswith("finished commit data@")
    assert data.ok("ls", "data").output == "/a\n/d/\n/more/\n/x\n"
    found = data.json("commit", "inspect", f"data@{started['id']}")
    assert (found["state"], found["description"]) == ("finished", "work")
    assert "work" in data.ok("commit", "list", "data").output
    assert [item["id"] for item in data.json("commit", "list", "data@main", "-n", "1")] == [started["id"]]
    assert data.json("commit", "set", started["id"])["id"] == started["id"]
    assert data.json("commit", "set", "data@main")["id"] == started["id"]
    assert started["id"] in data.ok("commit", "set").output
    data.ok("repo", "create", "other")
    joined = data.json("commit", "start", "data@main", "--detached")["id"]
    data.ok("commit", "start", "other@main", "--set", joined)
    data.ok("put", f"data@{joined}:/late", tmp_path / "x")
    data.ok("put", "other:/late", tmp_path / "x")
    assert "/late" not in data.ok("ls", "data").output
    assert {commit["repo"] for commit in data.json("commit", "finish", joined)} == {"data", "other"}
    assert "/late" in data.ok("ls", "data").output

    data.ok("commit", "start", "data@main")
    assert data.ok("commit", "abandon", "data@main").output == "abandoned the open commit data@main\n"


def test_editing_and_history(data: CommandLine) -> None:
    data.ok("cp", "data:/a", "data:/z")
    assert data.ok("diff", "data@main").output == "+ /z  (- → 4 B)\n"
    assert data.json("diff", "data@main", "data@main^")[0]["change"] == "added"
    assert data("rm", "data:/d").code == 3
    assert data.ok("rm", "data:/d", "-r").output.startswith("removed 2 files")
    assert [item["diff"]["change"] for item in data.json("find", "data:/d/b")] == ["removed", "added"]
    assert "removed" in data.ok("find", "data:/d/b").output
    assert data.ok("cat", "data@main^:/d/b").output == "two\n"
    assert len(data.ok("log", "data", "-n", "2").output.splitlines()) == 3
    assert data.ok("why", "data:/a").output.count("\n") == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("cat", "data:/none"), 4, "/none"),
        (("cat", "data:/d"), 3, "directory"),
        (("ls", "daat"), 4, "did you mean data"),
        (("ls", "data@nope"), 4, "nope"),
        (("ls", "data@main^9"), 4, "main^9"),
        (("ls", "da ta"), 3, "does not parse"),
        (("cat", "data:/a/../b"), 3, ".."),
        (("repo", "create", "data"), 5, "exists"),
        (("repo", "create", "x/y/z"), 3, "name"),
        (("glob", "data:/[a"), 3, "[a"),
        (("put", "data", "no-such-file"), 4, "no-such-file"),
        (("put", "nope", "."), 4, "paddock repo create nope"),
        (("--project", "no such", "repo", "list"), 3, "project name"),
        (("job", "inspect", "nope"), 4, "nope"),
        (("pipeline", "apply", "no.yaml"), 4, "no.yaml"),
        (("why", "data"), 3, "file"),
        (("up", "--host", "0.0.0.0"), 7, "--allow-remote"),
    ],
)
def test_mistakes_get_a_message_and_a_code(data: CommandLine, words: tuple[str, ...], code: int, said: str) -> None:
    ran = data(*words)
    assert (ran.code, ran.output) == (code, "")
    assert said in ran.errors
    assert ran.errors.startswith("error: ")
    assert "Traceback" not in ran.errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("repoo", "list"), "Did you mean 'repo'"),
        (("repo", "lst"), "list"),
        (("repo", "list", "--jsn"), "--json"),
        (("repo", "create"), "Usage: paddock repo create [OPTIONS] REPO\n"),
        (("log", "data", "-n", "many"), "valid integer"),
        (("log", "data", "-n", "0"), "equal to 1"),
        (("datum", "list", "p", "--state", "bad"), "bad"),
    ],
)
def test_wrong_usage_is_code_2(cli: CommandLine, words: tuple[str, ...], said: str) -> None:
    ran = cli(*words)
    assert (ran.code, ran.output) == (2, "")
    assert said in ran.errors


def test_a_home_and_a_server_exclude_each_other(cli: CommandLine) -> None:
    ran = cli("repo", "list", "--url", "http://127.0.0.1:9")
    assert (ran.code, "name one of them" in ran.errors) == (3, True)


def test_an_unexpected_error_is_one_line(data: CommandLine, home_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "not a number")
    (home_path / "home.json").write_text('{"format_version": 999, "id": "x", "chunking": {}}')
    newer = data("repo", "list")
    assert (newer.code, "999" in newer.errors) == (6, True)

    def broken() -> list[str]:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("paddock.cli.main.load_settings", lambda environment: broken())
    ran = data("repo", "list")
    assert (ran.code, len(ran.errors.splitlines())) == (12, 1)
    assert "PADDOCK_DEBUG=1" in ran.errors
    monkeypatch.setenv("PADDOCK_DEBUG", "1")
    assert "Traceback" in data("repo", "list").errors


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "paddock", "--home", str(home), *words]


def test_a_closed_pipe_is_silent(data: CommandLine, home_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(800):
        (folder / f"{number:0240}").touch()
    data.ok("put", "data:/many", folder)
    line = " ".join(command(home_path, "ls", "data:/many"))
    ran = subprocess.run(["sh", "-c", f"{line} | head -1"], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == f"/many/{0:0240}\n"
    assert ran.stderr == ""


def test_completion_offers_commands_and_options(home_path: Path) -> None:
    def complete(words: str) -> str:
        environment = os.environ | {
            "_PADDOCK_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        ran = subprocess.run(
            [sys.executable, "-c", "import sys; from paddock.cli.main import main; sys.exit(main())"],
            env=environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return ran.stdout

    assert "pipeline" in complete("paddock pi").split()
    assert "inspect" in complete("paddock repo ").split()
    assert "--json" in complete("paddock repo list --").split()


def test_completion_scripts_and_version(cli: CommandLine) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_PADDOCK_COMPLETE" in cli.ok("completion", shell).output
    assert set(cli.json("version")) == {"version", "python"}
    assert cli.ok("version").output.startswith("paddock ")
    assert cli.ok("--version").output == cli.ok("version").output


def test_listing_repos_imports_nothing_heavy(home_path: Path, data: CommandLine) -> None:
    script = (
        "import sys; from paddock.cli.main import main; code = main(sys.argv[1:]);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "--home", str(home_path), "repo", "list"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for name in ("pyarrow", "numpy", "fastapi", "pydantic", "rich", "httpx2", "yaml", "asyncio", "blake3"):
        assert f"'{name}'" not in ran.stderr
