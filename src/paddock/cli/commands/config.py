"""`paddock config`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import typer

from paddock.cli import output
from paddock.cli.options import Json
from paddock.cli.session import Session, session_of
from paddock.model.dataclass import dataclass
from paddock.settings import SETTINGS
from paddock.settings_file import CONFIG_VARIABLE, PLACES, config_files, find_values, searched_files

_MASK = "***"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """setting: its key in a file. value: None where its default holds. source: `option`, `environment`, a file's
    path, or `default`.
    """

    setting: str
    variable: str
    value: str | None
    default: str
    source: str


def config(context: typer.Context, json: Json = False) -> None:
    """Show each setting, its value, and where that comes from."""
    files = config_files(os.environ)
    shown = list(_shown(session_of(context)))
    if json:
        output.document({"files": [str(path) for path in files], "settings": shown})
        return
    rows = ((item.setting, item.value or f"({item.default})", item.source) for item in shown)
    output.table(("setting", "value", "from"), rows, empty="")
    if not files:
        searched = " or ".join(str(path) for path in searched_files(os.environ))
        output.note(f"no settings file; one can stand at {searched}, or where {CONFIG_VARIABLE} says")


def _shown(session: Session) -> Iterator[ShownSetting]:
    project = session.project if session.project != session.settings.project else None
    options = {"home": session.home, "url": session.url, "project": project}
    given = {field: text for field, text in options.items() if text is not None}
    values = find_values(os.environ)
    # A home or server that is named on the command line is the place; what else says one is not looked at.
    if any(field in given for field in PLACES):
        values = {field: value for field, value in values.items() if field not in PLACES}
    for setting in SETTINGS:
        found = values.get(setting.field)
        text = given.get(setting.field, found.text if found is not None else None)
        source = "option" if setting.field in given else found.origin if found is not None else "default"
        shown = None if text is None else without_password(text)
        yield ShownSetting(setting.field, setting.variable, shown, setting.default, source)


def without_password(text: str) -> str:
    """A value fit for a screen or a log: the passwords of a URL, before its host or among its options, are masked."""
    masked = re.sub(r"(://[^:/?#@]*:).*@", rf"\1{_MASK}@", text)
    return re.sub(r"(?i)([?&\w]*password=)[^&\s]*", rf"\1{_MASK}", masked)
