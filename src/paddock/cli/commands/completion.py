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
    shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")] = Shell.BASH,
) -> None:
    """Print a shell's completion script; `paddock --install-completion` installs it for good.

    For this session only: `source <(paddock completion bash)`.
    """
    output.line(get_completion_script(prog_name="paddock", complete_var="_PADDOCK_COMPLETE", shell=shell.value))
