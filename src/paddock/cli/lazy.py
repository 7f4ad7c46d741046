"""A command group that imports the module of a subcommand when that subcommand is used, and not before."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from paddock.model.dataclass import dataclass

Command = Any
"""Typer's own command class; Typer does not export its name."""


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a subcommand lives. help: what the parent's help and shell completion say, without importing it."""

    module: str
    attribute: str
    help: str
    section: str

    def load(self, name: str) -> Command:
        found = getattr(importlib.import_module(self.module), self.attribute)
        app = found if isinstance(found, typer.Typer) else _single(found, name)
        command = typer.main.get_command(app)
        command.name = name
        return without_needless_coercion(command)


def group_app(help_text: str) -> typer.Typer:
    """A Typer application for one noun; its verbs are added with `@app.command()`."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _single(function: Callable[..., None], name: str) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(function)
    return app


class _CheapCoercion:
    """Typer coerces every value by a pydantic adapter, also one that needs none; importing pydantic costs 0.1 s."""

    def __init__(self, build: Callable[[], Any], annotation: Any) -> None:
        self._build = build
        self._annotation = annotation

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if many and self._annotation == list[str] and not isinstance(value, str):
            return list(value)
        # Text from the command line needs no coercion to text, and a value of another type is our own default.
        if type(value) is self._annotation:
            return value
        return self._build().coerce(value, param=param, ctx=ctx)


def without_needless_coercion(command: Command) -> Command:
    """Make a command, and what is below it, load pydantic only for values that need it."""
    command.get_params = partial(_cheap_params, command.get_params)
    for below in getattr(command, "commands", {}).values():
        without_needless_coercion(below)
    return command


def _cheap_params(get_params: Callable[[Any], list[Any]], ctx: Any) -> list[Any]:
    """A command's parameters, the one for --help among them."""
    params = get_params(ctx)
    for param in params:
        build = getattr(param, "get_runtime_param", None)
        if build is not None and not isinstance(build, partial):
            param.get_runtime_param = partial(_same, _CheapCoercion(build, param.type_descriptor.annotation))
            if param.param_type_name == "argument" and param.metavar is not None:
                # Our own names say what may be left out; Typer would put braces around them.
                param.get_usage_pieces = partial(_usage, param.metavar)
    return params


def _usage(metavar: str, ctx: Any) -> list[str]:
    return [metavar]


def _same(value: _CheapCoercion) -> _CheapCoercion:
    return value


def _placeholder() -> None:
    """Stands in for a command in help texts and completion."""


class LazyGroup(TyperGroup):
    """The root group: `get_command` gives a stand-in with the help text, `resolve_command` the real command."""

    table: Mapping[str, LazyCommand] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name, help=entry.help)(_placeholder)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Command, list[str]]:
        name = args[0]
        entry = self.table.get(name)
        if entry is not None:
            return name, entry.load(name), args[1:]
        if ctx.resilient_parsing:
            return None, None, args[1:]
        near = difflib.get_close_matches(name, self.table, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ctx.fail(f"No such command {name!r}.{hint}")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.table))
        for section in dict.fromkeys(entry.section for entry in self.table.values()):
            rows = [(name.ljust(width), entry.help) for name, entry in self.table.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)
