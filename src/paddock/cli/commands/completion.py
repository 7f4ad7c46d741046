"""`paddock completion`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from paddock.cli import output


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="[SHELL]", help="bash, zsh or fish.")] = Shell.BASH,
) -> None:
    """Print the completion script of a shell.

    `paddock --install-completion` installs it for good; `source <(paddock completion bash)` is for this session only.
    """
    output.line(get_completion_script(prog_name="paddock", complete_var="_PADDOCK_COMPLETE", shell=shell.value))
