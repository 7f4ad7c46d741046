r"""The syntax of globs: text to a small tree. Nothing is matched here.

    *  a run of characters but '/'      **  anything, '/' too        ?  one character but '/'
    [abc] [a-z] [!a] [^a] [[:digit:]]   one character of a class (a class never matches '/')
    {a,b}   one of some patterns        \x  the character x itself
    (a|b)  @(a|b)   one of              ?(a|b)  none or one of
    *(a|b)  any number of               +(a|b)  one or more of        !(a|b)  a run but '/' that is none of

Every parenthesised group captures, extglob groups as well, numbered by their opening parenthesis from 1;
braces do not capture. A run of stars before '(' gives its last star to the group: `**(a)` is `*` and then
`*(a)`. ',' and '|' are separators only directly inside the group that they belong to; elsewhere they are
plain characters. `!(a)` refuses what would let the whole pattern match with `a` in its place: `/!(a).txt`
matches all but `/a.txt`.
"""

from __future__ import annotations

import re
from typing import Literal, NoReturn

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput

PATTERN_LENGTH_MAX = 4096
GROUP_DEPTH_MAX = 8
"""Nested groups beyond this make no sensible glob, and matching cost grows with the depth."""

Kind = Literal["{", "@", "?", "*", "+", "!"]
"""How a group repeats; `{` and `@` match exactly one option. `{` is the one that does not capture."""

_POSIX = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "ascii": r"\x00-\x7f",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_POSIX_ITEM = re.compile(r"\[:(\^?)(\w*):\]")


@dataclass(frozen=True, slots=True)
class Text:
    """Literal characters, escapes already resolved."""

    text: str


@dataclass(frozen=True, slots=True)
class One:
    """One character of a set, as a regular expression that matches exactly one character and never '/'."""

    regex: str


@dataclass(frozen=True, slots=True)
class Run:
    """Any number of characters; `slash`: '/' too (`**`)."""

    slash: bool


@dataclass(frozen=True, slots=True)
class Group:
    kind: Kind
    number: int | None
    """Number of the capture, from 1; None for braces."""
    options: tuple[tuple[Node, ...], ...]


Node = Text | One | Run | Group
Nodes = tuple[Node, ...]

ANY_CHARACTER = One("[^/]")


def clean_pattern(pattern: str) -> str:
    """The canonical text of a pattern: one leading '/', no trailing or doubled '/', no '.' parts."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise InvalidInput(
            f"glob {pattern[:40]!r}… has {len(pattern)} characters; at most {PATTERN_LENGTH_MAX} are allowed"
        )
    if "\0" in pattern:
        raise InvalidInput(f"glob {pattern!r} contains a NUL character; remove it")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(
            f"glob {pattern!r} contains '..'; paths have no such part, so write the pattern from the root"
        )
    return "/" + "/".join(parts)


def parse(pattern: str) -> Nodes:
    """Parse a cleaned pattern. InvalidInput names the character (from 1) that is wrong and what to write."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._groups = 0

    def parse(self) -> Nodes:
        nodes = self._sequence(closer="", separator="", depth=0)
        assert self._position == len(self._pattern)
        return nodes

    def _fail(self, position: int, problem: str) -> NoReturn:
        raise InvalidInput(f"glob {self._pattern!r}: at character {position + 1}, {problem}")

    def _at(self, offset: int = 0) -> str:
        return self._pattern[self._position + offset : self._position + offset + 1]

    def _sequence(self, *, closer: str, separator: str, depth: int) -> Nodes:
        """Nodes up to (not including) `closer` or `separator`, or to the end where there is no closer."""
        nodes: list[Node] = []
        while (char := self._at()) and char != separator and char != closer:
            node = self._node(char, depth)
            if isinstance(node, Text) and nodes and isinstance(nodes[-1], Text):
                node = Text(nodes.pop().text + node.text)  # type: ignore[union-attr]
            nodes.append(node)
        return tuple(nodes)

    def _node(self, char: str, depth: int) -> Node:
        if char in "?+@!*" and self._at(1) == "(":
            self._position += 1
            return self._group(char, depth)  # type: ignore[arg-type]
        if char == "(":
            return self._group("@", depth)
        if char == "{":
            return self._group("{", depth)
        if char in ")}":
            self._fail(self._position, f"{char!r} closes nothing; write '\\{char}' for the character")
        if char == "*":
            return self._stars()
        if char == "[":
            return self._character_class()
        self._position += 1
        if char == "?":
            return ANY_CHARACTER
        if char != "\\":
            return Text(char)
        escaped = self._at()
        if not escaped:
            self._fail(self._position - 1, "'\\' escapes nothing; write '\\\\' for a backslash or remove it")
        self._position += 1
        return Text(escaped)

    def _stars(self) -> Run:
        """One `*` or `**`; a third star is the next node, and a star just before '(' belongs to the group."""
        double = self._at(1) == "*" and self._at(2) != "("
        self._position += 2 if double else 1
        return Run(slash=double)

    def _group(self, kind: Kind, depth: int) -> Group:
        start = self._position
        closer, separator = ("}", ",") if kind == "{" else (")", "|")
        if depth == GROUP_DEPTH_MAX:
            self._fail(start, f"groups are nested more than {GROUP_DEPTH_MAX} deep; write a simpler pattern")
        number = None
        if kind != "{":
            self._groups += 1
            number = self._groups
        options: list[Nodes] = []
        while True:
            self._position += 1
            options.append(self._sequence(closer=closer, separator=separator, depth=depth + 1))
            if not self._at():
                opener = self._pattern[start]
                self._fail(
                    start,
                    f"{opener!r} is never closed; add {closer!r}, or write '\\{opener}' for the character",
                )
            if self._at() == closer:
                self._position += 1
                return Group(kind, number, tuple(options))

    def _character_class(self) -> One:
        start = self._position
        self._position += 1
        negated = self._at() in ("!", "^") and self._at() != ""
        self._position += negated
        plain: list[str] = []
        others: list[str] = []
        first = True
        while first or self._at() != "]":
            if first and self._at() == "]" and "]" not in self._pattern[self._position + 1 :]:
                self._fail(
                    start,
                    "the class is empty; put characters into it, or write '\\[' for the character",
                )
            if not self._at():
                self._fail(start, "'[' is never closed; add ']', or write '\\[' for the character")
            self._class_item(plain, others, negated=negated)
            first = False
        self._position += 1
        return One(_class_regex("".join(plain), others, negated=negated))

    def _class_item(self, plain: list[str], others: list[str], *, negated: bool) -> None:
        """Add one item (a POSIX class, a range, a character) to `plain`; what it must not be to `others`."""
        posix = _POSIX_ITEM.match(self._pattern, self._position)
        if posix:
            if posix[2] not in _POSIX:
                self._fail(self._position, f"{posix[2]!r} is no character class; use one of {', '.join(_POSIX)}")
            (others if posix[1] else plain).append(_POSIX[posix[2]])
            self._position = posix.end()
            return
        start = self._position
        low = self._class_character(negated=negated)
        if self._at() != "-" or self._at(1) in ("]", ""):
            plain.append(_quote(low))
            return
        self._position += 1
        high = self._class_character(negated=negated)
        if low > high:
            self._fail(start, f"the range {low}-{high} runs backwards; write {high}-{low}")
        plain.append(f"{_quote(low)}-{_quote(high)}")

    def _class_character(self, *, negated: bool) -> str:
        if self._at() == "\\" and self._at(1):
            self._position += 1
        char = self._at()
        if char == "/" and not negated:
            self._fail(self._position, "a class never matches '/'; remove it, or write {a,b} with whole patterns")
        self._position += 1
        return char


def _quote(char: str) -> str:
    return f"\\{char}" if char in "\\]^-[&~|#" else char


def _class_regex(plain: str, others: list[str], *, negated: bool) -> str:
    if negated and not others:
        return f"[^/{plain}]"
    options = ([f"[{plain}]"] if plain else []) + [f"[^{body}]" for body in others]
    union = f"(?:{'|'.join(options)})"
    return f"(?!{union})[^/]" if negated else f"(?!/){union}"
