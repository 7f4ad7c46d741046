"""The `paddock` command: global options, errors to exit codes, and the table of commands."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from typer import TyperException

from paddock.cli import output
from paddock.cli.lazy import LazyCommand, LazyGroup, without_needless_coercion
from paddock.cli.session import Session, session_of
from paddock.model.addresses import check_name
from paddock.model.errors import EXIT_INTERRUPTED, Bug, PaddockError
from paddock.settings_file import load_settings

EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141
GC_OBJECTS = 50_000
"""Rows of tables make no cycles; with Python's 700 the collector would look at them a hundred times."""
DEBUG_VARIABLE = "PADDOCK_DEBUG"

GLOBAL_OPTIONS = ("--home", "--url", "--project")
_COMMANDS = "paddock.cli.commands"
_START, _FILES, _OBJECTS, _MORE = "Start here", "Files", "Objects", "More"

COMMANDS: dict[str, LazyCommand] = {
    name: LazyCommand(f"{_COMMANDS}.{module}", attribute, text, section)
    for name, module, attribute, text, section in (
        (
            "map",
            "map",
            "map_",
            "Run a command on every file of a folder, in parallel, computing only what changed.",
            _START,
        ),
        (
            "run",
            "run",
            "run",
            "Apply specs, put folders in, work until nothing is left to do, copy results out.",
            _START,
        ),
        ("plan", "plan", "plan", "What jobs of these specs would run, reuse and drop, why, and how long.", _START),
        ("up", "up", "up", "Serve the HTTP API, with scheduler and workers, until SIGTERM or Ctrl-C.", _START),
        ("why", "why", "why", "Where a file came from, back to the first commits.", _START),
        ("put", "transfer", "put", "Put files or folders into a repo, as one commit.", _FILES),
        ("get", "transfer", "get", "Get a file or folder out of a repo.", _FILES),
        ("ls", "reading", "ls", "List files.", _FILES),
        ("cat", "reading", "cat", "Print the bytes of files.", _FILES),
        ("glob", "reading", "glob", "List the files and directories that match a pattern.", _FILES),
        ("rm", "editing", "rm", "Remove a file or directory.", _FILES),
        ("cp", "editing", "cp", "Copy files inside Paddock, by reference.", _FILES),
        ("diff", "history", "diff", "Files that differ between two commits.", _FILES),
        ("log", "history", "log", "Commits of a repo or branch, newest first.", _FILES),
        ("find", "history", "find", "Commits that changed a path.", _FILES),
        ("project", "project", "app", "Namespaces of repos and pipelines.", _OBJECTS),
        ("repo", "repo", "app", "Versioned file systems.", _OBJECTS),
        ("branch", "branch", "app", "Movable names for commits.", _OBJECTS),
        ("tag", "tag", "app", "Names for commits that never move.", _OBJECTS),
        ("commit", "commit", "app", "Immutable trees of files, and commit sets.", _OBJECTS),
        ("pipeline", "pipeline", "app", "Commands that run on data as it changes.", _OBJECTS),
        ("job", "job", "app", "Runs of a pipeline.", _OBJECTS),
        ("datum", "datum", "app", "The single units of work of a job.", _OBJECTS),
        ("cache", "cache", "app", "Kept results, which unchanged datums need not be computed for.", _MORE),
        ("init", "init", "init", "Make a home, and choose where its data is kept.", _MORE),
        (
            "migrate",
            "migrate",
            "migrate",
            "Move a home from a folder to a PostgreSQL database and an object store.",
            _MORE,
        ),
        ("worker", "worker", "worker", "Run datums for a server on another machine.", _MORE),
        ("pool", "pool", "app", "Workers on other machines: who is there, and who may join.", _MORE),
        ("du", "du", "du", "What repos, branches and commits cost on disk, alone and shared with others.", _MORE),
        (
            "gc",
            "gc",
            "gc",
            "Remove stored bytes that nothing refers to any more; safe while others put and compute.",
            _MORE,
        ),
        (
            "fsck",
            "fsck",
            "fsck",
            "Check that everything stored can be read; name the files that damage hits, and repair it.",
            _MORE,
        ),
        ("upgrade", "upgrade", "upgrade", "Bring a home that an older Paddock wrote up to date.", _MORE),
        ("config", "config", "config", "Show each setting, its value, and where that comes from.", _MORE),
        ("version", "version", "version", "Print the version of Paddock and of Python.", _MORE),
        ("completion", "completion", "completion", "Print the completion script of a shell.", _MORE),
    )
}


class RootGroup(LazyGroup):
    table = COMMANDS

    def invoke(self, ctx: Any) -> Any:
        """Typer turns Ctrl-C and a closed pipe into exit codes of its own; here they get ours."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            output.note(f"\n{session_of(ctx).interrupted}")
            raise typer.Exit(EXIT_TERMINATED if interrupt.args else EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(EXIT_BROKEN_PIPE) from None


app = typer.Typer(
    cls=RootGroup,
    name="paddock",
    help="Versioned data, and pipelines that compute only what changed.",
    epilog="`paddock COMMAND --help` says more. Global options may also follow the command.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from paddock.cli.commands.version import version

        version()
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            metavar="DIR",
            help="The home to work on. Default: PADDOCK_HOME, else the nearest .paddock/, else ~/.paddock.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The server to work with. Default: PADDOCK_URL, else none."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="NAME", help="Project of names that give none. Default: PADDOCK_PROJECT."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="The same as `paddock version`.")
    ] = False,
) -> None:
    session = session_of(context)
    session.settings = load_settings(os.environ)
    session.home = home
    session.url = url
    session.project = session.settings.project if project is None else check_name("project", project)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every failure is a message on standard error, never a traceback."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(GC_OBJECTS)
    session = Session()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with _terminable():
            code = _run(hoist_global_options(given), session)
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        code = EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        output.note(session.interrupted)
        code = EXIT_INTERRUPTED
    return code


def _run(arguments: list[str], session: Session) -> int:
    try:
        command = without_needless_coercion(typer.main.get_command(app))
        result = command.main(args=arguments, prog_name="paddock", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else 0
    except PaddockError as error:
        return _report(error, session)
    except TyperException as error:
        show = getattr(error, "show", None)
        if show is None:
            output.note(f"Error: {error.format_message()}")
        else:
            show()
        return error.exit_code
    except typer.Abort:
        output.note(session.interrupted)
        return EXIT_INTERRUPTED
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001  (the outermost edge: whatever is left is our bug)
        if _debugging(session):
            traceback.print_exception(error)
        name = type(error).__name__
        return _report(
            Bug(f"Paddock failed unexpectedly ({name}: {error}); set {DEBUG_VARIABLE}=1 for the details"), session
        )
    finally:
        session.close()


def _debugging(session: Session) -> bool:
    """Also asked when the settings could not be read."""
    return session.settings.debug or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _report(error: PaddockError, session: Session) -> int:
    output.note(f"error: {error}")
    if _debugging(session) and error.__traceback__ is not None:
        traceback.print_exception(error)
    return error.exit_code


def hoist_global_options(arguments: Sequence[str]) -> list[str]:
    """Move global options that follow the command to the front; words after `--` belong to the user's command."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in GLOBAL_OPTIONS:
            front += [word, *(value for value in [next(words, None)] if value is not None)]
        elif word.startswith(tuple(f"{option}=" for option in GLOBAL_OPTIONS)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: in order, with one line, with its own exit code."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_output() -> None:
    """Nobody reads any more: what is still buffered must not fail again when the interpreter ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
