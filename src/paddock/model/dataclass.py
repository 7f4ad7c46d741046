"""`dataclass(slots=True)`, frozen or not, that writes a class's methods when they are first called.

The standard one compiles six functions a class, 1 ms of them, and a command has a hundred such classes, most of which it never makes an object
of: half of the time of a small command. To a type checker this is the standard one, and objects behave as its do.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, slots: bool, frozen: bool = False, eq: bool = True):
        """Only what is asked for most; for all else take the standard one."""
        assert slots, "take the standard dataclass"
        methods = {**(_FROZEN_METHODS if frozen else _METHODS), **(_VALUE_METHODS if eq else {})}
        if eq and not frozen:
            methods["__hash__"] = None
        return partial(_made, methods=methods, frozen=frozen)


def _made(cls: type[Any], *, methods: dict[str, Any], frozen: bool) -> type[Any]:
    own = set(cls.__dict__)
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else the standard one makes a text of its signature
    made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    made.__init__ = _first_init(made, frozen=frozen)
    return made


def _first_init(cls: type[Any], *, frozen: bool) -> Any:
    """An `__init__` that puts the real one in its place when it is called."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        init = _compiled_init(cls, frozen=frozen)
        if cls.__init__ is __init__:
            cls.__init__ = init
        init(self, *values, **named)

    return __init__


def _compiled_init(cls: type[Any], *, frozen: bool) -> Any:
    scope: dict[str, Any] = {"_set": object.__setattr__, "_factory": dataclasses.MISSING}
    parameters, lines = ["self"], []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        value = field.name
        if field.default is not dataclasses.MISSING:
            scope[f"_default_{field.name}"] = field.default
            parameters.append(f"{field.name}=_default_{field.name}")
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_make_{field.name}"] = field.default_factory
            parameters.append(f"{field.name}=_factory")
            value = f"_make_{field.name}() if {field.name} is _factory else {field.name}"
        else:
            parameters.append(field.name)
        lines.append(f"_set(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines or ["pass"]), scope)  # noqa: S102  (our own field names)
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


# ---- methods of all such classes ---------------------------------------------------------------------------------


def _compared(self: Any) -> Any:
    """The values that make two objects equal."""
    cls = type(self)
    found = _GETTERS.get(cls)
    if found is None:
        names = [field.name for field in dataclasses.fields(cls) if field.compare]
        found = _GETTERS[cls] = attrgetter(*names) if names else _nothing
    return found(self)


_GETTERS: dict[type[Any], Any] = {}


def _nothing(self: Any) -> tuple[()]:
    return ()


def _eq(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _setattr(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_METHODS: dict[str, Any] = {"__repr__": _repr}
_FROZEN_METHODS = {
    **_METHODS,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
_VALUE_METHODS = {"__eq__": _eq, "__hash__": _hash}
