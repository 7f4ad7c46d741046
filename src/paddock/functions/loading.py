"""Find a function by `module:name`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from paddock.model.errors import InvalidInput, NotFound


def load_function(text: str) -> Callable[..., Any]:
    """Import the module and take the function (the plain one where it is decorated as a pipeline).

    InvalidInput: the text does not parse, or names no function. NotFound: there is no such module or name.
    """
    module_name, colon, path = text.partition(":")
    if not colon or not module_name or not path:
        raise InvalidInput(f"{text!r} does not name a function; write MODULE:FUNCTION, as in resize:thumbnail")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise NotFound(f"module {module_name} is not found; call this from the folder that holds it") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise NotFound(f"module {module_name} has no {path!r}; check the name after the colon")
        found = getattr(found, part)
    function = getattr(found, "function", found)
    if not callable(function):
        raise InvalidInput(f"{text} is no function but {type(found).__name__}; name a function")
    return function  # type: ignore[no-any-return]
