"""The `paddock` command in-process, for tests: arguments in; exit code, output and messages out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli.main import main


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command. `errors` is what went to standard error."""

    code: int
    output: str
    errors: str

    @property
    def document(self) -> Any:
        """The JSON document, which must be all of the output."""
        return json.loads(self.output)

    def succeeded(self) -> Ran:
        assert self.code == 0, f"exit code {self.code}\n{self.errors}"
        return self


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands on one home, or on one server. capture: gives (output, errors) since the last call."""

    place: tuple[str, ...]
    capture: Callable[[], tuple[str, str]]

    @classmethod
    def on_home(cls, home: Path, capture: Callable[[], tuple[str, str]]) -> CommandLine:
        return cls(("--home", str(home)), capture)

    def __call__(self, *words: str | Path) -> Ran:
        self.capture()
        code = main([*self.place, *map(str, words)])
        output, errors = self.capture()
        return Ran(code, output, errors)

    def ok(self, *words: str | Path) -> Ran:
        """Run a command that must succeed."""
        return self(*words).succeeded()

    def json(self, *words: str | Path) -> Any:
        """Run a command that must succeed with one JSON document as its only output."""
        head, dashes, tail = _cut(words)
        return self(*head, "--json", *dashes, *tail).succeeded().document


def _cut(words: tuple[str | Path, ...]) -> tuple[tuple[str | Path, ...], tuple[str, ...], tuple[str | Path, ...]]:
    """The words before `--`, it, and the words after it."""
    if "--" not in words:
        return words, (), ()
    at = words.index("--")
    return words[:at], ("--",), words[at + 1 :]
