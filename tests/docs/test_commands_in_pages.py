"""Commands that pages show: each one exists, and so does every option that it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from paddock.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
BELOW = [page for folder in ("docs", "examples", "deploy") for page in sorted((ROOT / folder).rglob("*.md"))]
PAGES = [*(page for page in BELOW if "design" not in page.parts), ROOT / "README.md", ROOT / "SECURITY.md"]
MAIN = typer.main.get_command(app)


def shown(page: Path) -> Iterator[list[str]]:
    """The words after `paddock` of each command in a page's blocks of shell, up to a pipe, a redirection or the next command."""
    for block in re.findall(
        r"^```(?:sh|console|bash)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found = re.match(r"(?:\$ )?(?:\w+=\S* )*paddock (.*)", line)
            if found is not None:
                words = shlex.shlex(found[1], posix=True, punctuation_chars=True)
                words.whitespace_split = True
                yield list(until_next(words))


def until_next(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        if set(word) <= set("();<>|&"):
            return
        yield word


CASES = [pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}") for page in PAGES for words in shown(page)]


@pytest.mark.parametrize("words", CASES)
def test_a_command_of_a_page_is_understood(words: list[str]) -> None:
    command, name = MAIN, "paddock"
    while True:  # an unknown command or option raises a usage error
        context = command.context_class(command, info_name=name)
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not hasattr(command, "resolve_command") or not rest:
            return
        found, below, words = command.resolve_command(context, rest)
        assert below is not None
        name, command = found or name, below
