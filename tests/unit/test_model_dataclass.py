"""Our frozen data classes are the standard ones to whoever uses them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass as standard
from dataclasses import field
from typing import Any

import pytest

from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="s", repr=False)

    @property
    def sum(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Checked:
    text: str
    length: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.text))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    name: str


@standard(frozen=True, slots=True)
class Standard:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="s", repr=False)


def test_objects_are_made_shown_compared_and_hashed_as_standard_ones() -> None:
    ours, theirs = Point(1, tags=["a"]), Standard(1, tags=["a"])

    assert repr(ours) == repr(theirs).replace("Standard", "Point")
    assert hash(ours) == hash(theirs)
    assert ours == Point(1, tags=["b"]) != Point(2)
    assert ours != theirs
    assert Point(1).tags is not Point(1).tags
    assert ours.sum == 3
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert dataclasses.replace(ours, y=5) == Point(1, 5)
    assert [each.name for each in dataclasses.fields(Point)] == [each.name for each in dataclasses.fields(Standard)]
    match ours:
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert not hasattr(ours, "__dict__")


def test_post_init_runs_and_own_methods_stay() -> None:
    made = Checked("four")

    assert made.length == 4
    assert str(made) == "four"
    assert repr(made) == "Checked(text='four', length=4)"


def test_objects_without_values_are_equal_to_themselves_only() -> None:
    assert Named("a") != Named("a")
    assert len({Named("a"), Named("a")}) == 2


@pytest.mark.parametrize("copied", [lambda made: pickle.loads(pickle.dumps(made)), copy.copy, copy.deepcopy])
def test_objects_are_copied_and_pickled(copied: Any) -> None:
    assert copied(Point(3)) == Point(3)


@dataclass(slots=True)
class Open:
    x: int
    tags: list[str] = field(default_factory=list)


def test_objects_that_are_not_frozen_change_and_have_no_hash() -> None:
    made = Open(1)
    made.x = 2
    made.tags.append("a")

    assert made == Open(2, ["a"]) != Open(1, ["a"])
    assert Open(1).tags == []
    assert repr(made) == "Open(x=2, tags=['a'])"
    assert copy.copy(made) == pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(TypeError, match="unhashable"):
        hash(made)
    with pytest.raises(AttributeError):
        made.y = 3  # type: ignore[attr-defined]


def test_objects_do_not_change() -> None:
    made = Point(1)

    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.x


@pytest.mark.parametrize("arguments", [(), (1, 2, [], "", 5)])
def test_wrong_arguments_are_type_errors(arguments: tuple[Any, ...]) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="__init__"):
            Checked(*arguments, "more") if arguments else Checked()  # type: ignore[call-arg]
