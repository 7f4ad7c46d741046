"""A matcher for globs whose cost is bounded for every pattern: steps x (length + 1).

Regular expressions that backtrack can take for ever on patterns such as `*(*(a))b`; those run here instead.
It explores the same choices in the same order, so it finds the same match and captures, but never tries a
step twice at one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import assert_never

from paddock.model.dataclass import dataclass
from paddock.model.glob_syntax import Group, Node, Nodes, One, Run, Text


@dataclass(frozen=True, slots=True)
class _Take:
    """Go on to `then` past one character that passes the test."""

    test: Callable[[str], bool]
    then: int


@dataclass(frozen=True, slots=True)
class _Fork:
    """Try `first`, and where that comes to nothing, `second`."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class _Mark:
    """Note the position in a capture's slot."""

    slot: int
    then: int


@dataclass(frozen=True, slots=True)
class _Unless:
    """Go on to `then` only where a match from `refused` to the end is impossible."""

    refused: int
    then: int


_Step = _Take | _Fork | _Mark | _Unless | None  # None accepts, at the end of the text
_ACCEPT = 0


class Machine:
    """A compiled pattern. Immutable after construction; safe to share between threads."""

    def __init__(self, nodes: Nodes, groups: int) -> None:
        self._steps: list[_Step] = [None]
        self._slots = 2 * groups
        self._start = self._sequence(nodes, _ACCEPT, _ACCEPT)

    def match(self, text: str) -> tuple[str, ...] | None:
        """The captures ('' for a group that took no part) where the whole text matches, else None."""
        marks = self._run(self._start, text, 0, {})
        if marks is None:
            return None
        return tuple(
            text[marks[slot] : marks[slot + 1]] if marks[slot + 1] >= 0 else "" for slot in range(0, self._slots, 2)
        )

    def _run(
        self, start: int, text: str, position: int, refusals: dict[tuple[int, int], bool]
    ) -> tuple[int, ...] | None:
        seen: set[tuple[int, int]] = set()
        stack = [(start, position, (-1,) * self._slots)]
        while stack:
            index, position, marks = stack.pop()
            if (index, position) in seen:
                continue
            seen.add((index, position))
            match self._steps[index]:
                case None:
                    if position == len(text):
                        return marks
                case _Take(test, then):
                    if position < len(text) and test(text[position]):
                        stack.append((then, position + 1, marks))
                case _Fork(first, second):
                    stack += ((second, position, marks), (first, position, marks))
                case _Mark(slot, then):
                    stack.append((then, position, (*marks[:slot], position, *marks[slot + 1 :])))
                case _Unless(refused, then):
                    place = (refused, position)
                    if place not in refusals:
                        refusals[place] = self._run(refused, text, position, refusals) is not None
                    if not refusals[place]:
                        stack.append((then, position, marks))
        return None

    def _add(self, step: _Step) -> int:
        self._steps.append(step)
        return len(self._steps) - 1

    def _sequence(self, nodes: Nodes, then: int, rest: int) -> int:
        """The first step of `nodes`, going on to `then`. rest: where `!()` looks for what follows it; the
        same as `then` but in a repetition, whose further rounds don't count."""
        for node in reversed(nodes):
            before = self._node(node, then, rest)
            rest = before if rest == then else self._node(node, rest, rest)
            then = before
        return then

    def _node(self, node: Node, then: int, rest: int) -> int:
        match node:
            case Text(text):
                for char in reversed(text):
                    then = self._add(_Take(char.__eq__, then))
                return then
            case One(regex):
                return self._add(_Take(_test(regex), then))
            case Run(slash):
                return self._run_of(_test("[\\s\\S]" if slash else "[^/]"), then)
            case Group(kind, number, options):
                if number is None:
                    return self._either(options, then, rest)
                slot = 2 * (number - 1)
                end = self._add(_Mark(slot + 1, then))
                return self._add(_Mark(slot, self._group(kind, options, end, end if rest == then else rest)))
            case _:
                assert_never(node)

    def _run_of(self, test: Callable[[str], bool], then: int) -> int:
        loop = self._add(None)
        self._steps[loop] = _Fork(self._add(_Take(test, loop)), then)
        return loop

    def _group(self, kind: str, options: tuple[Nodes, ...], then: int, rest: int) -> int:
        if kind == "?":
            return self._add(_Fork(self._either(options, then, rest), then))
        if kind == "!":
            return self._add(_Unless(self._either(options, rest, rest), self._run_of(_test("[^/]"), then)))
        if kind in "*+":
            loop = self._add(None)
            body = self._either(options, loop, rest)
            self._steps[loop] = _Fork(body, then)
            return loop if kind == "*" else body
        return self._either(options, then, rest)

    def _either(self, options: tuple[Nodes, ...], then: int, rest: int) -> int:
        *others, entry = [self._sequence(option, then, rest) for option in options]
        for other in reversed(others):
            entry = self._add(_Fork(other, entry))
        return entry


@cache
def _test(regex: str) -> Callable[[str], bool]:
    pattern = re.compile(regex)

    @cache
    def test(char: str) -> bool:
        return pattern.fullmatch(char) is not None

    return test
