"""`paddock map --function`: a function as what runs on each match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddock.functions.code import CodeFolder, project_code
from paddock.functions.inputs import glob
from paddock.functions.loading import load_local_function
from paddock.functions.pipeline import check_parameters, function_transform, module_of
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class MappedFunction:
    transform: dict[str, Any]
    code: CodeFolder


def mapped_function(text: str, command: Sequence[str], code: Path | None, *, input_name: str) -> MappedFunction:
    """Find `module:function` from the present directory. InvalidInput where that, or what else is given, does not fit."""
    if command or code is not None:
        raise InvalidInput(f"function {text} brings its own code; leave out the command and --code")
    function = load_local_function(text, Path.cwd())
    check_parameters(function, glob(input_name))
    module, file = module_of(function)
    transform = function_transform(f"{module}:{function.__qualname__}", {})
    return MappedFunction(transform, CodeFolder(project_code(module, file)))
