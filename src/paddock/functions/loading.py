"""Find functions: one by `module:name`, or all pipelines of a file."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from paddock.functions.pipeline import PipelineFunction
from paddock.model.errors import InvalidInput, NotFound, PaddockError


def load_function(text: str) -> Callable[..., Any]:
    """Import the module and take the function (the plain one where it is decorated as a pipeline).

    InvalidInput: the text does not parse, or names no function. NotFound: there is no such module or name.
    """
    module_name, colon, path = text.partition(":")
    if not colon or not module_name or not path:
        raise InvalidInput(f"{text!r} does not name a function; write MODULE:FUNCTION, as in resize:thumbnail")
    try:
        found: Any = _imported(module_name)
    except ModuleNotFoundError:
        raise NotFound(f"module {module_name} is not found; call this from the folder that holds it") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise NotFound(f"module {module_name} has no {path!r}; check the name after the colon")
        found = getattr(found, part)
    function = getattr(found, "function", found)
    if not callable(function):
        raise InvalidInput(f"{text} is no function but {type(found).__name__}; name a function")
    return function  # type: ignore[no-any-return]


def load_local_function(text: str, folder: Path) -> Callable[..., Any]:
    """`load_function` with `folder` as the first place for modules. It stays there: functions import late."""
    _search(folder)
    return load_function(text)


def load_pipelines(file: Path) -> list[PipelineFunction[..., Any]]:
    """Import a file as a module, and take the pipelines that it defines, in order.

    InvalidInput: it cannot be imported, or defines none. NotFound: it is not there.
    """
    if not file.is_file():
        raise NotFound(f"{file} does not exist; name a Python file with functions decorated by @paddock.pipeline")
    if not file.stem.isidentifier():
        raise InvalidInput(f"{file} can't be imported: the name of a module is letters, digits and '_'; rename it")
    _search(file.resolve().parent)
    module = _imported(file.stem)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file.resolve():
        raise InvalidInput(f"{file} can't be imported: another module is called {file.stem}; rename it")
    pipelines = [
        value
        for value in vars(module).values()
        if isinstance(value, PipelineFunction) and value.function.__module__ == file.stem
    ]
    if not pipelines:
        raise InvalidInput(f"{file} defines no pipeline; decorate a function with @paddock.pipeline(input=…)")
    return pipelines


def _imported(name: str) -> ModuleType:
    """Import a user's module. ModuleNotFoundError: there is none of that name. InvalidInput: it raised something; the place is named."""
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise InvalidInput(f"{error.filename or name}, line {error.lineno}: {error.msg}") from None
    except PaddockError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        raise InvalidInput(f"module {name} can't be imported: {type(error).__name__}: {error} ({place})") from error


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
