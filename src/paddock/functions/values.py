"""What a function takes and returns: files as Python values, and back. Standard library only, until a kind needs more."""

from __future__ import annotations

import importlib
import inspect
import io
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paddock.model.errors import InvalidInput

OUT_PARAMETER = "out"
_KINDS: dict[tuple[str, str], str] = {
    ("builtins", "bytes"): "bytes",
    ("builtins", "str"): "text",
    ("pathlib", "Path"): "path",
    ("pathlib._local", "Path"): "path",
    ("pyarrow.lib", "Table"): "table",
    ("PIL.Image", "Image"): "image",
    ("numpy", "ndarray"): "array",
}
_TAKEN = "bytes, str, pathlib.Path, dict[str, bytes], pyarrow.Table, PIL.Image.Image or numpy.ndarray"


@dataclass(frozen=True, slots=True)
class Element:
    """An input of a datum. path: what the glob matched, in its repo. files: (path in the repo, its bytes or a file on disk)."""

    name: str
    path: str
    files: Sequence[tuple[str, bytes | Path]]
    place: Path | None
    """The match on disk, where it is there."""


@dataclass(frozen=True, slots=True)
class Signature:
    """How to call a function. kinds: {parameter: kind}, in order, without `out`."""

    kinds: Mapping[str, str]
    wants_out: bool

    @property
    def needs_disk(self) -> bool:
        """Whether a parameter is a path, so that the files have to lie on disk."""
        return self.wants_out or "path" in self.kinds.values()


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read the annotations. InvalidInput names a parameter that has none, or one that can't be filled."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        hints = typing.get_type_hints(function)
    except (NameError, AttributeError) as error:
        raise InvalidInput(f"function {name}: its annotations can't be read: {error}") from None
    kinds: dict[str, str] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == OUT_PARAMETER:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidInput(f"function {name}: parameter {parameter} takes any number of inputs; name each input")
        kind = _kind(hints.get(parameter.name))
        if kind is None and parameter.default is parameter.empty:
            raise InvalidInput(f"function {name}: annotate parameter {parameter.name!r} as {_TAKEN}")
        if kind is not None:
            kinds[parameter.name] = kind
    return Signature(kinds, OUT_PARAMETER in inspect.signature(function).parameters)


def _kind(hint: Any) -> str | None:
    if typing.get_origin(hint) is dict:
        return "files" if typing.get_args(hint) == (str, bytes) else None
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    if len(options) == 1 and typing.get_origin(hint) is not None:
        return _kind(options[0])
    return _KINDS.get((getattr(hint, "__module__", ""), getattr(hint, "__name__", "")))


def arguments(signature: Signature, elements: Sequence[Element]) -> dict[str, Any]:
    """Values by parameter. An input without a parameter is left out; a parameter without an input is None (a union)."""
    if len(signature.kinds) == 1:
        names = {element.name for element in elements}
        ((parameter, kind),) = signature.kinds.items()
        if parameter in names or len(names) == 1:
            chosen = [each for each in elements if each.name == parameter or len(names) == 1]
            return {parameter: _value(kind, chosen)}
    return {
        parameter: _value(kind, chosen) if (chosen := [each for each in elements if each.name == parameter]) else None
        for parameter, kind in signature.kinds.items()
    }


def _value(kind: str, elements: Sequence[Element]) -> Any:
    if kind == "path":
        place = elements[-1].place
        assert place is not None, "files lie on disk where a path is wanted"
        return place
    files = [file for element in elements for file in element.files]
    if kind == "files":
        return {path: _bytes(content) for path, content in files}
    if len(files) != 1:
        raise InvalidInput(
            f"{elements[0].name}:{elements[0].path} is {len(files)} files; take them as dict[str, bytes] or pathlib.Path"
        )
    path, content = files[0]
    return _READERS[kind](_bytes(content), path)


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _read_table(data: bytes, path: str) -> Any:
    suffix = PurePosixPath(path).suffix.lower()
    source = io.BytesIO(data)
    if suffix == ".parquet":
        return importlib.import_module("pyarrow.parquet").read_table(source)
    if suffix == ".csv":
        return importlib.import_module("pyarrow.csv").read_csv(source)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return importlib.import_module("pyarrow.json").read_json(source)
    if suffix in (".arrow", ".feather", ".ipc"):
        return importlib.import_module("pyarrow.feather").read_table(source)
    raise InvalidInput(f"{path} can't be read as a table; tables are .parquet, .csv, .jsonl or .arrow files")


def _read_image(data: bytes, path: str) -> Any:
    image = importlib.import_module("PIL.Image").open(io.BytesIO(data))
    image.load()
    return image


def _read_array(data: bytes, path: str) -> Any:
    if path.endswith(".npy"):
        return importlib.import_module("numpy").load(io.BytesIO(data), allow_pickle=False)
    return importlib.import_module("numpy").asarray(_read_image(data, path))


_READERS: Mapping[str, Callable[[bytes, str], Any]] = {
    "bytes": lambda data, path: data,
    "text": lambda data, path: data.decode("utf-8"),
    "table": _read_table,
    "image": _read_image,
    "array": _read_array,
}


def result_files(result: Any, path: str) -> list[tuple[str, bytes]]:
    """The files of what a function returned, by path in the output. path: of the first input, which names a single file.

    bytes and str keep that path; a table becomes .parquet, an image .png, an array .npy; a dict says its paths; None is nothing.
    """
    if result is None:
        return []
    if isinstance(result, Mapping):
        return [file for name, value in result.items() for file in _named(str(name), value)]
    return _named(path if path != "/" else "/result", result, rename=True)


def _named(name: str, value: Any, *, rename: bool = False) -> list[tuple[str, bytes]]:
    path = "/" + name.strip("/")
    if not {"", ".", ".."}.isdisjoint(path[1:].split("/")) or "\0" in path:
        raise InvalidInput(
            f"it returned a file for {name!r}; write for example /dir/name.txt, without '.', '..' or empty parts"
        )
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [(path, bytes(value))]
    if isinstance(value, str):
        return [(path, value.encode("utf-8"))]
    if isinstance(value, Path):
        return [(path, value.read_bytes())]
    suffix, data = _encoded(value)
    return [(str(PurePosixPath(path).with_suffix(suffix)) if rename else path, data)]


def _encoded(value: Any) -> tuple[str, bytes]:
    kind = _kind(type(value)) or next((found for base in type(value).__mro__ if (found := _kind(base))), None)
    target = io.BytesIO()
    if kind == "table":
        importlib.import_module("pyarrow.parquet").write_table(value, target)
        return ".parquet", target.getvalue()
    if kind == "image":
        value.save(target, "PNG")
        return ".png", target.getvalue()
    if kind == "array":
        importlib.import_module("numpy").save(target, value, allow_pickle=False)
        return ".npy", target.getvalue()
    raise InvalidInput(
        f"it returned {type(value).__name__}; return bytes, str, a pyarrow.Table, an image, an array, "
        "a dict of those by path, or None"
    )
