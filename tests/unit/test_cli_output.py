"""Tables, sizes and words of the command's output, and its global options."""

from __future__ import annotations

import json

import pytest

from paddock.cli import output
from paddock.cli.main import hoist_global_options
from paddock.cli.session import Session, note_password


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (2 << 60, "2048.0 PiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1:01"), (3661, "1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def test_tables_align_and_escape(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "files", "size"), [("a\x1b[2J\n", 5, "1.0 KiB"), ("longer", 1000, "10 B")], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        r"NAME        FILES     SIZE",
        r"a\x1b[2J\n      5  1.0 KiB",
        r"longer       1000     10 B",
    ]
    output.table(("name",), [], empty="none")
    assert capsys.readouterr() == ("", "none\n")


def test_fields_leave_out_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    output.fields((("name", "x"), ("description", ""), ("head", None), ("branches", "a")))
    assert capsys.readouterr().out == "name:      x\nbranches:  a\n"


@pytest.mark.parametrize("values", [[], [1], [{"a": "ü"}, {"b": None}]])
def test_a_stream_is_one_document(values: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    output.document_stream(iter(values))
    assert json.loads(capsys.readouterr().out) == values


@pytest.mark.parametrize(
    ("given", "hoisted"),
    [
        (["repo", "list", "--home", "x"], ["--home", "x", "repo", "list"]),
        (["ls", "a", "--project=p", "--json"], ["--project=p", "ls", "a", "--json"]),
        (["map", "s", "-o", "t", "--", "cmd", "--home", "y"], ["map", "s", "-o", "t", "--", "cmd", "--home", "y"]),
        (["repo", "list", "--url"], ["--url", "repo", "list"]),
    ],
)
def test_global_options_may_follow(given: list[str], hoisted: list[str]) -> None:
    assert hoist_global_options(given) == hoisted


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("data", "lab/data"),
        ("data@main:/a/b", "lab/data@main:/a/b"),
        ("other/data@main:/a", "other/data@main:/a"),
        ("data:/a/b", "lab/data:/a/b"),
        ("", ""),
    ],
)
def test_names_get_the_chosen_project(text: str, named: str) -> None:
    assert Session(project="lab").name(text) == named
    assert Session().name(text) == text


def test_a_password_among_the_words_of_a_command_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("postgresql://user:hidden@db/x", "postgresql://db/x?password=hidden"):
        note_password(url)
        said = capsys.readouterr().err
        assert "list of processes" in said
        assert "hidden" not in said
    for url in ("postgresql://user@db:5432/x", "postgresql:///x?host=/run&user=u", ""):
        note_password(url)
        assert capsys.readouterr().err == ""
