"""The code of a function: its module, and what that imports from the same project folder, found without running it."""

from __future__ import annotations

import ast
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paddock.functions.environment import LOCK_FILE, environment_lock
from paddock.model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ProjectCode:
    """files: modules of the project below `root`. imported: top-level names of everything else that they import."""

    root: Path
    files: tuple[Path, ...]
    imported: frozenset[str]


class CodeFolder:
    """A temporary folder with a function's code and its environment lock; removed with this object."""

    def __init__(self, code: ProjectCode) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="paddock-code-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, True)
        for file in code.files:
            target = self.path / file.relative_to(code.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        (self.path / LOCK_FILE).write_text(environment_lock(code.imported), encoding="utf-8")


def project_code(module: str, file: Path) -> ProjectCode:
    """The code that `module`, which lies in `file`, consists of. Imports inside functions count too.

    InvalidInput: a file of the project does not parse.
    """
    file = file.resolve()
    levels = module.count(".") + (file.name == "__init__.py")
    root = file.parents[levels]
    found: dict[Path, None] = {}
    imported: set[str] = set()
    waiting = [file, *_packages(root, module)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in _imports(path, root):
            files = list(_files_of(root, name))
            waiting += files
            if not files:
                imported.add(name.partition(".")[0])
    return ProjectCode(root, tuple(sorted(found)), frozenset(imported - sys.stdlib_module_names))


def _packages(root: Path, module: str) -> Iterator[Path]:
    parts = module.split(".")
    for count in range(1, len(parts)):
        init = root.joinpath(*parts[:count], "__init__.py")
        if init.is_file():
            yield init


def _files_of(root: Path, module: str) -> Iterator[Path]:
    """The files of the project that importing `module` runs; none if it is not of the project."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file.resolve()


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Absolute names of what a file imports. `from a import b` gives `a.b`, as b may be a module."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise InvalidInput(f"{path}, line {error.lineno}: {error.msg}") from None
    package = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for each in node.names:
                yield f"{base}.{each.name}" if base else each.name
