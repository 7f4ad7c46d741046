"""`@paddock.pipeline`: a Python function as a pipeline (docs/how-to/python-functions.md, design note 022)."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from paddock.functions.code import CodeFolder, project_code
from paddock.functions.inputs import InputSpec, input_names
from paddock.functions.values import signature_of
from paddock.model.errors import InvalidInput
from paddock.model.records import AppliedPipeline
from paddock.model.services import Paddock

P = ParamSpec("P")
R = TypeVar("R")
RUNNER = "paddock.functions.runner"


class PipelineFunction(Generic[P, R]):
    """A function that is also a pipeline. Calling it calls the function, here and now."""

    def __init__(self, function: Callable[P, R], input: InputSpec, fields: dict[str, Any]) -> None:
        self.function = function
        self.input = input
        self._fields = fields
        functools.update_wrapper(self, function)
        check_parameters(function, input)

    def __call__(self, *values: P.args, **named: P.kwargs) -> R:
        return self.function(*values, **named)

    @property
    def spec(self) -> dict[str, Any]:
        """The spec of the pipeline, as `pipeline apply` takes it; its code is `code_folder()`."""
        module, _ = module_of(self.function)
        return {
            "pipeline": self._fields["pipeline"],
            "description": (inspect.getdoc(self.function) or "").partition("\n")[0],
            "transform": function_transform(f"{module}:{self.function.__qualname__}", self._fields["env"]),
            "input": self.input,
            **self._fields["options"],
        }

    def code_folder(self) -> CodeFolder:
        """A copy of the function's code, with its environment lock. InvalidInput: it is not in a file."""
        return CodeFolder(project_code(*module_of(self.function)))

    def apply(self, paddock: Paddock, *, reprocess: bool = False) -> AppliedPipeline:
        """Create or update the pipeline. Unchanged where function, code, environment and spec are."""
        code = self.code_folder()
        return paddock.pipelines.apply(self.spec, code=code.path, reprocess=reprocess)


def pipeline(
    *,
    input: InputSpec,
    name: str | None = None,
    project: str | None = None,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], PipelineFunction[P, R]]:
    """Make a function a pipeline over `input` (see `glob`, `cross`, `union`, `join`, `group`).

    name: of the pipeline; the function's, with `-` for `_`, if None. project: the caller's if None. options: other fields at the top of a spec, such as
    `datum_tries` or `parallelism_spec`. The function stays callable as it was.
    """

    def decorate(function: Callable[P, R]) -> PipelineFunction[P, R]:
        chosen = name or function.__name__.replace("_", "-")
        reference = {"name": chosen} if project is None else {"name": chosen, "project": project}
        return PipelineFunction(function, input, {"pipeline": reference, "env": env or {}, "options": options})

    return decorate


def function_transform(target: str, env: dict[str, str]) -> dict[str, Any]:
    """The `transform` of a spec that runs the function `module:name` of its code."""
    return {"cmd": ["{python}", "-m", RUNNER, target], "env": env, "placeholders": True, "warm": True}


def check_parameters(function: Callable[..., Any], input: InputSpec) -> None:
    """InvalidInput where parameters and inputs do not fit: a single one of each always does."""
    kinds, names = signature_of(function).kinds, input_names(input)
    unknown = [parameter for parameter in kinds if parameter not in names]
    if unknown and not len(kinds) == len(names) == 1:
        raise InvalidInput(
            f"function {function.__qualname__}: parameter {unknown[0]!r} is no input; the inputs are {', '.join(names)}"
        )


def module_of(function: Callable[..., Any]) -> tuple[str, Path]:
    """The module's name, as a worker can import it, and its file. InvalidInput: the function is not in a file."""
    if "<locals>" in function.__qualname__:
        raise InvalidInput(f"function {function.__qualname__} is defined in another function; move it to its module")
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    if file is None:
        raise InvalidInput(
            f"function {function.__qualname__} is not in a file, so workers can't import it; save it as a module"
        )
    path = Path(file)
    return (path.stem if function.__module__ == "__main__" else function.__module__), path
