"""The reference pages name every command, option, exit code, request and service method that there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from paddock.api.app import API_ROOT, create_app
from paddock.cli.main import COMMANDS, EXIT_BROKEN_PIPE, EXIT_TERMINATED, app
from paddock.client.http import HttpPaddock
from paddock.model import services
from paddock.model.errors import ERROR_CLASSES, EXIT_INTERRUPTED, EXIT_WRONG_USAGE, PaddockError

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "cli.md").read_text(encoding="utf-8")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    for name, entry in COMMANDS.items():
        command = entry.load(name)
        below = getattr(command, "commands", None)
        if below is None:
            yield f"paddock {name}", command
        else:
            for verb, found in below.items():
                yield f"paddock {name} {verb}", found


ALL = dict(commands())


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found[1].replace("\\|", "|") if found else ""


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_is_documented(name: str) -> None:
    text = section(f"`{name}`")
    assert text, f"docs/reference/cli.md has no section for `{name}`"
    for param in ALL[name].params:
        words = [param.metavar] if param.param_type_name == "argument" else [*param.opts, *param.secondary_opts]
        for word in words:
            assert re.search(rf"`{re.escape(word)}(?![\w-])", text), f"`{name}` does not document {word}"


def test_no_command_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"^#+ `(paddock [^`]+)`$", PAGE, re.MULTILINE))
    groups = {f"paddock {name}" for name in COMMANDS}
    assert documented - groups == ALL.keys() - groups


def test_every_global_option_is_documented() -> None:
    text = section("Global options")
    for param in typer.main.get_command(app).params:
        assert f"`{param.opts[0]}" in text


def test_the_list_of_commands_says_what_their_help_says() -> None:
    for name, entry in COMMANDS.items():
        assert (entry.load(name).help or "").partition("\n")[0] == entry.help


@pytest.mark.parametrize("name", ALL)
def test_every_option_has_a_help_text(name: str) -> None:
    missing = [param.name for param in ALL[name].params if not param.help]
    assert not missing


def test_every_error_class_and_exit_code_is_documented() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    for kind in ERROR_CLASSES:
        row = f"| {kind.exit_code} | `{kind.__name__}` | `{kind.code}` | {kind.http_status} |"
        assert row in text, f"errors.md has no row {row}"
    for code in (0, 1, EXIT_WRONG_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED):
        assert f"\n| {code} |" in text
    assert {kind.exit_code for kind in ERROR_CLASSES} == set(range(3, 3 + len(ERROR_CLASSES)))
    assert set(PaddockError.__subclasses__()) == set(ERROR_CLASSES)


def test_every_request_is_documented() -> None:
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    with HttpPaddock("http://127.0.0.1:9") as anything:
        paths = create_app(anything).openapi()["paths"]
    missing = []
    for path, methods in paths.items():
        short = path.removeprefix(API_ROOT)
        tail = "/" + short.rpartition("/")[2]
        for method, described in methods.items():
            assert described["summary"]
            name = method.upper()
            whole = re.search(rf"`{name} {re.escape(short)}[`?]", text)
            again = re.search(rf"{re.escape(short)}[?`][^|]*`{name} …", text)
            sibling = re.search(rf"`{name} {re.escape(short.rpartition('/')[0])}/\w+`[^|]*`{re.escape(tail)}[`?]", text)
            if not (whole or again or sibling):
                missing.append(f"{name} {short}")
    assert not missing


def test_every_service_method_is_documented() -> None:
    text = (REFERENCE / "sdk.md").read_text(encoding="utf-8")
    nouns = (
        "Projects",
        "Repos",
        "Branches",
        "Tags",
        "Commits",
        "Files",
        "Transfers",
        "Pipelines",
        "Jobs",
        "Datums",
        "Cache",
        "Store",
    )
    for noun in nouns:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{noun.lower()}` |"))
        for name, method in inspect.getmembers(getattr(services, noun), inspect.isfunction):
            if name.startswith("_"):
                continue
            assert f"`{name}(" in row, f"sdk.md does not document {noun.lower()}.{name}"
            for parameter in list(inspect.signature(method).parameters)[1:]:
                call = row[row.index(f"`{name}(") :].split("`")[1]
                assert parameter in call, f"sdk.md: {noun.lower()}.{name} lacks {parameter}"
