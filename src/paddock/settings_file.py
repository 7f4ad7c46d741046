"""Settings from files and the environment together: which files there are, what wins, and where each value comes from.

A file is TOML, one key a setting, named like its variable without `PADDOCK_` in small letters. The environment wins
over the user's file, that over the machine's, setting by setting; but where the data is (`PLACES`) is taken whole from
the first of them that says it, so that a variable can't be mixed up with the server or database of a file.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.model.errors import InvalidInput
from paddock.settings import SETTINGS, Settings

CONFIG_VARIABLE = "PADDOCK_CONFIG"
"""A file to read in place of the user's and the machine's; it has to be there. `/dev/null` is none."""
SYSTEM_FILE = Path("/etc/paddock/config.toml")
ENVIRONMENT = "environment"

PLACES = ("home", "url", "catalog")
"""Each of these says by itself where the data is."""
PLACE_FIELDS = (*PLACES, "storage")

_VARIABLES = {setting.field: setting.variable for setting in SETTINGS}
_KINDS = {field.name: str(field.type) for field in dataclasses.fields(Settings)}


@dataclass(frozen=True, slots=True)
class SettingValue:
    """What one setting was set to."""

    text: str
    """As a variable would have it."""
    origin: str
    """`environment`, or the path of a file."""


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read the files and the environment. InvalidInput names the variable, or the file, its line and its key.

    Costs two looks for a file where there is none.
    """
    merged = {_VARIABLES[field]: value.text for field, value in find_values(environment).items()}
    return Settings.from_environment(merged)


def find_values(environment: Mapping[str, str]) -> dict[str, SettingValue]:
    """`{field: value}` of the settings that are set anywhere. Those of files are checked; see `load_settings`."""
    sources = [
        {
            setting.field: SettingValue(environment[setting.variable], ENVIRONMENT)
            for setting in SETTINGS
            if environment.get(setting.variable)
        }
    ]
    sources += [_read(path) for path in config_files(environment)]
    found: dict[str, SettingValue] = {}
    for values in sources:
        placed = any(field in found for field in PLACES)
        for field, value in values.items():
            if not (placed and field in PLACE_FIELDS):
                found.setdefault(field, value)
    return found


def config_files(environment: Mapping[str, str]) -> list[Path]:
    """The files that are there, the one that wins first. InvalidInput where PADDOCK_CONFIG names none."""
    named = environment.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.exists():
            raise InvalidInput(f"{CONFIG_VARIABLE} names {named}, which is not there; name a file, or unset it")
        return [path]
    return [path for path in searched_files(environment) if path.is_file()]


def searched_files(environment: Mapping[str, str]) -> list[Path]:
    """Where files are looked for unless PADDOCK_CONFIG names one: the user's, then the machine's."""
    folder = environment.get("XDG_CONFIG_HOME", "")
    home = environment.get("HOME", "")
    if not os.path.isabs(folder):  # the XDG specification: what is not absolute is to be ignored
        folder = f"{home}/.config" if home else ""
    user = [Path(folder) / "paddock" / "config.toml"] if folder else []
    return [*user, SYSTEM_FILE]


def _read(path: Path) -> dict[str, SettingValue]:
    # Most who run a command have no file, and pay for no parser.
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"settings file {path} can't be read: {error.strerror}; mend that, or move it") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"settings file {path} is not UTF-8; write it anew as TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"settings file {path} is not TOML: {error}; strings stand in quotes") from None
    found = {}
    for key, value in document.items():
        place = f"{path}{_line(text, key)}"
        found[key] = SettingValue(_checked(place, key, value), str(path))
    return found


def _line(text: str, key: str) -> str:
    """`, line 3`: the first line that sets a key; nothing where it is written in a way that is not looked for."""
    match = re.search(rf"""^\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""", text, re.MULTILINE)
    return "" if match is None else f", line {text.count(chr(10), 0, match.end()) + 1}"


def _checked(place: str, key: str, value: object) -> str:
    """A value as the variable would have it, if the variable could."""
    variable = _VARIABLES.get(key)
    if variable is None:
        raise InvalidInput(f"{place}: {_unknown(key)}")
    text = _text(place, key, value)
    if key == "home" and not Path(text).expanduser().is_absolute():
        raise InvalidInput(f"{place}: home is {text!r}, which depends on the current folder; write a whole path")
    try:
        Settings.from_environment({variable: text})
    except InvalidInput as error:
        said = error.message.replace(variable, key).replace("or unset it", "or take the line out")
        raise InvalidInput(f"{place}: {said}") from None
    return text


def _text(place: str, key: str, value: Any) -> str:
    kind = _KINDS[key]
    match value:
        case bool():
            if kind == "bool":
                return "1" if value else "0"
        case str() if value:
            return value
        case int() | float() if kind != "bool":
            return str(value)
        case list() if kind.startswith("tuple") and all(isinstance(item, str | int) for item in value):
            nothing = "none" if kind.endswith("None") else ""
            return ",".join(str(item) for item in value) or nothing
    meant = {"bool": "true or false", "int | None": "a number", "float": "a number"}.get(kind, "a string in quotes")
    raise InvalidInput(f"{place}: {key} is {value!r}; set it to {meant}, or take the line out")


def _unknown(key: str) -> str:
    import difflib

    plain = key.lower().removeprefix("paddock_")
    near = [plain] if plain in _VARIABLES else difflib.get_close_matches(plain, _VARIABLES, n=2)
    next_step = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(_VARIABLES)}"
    return f"{key!r} is no setting; {next_step}"
