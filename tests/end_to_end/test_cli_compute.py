"""`map`, `run`, pipelines, jobs and datums through the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from paddock.testing.commands import CommandLine


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a folder `source` with three files, and a script."""
    folder = tmp_path / "work"
    (folder / "source").mkdir(parents=True)
    for name, text in (("a", "1\n"), ("b", "2\n"), ("c", "3\n")):
        (folder / "source" / name).write_text(text)
    (folder / "double.sh").write_text('cat "$1" "$1" > "$2/$(basename "$1")"\n')
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(home_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for variable in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(variable)
    return CommandLine.on_home(home_path, lambda: (lambda read: (read.out, read.err))(capsys.readouterr()))


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def counts(document: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """(total, run, reused) of each job of a summary."""
    return [(job["datums"]["total"], job["datums"]["run"], job["datums"]["reused"]) for job in document["jobs"]]


MAP = ("map", "source", "-o", "out", "-j", "2", "--", "sh", "double.sh", "{in}", "{out}")


def test_map_computes_only_what_changed(cli: CommandLine, work: Path) -> None:
    first = cli.json(*MAP)
    assert set(first) == {"jobs", "seconds"}
    (job,) = first["jobs"]
    assert set(job) == {"pipeline", "state", "datums", "seconds"}
    assert set(job["datums"]) == {"total", "run", "reused", "recovered", "failed"}
    assert (job["state"], counts(first)) == ("success", [(3, 3, 0)])
    assert contents(work / "out") == {"a": "1\n1\n", "b": "2\n2\n", "c": "3\n3\n"}

    assert counts(cli.json(*MAP)) == []
    (work / "source" / "a").write_text("9\n")
    (work / "source" / "b").unlink()
    (work / "source" / "d").write_text("4\n")
    (work / "out" / "mine").write_text("untouched")
    assert counts(cli.json(*MAP)) == [(3, 2, 1)]
    assert contents(work / "out") == {"a": "9\n9\n", "c": "3\n3\n", "d": "4\n4\n", "mine": "untouched"}

    (work / "double.sh").write_text('cat "$1" > "$2/$(basename "$1")"\n')
    assert counts(cli.json(*MAP)) == [(3, 3, 0)]
    (work / "out" / "a").unlink()
    said = cli.ok(*MAP)
    assert "nothing to compute" in said.output
    assert (work / "out" / "a").read_text() == "9\n"


def test_map_of_an_empty_folder_has_nothing_to_do(cli: CommandLine, work: Path) -> None:
    (work / "none").mkdir()
    assert cli.json("map", "none", "-o", "out", "--", "cp", "{in}", "{out}")["jobs"] == []
    (work / "none" / "a").write_text("a")
    assert counts(cli.json("map", "none", "-o", "out", "--", "cp", "{in}", "{out}")) == [(1, 1, 0)]


def test_map_speaks_to_people_on_two_streams(cli: CommandLine, work: Path) -> None:
    said = cli.ok(*MAP)
    assert "success, 3 datums (3 computed, 0 reused)" in said.output
    assert "success 3/3" in said.errors
    assert cli("map", "source", "-o", "out2", "--", "cp", "{in}", "{out}").code == 0


def test_map_runs_in_the_current_directory(cli: CommandLine, work: Path) -> None:
    (work / "table").write_text("from the current directory\n")
    cli.ok("map", "source", "-o", "out", "--", "sh", "-c", "cat table > /pfs/out/$(basename $0)", "{in}")
    assert contents(work / "out")["a"] == "from the current directory\n"


def test_map_versions_the_code_folder(cli: CommandLine, work: Path) -> None:
    (work / "lib").mkdir()
    (work / "lib" / "part.sh").write_text("echo one\n")
    words = (
        "map",
        "source",
        "-o",
        "out",
        "--code",
        "lib",
        "--",
        "sh",
        "-c",
        ". ./lib/part.sh > {out}/$(basename {in})",
    )
    assert counts(cli.json(*words)) == [(3, 3, 0)]
    assert counts(cli.json(*words)) == []
    (work / "lib" / "part.sh").write_text("echo two\n")
    assert counts(cli.json(*words)) == [(3, 3, 0)]
    assert contents(work / "out")["a"] == "two\n"


def test_a_home_inside_the_source_is_not_data(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PADDOCK_HOME", raising=False)
    (work / "source" / ".paddock").mkdir()
    monkeypatch.chdir(work / "source")
    here = CommandLine((), lambda: (lambda read: (read.out, read.err))(capsys.readouterr()))
    words = ("map", ".", "-o", "../out", "--", "cp", "{in}", "{out}")
    assert counts(here.json(*words)) == [(3, 3, 0)]
    assert counts(here.json(*words)) == []
    assert set(contents(work / "out")) == {"a", "b", "c"}


def test_a_failing_map_names_datum_and_log_and_goes_on(cli: CommandLine, work: Path) -> None:
    (work / "double.sh").write_text('echo looking at $1; test $(cat "$1") != 2 || exit 1; cp "$1" "$2/"\n')
    failed = cli(*MAP)
    assert failed.code == 11
    for part in ("in/b", "failure", "paddock datum logs map/"):
        assert part in failed.errors
    assert not (work / "out").exists() or contents(work / "out") == {}
    log = failed.errors[failed.errors.index("paddock datum logs ") :].split("\n")[0].split()
    assert "looking at" in cli.ok(*log[1:]).output

    missing = cli("map", "source", "-o", "other", "--", "no-such-program").errors
    assert missing.count("'no-such-program' is not found in PATH") == 1
    assert missing.count(": the same; its log: paddock datum logs map/") == 2

    again = cli("map", "--json", *MAP[1:])
    assert again.code == 11
    assert (again.document["jobs"][0]["state"], counts(again.document)) == ("failure", [(3, 0, 2)])
    (work / "source" / "b").write_text("7\n")
    assert counts(cli.json(*MAP)) == [(3, 1, 2)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("map", "none", "-o", "out", "--", "true"), 4, "none"),
        (("map", "source/a", "-o", "out", "--", "true"), 3, "not a folder"),
        (("map", "source", "-o", "source/out", "--", "true"), 3, "in one another"),
        (("map", "source", "-o", ".", "--", "true"), 3, "in one another"),
        (("map", "source", "-o", "double.sh", "--", "true"), 6, "not a folder"),
        (("map", "source", "-o", "out", "--glob", "/[a", "--", "true"), 3, "[a"),
        (("map", "source", "-o", "out", "--code", "none", "--", "true"), 4, "none"),
        (("map", "source", "-o", "out"), 2, "CMD"),
        (("map", "source", "--", "true"), 2, "--output"),
        (("map", "source", "-o", "out", "--", "no-such-program"), 11, "no-such-program"),
    ],
)
def test_mistakes_with_map(cli: CommandLine, work: Path, words: tuple[str, ...], code: int, said: str) -> None:
    ran = cli(*words)
    assert ran.code == code
    assert said in ran.errors
    assert "Traceback" not in ran.errors


EDGES = """
pipeline: {name: double}
transform: {cmd: [sh, work.sh], code: code}
input: {pfs: {repo: data, glob: /*}}
"""
TOTAL = """
{"pipeline": {"name": "total"}, "input": {"pfs": {"repo": "double", "glob": "/"}},
 "transform": {"cmd": ["sh", "-e", "-c", "cat /pfs/double/* | sort -n > /pfs/out/all"]}}
"""


@pytest.fixture
def specs(work: Path) -> Path:
    folder = work / "specs"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "work.sh").write_text(
        'for f in /pfs/data/*; do echo $((2 * $(cat $f))) > "/pfs/out/$(basename $f)"; done\n'
    )
    (folder / "double.yaml").write_text(EDGES)
    (folder / "total.json").write_text(TOTAL)
    return folder


RUN = ("run", "specs/total.json", "specs/double.yaml", "--input", "data=source", "--output", "total=out", "-j", "2")


def test_run_takes_specs_and_folders_to_results(cli: CommandLine, work: Path, specs: Path) -> None:
    first = cli.json(*RUN)
    assert [job["pipeline"] for job in first["jobs"]] == ["double", "total"]
    assert counts(first) == [(3, 3, 0), (1, 1, 0)]
    assert contents(work / "out") == {"all": "2\n4\n6\n"}
    assert counts(cli.json(*RUN)) == []

    (work / "source" / "d").write_text("10\n")
    (work / "source" / "a").unlink()
    assert counts(cli.json(*RUN)) == [(3, 1, 2), (1, 1, 0)]
    assert contents(work / "out") == {"all": "4\n6\n20\n"}

    (specs / "code" / "work.sh").write_text("for f in /pfs/data/*; do cp $f /pfs/out/; done\n")
    assert counts(cli.json(*RUN)) == [(3, 3, 0), (1, 1, 0)]
    assert contents(work / "out") == {"all": "2\n3\n10\n"}


def test_pipelines_jobs_and_datums(cli: CommandLine, work: Path, specs: Path) -> None:
    cli.ok("repo", "create", "data")
    said = cli.ok("pipeline", "apply", "specs/total.json", "specs/double.yaml")
    assert said.output == "created pipeline double (version 1)\ncreated pipeline total (version 1)\n"
    assert "unchanged pipeline double" in cli.ok("pipeline", "apply", "specs/double.yaml").output
    assert "no jobs yet" in cli.ok("job", "list").errors
    cli.ok("put", "data", "source")
    assert [job["state"] for job in cli.json("job", "wait")] == ["success", "success"]
    assert "no unfinished jobs" in cli.ok("job", "wait").errors
    job = cli.json("job", "inspect", "double")
    name = f"double@{job['id']}"
    assert cli.json("job", "wait", name)[0]["id"] == job["id"]
    assert "success" in cli.ok("job", "inspect", name).output
    assert job["id"] in cli.ok("job", "list", "-p", "double").output
    assert len(cli.json("job", "list", "-n", "1")) == 1
    assert {item["name"] for item in cli.json("pipeline", "list")} == {"double", "total"}
    assert "success" in cli.ok("pipeline", "list").output
    assert cli.json("pipeline", "inspect", "double")["spec"]["transform"]["code"] == "code"
    assert '"cmd"' in cli.ok("pipeline", "inspect", "double", "--version", "1").output

    datum, *_ = cli.json("datum", "list", "double")
    assert datum["id"] in cli.ok("datum", "list", name, "--state", "success").output
    assert cli.json("datum", "list", name, "-s", "failed") == []
    assert cli.json("datum", "inspect", name, datum["id"][:10])["state"] == "success"
    assert "/a" in cli.ok("datum", "inspect", "double", datum["id"]).output
    assert cli.ok("datum", "logs", "double", datum["id"]).output == ""
    assert f"==> datum {datum['id']} <==" in cli.ok("job", "logs", "double").output
    assert cli("job", "stop", "double").code == 6

    why = cli.ok("why", "total:/all").output
    for part in ("total version 1", "double version 1", "data@", "put by a user"):
        assert part in why
    assert cli.json("why", "double:/a")["inputs"][0]["file"].startswith("default/data@")
    assert len(cli.json("commit", "set", job["id"])["jobs"]) == 2

    rerun = cli.json("pipeline", "rerun", "double", "--reprocess")
    assert cli.json("job", "wait", f"double@{rerun['id']}")[0]["datums"]["run"] == 3
    assert cli.ok("pipeline", "stop", "total").output == "pipeline total is stopped\n"
    stopped = cli(*RUN)
    assert (stopped.code, "paddock pipeline start" in stopped.errors) == (6, True)
    assert cli.json("pipeline", "start", "total")["state"] == "running"
    assert cli("pipeline", "delete", "double").code == 6
    cli.ok("pipeline", "delete", "total")
    assert cli.json("pipeline", "delete", "double", "--keep-repo") == {"deleted": "double"}
    assert cli.json("repo", "inspect", "double")["kind"] == "user"


def test_a_failing_run_is_tried_again(cli: CommandLine, work: Path, specs: Path) -> None:
    script = "test -e flag && cp $data /pfs/out/"
    command = f"{{cmd: [sh, -c, '{script}'], working_dir: {work}}}"
    (specs / "double.yaml").write_text(EDGES.replace("{cmd: [sh, work.sh], code: code}", command))
    failed = cli(*RUN)
    assert failed.code == 11
    assert "total: unrunnable" in failed.errors
    assert "double" in failed.errors
    (work / "flag").touch()
    done = cli.json(*RUN)
    assert {job["state"] for job in done["jobs"]} == {"success"}
    assert contents(work / "out") == {"all": "1\n2\n3\n"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "specs/double.yaml"), 4, "--input data=FOLDER"),
        (("run", "specs/double.yaml", "--input", "daat=source"), 3, "did you mean default/data"),
        (("run", "specs/double.yaml", "--input", "data"), 3, "NAME=FOLDER"),
        (("run", "specs/double.yaml", "--input", "data=none"), 3, "none is not a folder"),
        (("run", "specs/double.yaml", "--input", "data=source", "--output", "dbl=out"), 3, "no spec makes"),
        (
            ("run", "specs/double.yaml", "specs/total.json", "--input", "double=source", "--input", "data=source"),
            6,
            "only its jobs",
        ),
        (("run", "specs/none.yaml"), 4, "none.yaml"),
        (("run", "specs"), 3, "specs is a folder; name files with specs, as in specs/*.yaml"),
        (("run",), 2, "SPEC"),
    ],
)
def test_mistakes_with_run(
    cli: CommandLine, work: Path, specs: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = cli(*words)
    assert ran.code == code
    assert said in ran.errors
    assert cli.json("repo", "list") == []


def test_all_faults_of_all_specs_at_once(cli: CommandLine, work: Path, specs: Path) -> None:
    (specs / "double.yaml").write_text(EDGES.replace("glob", "golb").replace("code: code", "code: none"))
    (specs / "total.json").write_text(TOTAL.replace('"transform"', '"transfrom"'))
    ran = cli(*RUN)
    assert ran.code == 3
    assert "double.yaml:4" in ran.errors
    assert "glob" in ran.errors
    assert "total.json:" in ran.errors
    assert "transform" in ran.errors
    (specs / "double.yaml").write_text(EDGES.replace("code: code", "code: none"))
    (specs / "total.json").write_text(TOTAL)
    assert "none does not exist" in cli(*RUN).errors


def test_a_cycle_is_refused(cli: CommandLine, work: Path, specs: Path) -> None:
    (specs / "double.yaml").write_text(EDGES.replace("repo: data", "repo: total"))
    ran = cli("run", "specs/double.yaml", "specs/total.json")
    assert (ran.code, "cycle" in ran.errors) == (6, True)


def test_warnings_are_said(cli: CommandLine, work: Path, specs: Path) -> None:
    (specs / "double.yaml").write_text(EDGES + "autoscaling: true\n")
    assert "warning: double:" in cli.ok(*RUN).errors


def test_ctrl_c_ends_with_one_line_and_the_next_run_goes_on(work: Path, home_path: Path) -> None:
    slow = "test -e go || touch started-$(basename $0) && until test -e go; do sleep 0.05; done; cp $0 /pfs/out/"
    command = [
        sys.executable,
        "-m",
        "paddock",
        "--home",
        str(home_path),
        "map",
        "source",
        "-o",
        "out",
        "--json",
        "-j",
        "1",
    ]
    command += ["--", "sh", "-c", slow, "{in}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert errors.splitlines()[-1] == "interrupted; finished datums are kept, the same command goes on from there"
    assert "Traceback" not in errors
    (work / "go").touch()
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(work / "out") == {"a": "1\n", "b": "2\n", "c": "3\n"}
