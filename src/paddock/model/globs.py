"""Globs over absolute paths, with captures: `compile_glob("/(*).png").match("/b.png").captures == ("b",)`.

The syntax is drawn in `paddock.model.glob_syntax`. A pattern matches whole paths, of files and of
directories; the pattern `/` matches the root alone, and no other pattern matches the root. Matching is a
regular expression where that is sure to be quick, else a machine of bounded cost, so no pattern and path
can hang a plan.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.glob_machine import Machine
from paddock.model.glob_syntax import Group, Node, Nodes, One, Run, Text, clean_pattern, parse

UNBOUNDED_MAX = 3
"""Runs that a regular expression may try against each other (n^3 steps for n characters); more: the
machine."""
REFUSALS_MAX = 3
"""Groups `!()` in a regular expression; each doubles its length, so more go to the machine."""
_TEMPLATE = re.compile(r"\$(?:(\$)|(\d+)|\{(\d+)\})?")


@dataclass(frozen=True, slots=True)
class Match:
    """A path that a glob matched. captures: one text per group, '' for a group that took no part."""

    path: str
    captures: tuple[str, ...]

    def expand(self, template: str) -> str:
        """`template` with `$1`, `${1}` (a capture), `$0` (the path) and `$$` (a dollar) replaced.

        InvalidInput as `compile_template`.
        """
        return compile_template(template, len(self.captures)).expand(self.path, self.captures)


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled glob. Immutable and safe to share between threads."""

    pattern: str
    """Canonical text, with a leading '/'."""
    literal: str
    """The text that every match starts with, as far as it is plain: `/images/x` for `/images/x*.png`."""
    prefix: str
    """The directory, ending in '/', below which every match lies: `/images/` for `/images/x*.png`, else
    `/`."""
    depth: int | None
    """How many parts every match has; None where that differs. 0 for `/`."""
    suffix: str
    """The text that every match ends in, as far as it is plain: `.png` for `/images/x*.png`; to discard by in bulk."""
    exact: str | None
    """The one path that can match, where there are no wildcards."""
    unfiltered: bool
    """Whether it matches every path below `prefix` that has `depth` parts (any number, where that is
    None)."""
    groups: int
    """How many captures a match has."""
    _regex: re.Pattern[str] | None = field(repr=False)
    _machine: Machine | None = field(repr=False)

    def match(self, path: str) -> Match | None:
        """The match of a canonical path (`/a/b`), or None. About 1 µs; some 100 µs where the machine runs."""
        captures = self._captures(path)
        return None if captures is None else Match(path, captures)

    def filter(self, paths: Sequence[str]) -> tuple[list[int], list[tuple[str, ...]]]:
        """Positions in `paths` that match, and the captures of each (an empty list for a glob without
        groups).

        The bulk form of `match`: 0.4 s for a million paths, 0.7 s with captures.
        """
        indexes: list[int] = []
        captures: list[tuple[str, ...]] = []
        if self._regex is None:
            for index, path in enumerate(paths):
                found = self._captures(path)
                if found is not None:
                    indexes.append(index)
                    captures.append(found)
            return indexes, captures if self.groups else []
        matcher = self._regex.fullmatch
        if not self.groups:
            return [index for index, path in enumerate(paths) if matcher(path) and path != "/"], []
        for index, path in enumerate(paths):
            match = matcher(path)
            if match and path != "/":
                indexes.append(index)
                captures.append(match.groups(""))
        return indexes, captures

    def _captures(self, path: str) -> tuple[str, ...] | None:
        if self.exact is not None:
            return () if path == self.exact else None
        if path == "/":
            return None
        if self._machine is not None:
            return self._machine.match(path)
        assert self._regex is not None
        match = self._regex.fullmatch(path)
        return None if match is None else match.groups("")


@lru_cache(maxsize=1024)
def compile_glob(pattern: str) -> Glob:
    """Compile a pattern; a missing leading '/' is added, a trailing one dropped. Cached.

    InvalidInput names the pattern, the character in it and what to write instead.
    """
    cleaned = clean_pattern(pattern)
    nodes = parse(cleaned)
    groups = _count_groups(nodes)
    literal = nodes[0].text if nodes and isinstance(nodes[0], Text) else "/"
    exact = literal if len(nodes) == 1 and isinstance(nodes[0], Text) else None
    regex = None if exact is not None or _is_risky(nodes) else _compile(nodes)
    return Glob(
        pattern=cleaned,
        literal=literal,
        prefix=literal[: literal.rindex("/") + 1],
        depth=0 if exact == "/" else _slashes(nodes),
        suffix=nodes[-1].text if nodes and isinstance(nodes[-1], Text) else "",
        exact=exact,
        unfiltered=_is_unfiltered(nodes),
        groups=groups,
        _regex=regex,
        _machine=Machine(nodes, groups) if exact is None and regex is None else None,
    )


@lru_cache(maxsize=1024)
def leading_group(pattern: str) -> tuple[int, str] | None:
    """The number of the capture that a pattern begins with after plain text, and that text: (1, '/x-') for `/x-(*).png`.

    So every match in which that capture is `c` starts with the text and `c`. None where no capture comes first. Cached.
    """
    nodes = parse(clean_pattern(pattern))
    if len(nodes) < 2 or not isinstance(nodes[0], Text) or not isinstance(nodes[1], Group) or nodes[1].number is None:
        return None
    return nodes[1].number, nodes[0].text


# ---- templates ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled replacement text. parts: literal text, or the number of a capture (0: the whole path)."""

    parts: tuple[str | int, ...]

    @property
    def only_group(self) -> int | None:
        """The number of the group where the template is just that, such as `$1`."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], int) else None

    def expand(self, path: str, captures: Sequence[str]) -> str:
        whole = (path, *captures)
        return "".join(whole[part] if isinstance(part, int) else part for part in self.parts)


@lru_cache(maxsize=1024)
def compile_template(text: str, groups: int) -> Template:
    """Compile a `join_on` or `group_by` text for a glob of so many groups. Cached.

    InvalidInput for a group that the glob does not have, and for a '$' that starts no reference.
    """
    parts: list[str | int] = []
    end = 0
    for found in _TEMPLATE.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        digits = found[2] or found[3]
        if found[1]:
            parts.append("$")
        elif digits is None:
            raise InvalidInput(
                f"{text!r}: at character {found.start() + 1}, '$' is followed by no group; write $1, ${{1}}, "
                "or $$ for a dollar"
            )
        elif int(digits) > groups:
            raise InvalidInput(f"{text!r} names group {int(digits)}, but {_group_advice(groups)}")
        else:
            parts.append(int(digits))
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part != ""))


def _group_advice(groups: int) -> str:
    if groups == 0:
        return "the glob captures nothing; put what it should name in parentheses, as in /(*).txt"
    names = "$1" if groups == 1 else f"$1 to ${groups}"
    plural = "s" if groups > 1 else ""
    return f"the glob has {groups} group{plural}; write {names}, or ${{1}}2 for group 1 before a digit"


# ---- what is known of a pattern without matching ----------------------------------------------------------


def _count_groups(nodes: Nodes, kinds: str = "@?*+!") -> int:
    total = 0
    for node in nodes:
        if isinstance(node, Group):
            total += (node.kind in kinds) + sum(_count_groups(option, kinds) for option in node.options)
    return total


def _slashes(nodes: Nodes) -> int | None:
    """How many '/' a match has, where that is fixed."""
    total = 0
    for node in nodes:
        count = _slashes_of(node)
        if count is None:
            return None
        total += count
    return total


def _slashes_of(node: Node) -> int | None:
    if isinstance(node, Text):
        return node.text.count("/")
    if isinstance(node, Run):
        return None if node.slash else 0
    if isinstance(node, One) or node.kind == "!":
        return 0
    counts = {_slashes(option) for option in node.options}
    if len(counts) > 1:
        return None
    (count,) = counts
    return count if node.kind in "{@" or count == 0 else None


def _is_unfiltered(nodes: Nodes) -> bool:
    """Whether it is `/literal/` and then parts that are just `*`, or one `**`; groups around them don't
    matter."""
    first, *rest = nodes or (Text("/"),)
    if not isinstance(first, Text) or not first.text.endswith("/") or not rest:
        return False
    plain = [_bare(node) for node in rest]
    if len(plain) == 1 and plain[0] == Run(slash=True):
        return True
    stars, slashes = plain[0::2], plain[1::2]
    return (
        len(stars) == len(slashes) + 1
        and all(node == Run(slash=False) for node in stars)
        and all(node == Text("/") for node in slashes)
    )


def _bare(node: Node) -> Node:
    while isinstance(node, Group) and node.kind in "{@" and len(node.options) == 1 and len(node.options[0]) == 1:
        node = node.options[0][0]
    return node


# ---- regular expressions -----------------------------------------------------------------------------------


def _compile(nodes: Nodes) -> re.Pattern[str]:
    text = _emit(nodes, "", capturing=True) if _has_groups(nodes) else _commit_runs(nodes)
    return re.compile(text, re.DOTALL)


def _has_groups(nodes: Nodes) -> bool:
    return any(isinstance(node, Group) for node in nodes)


def _is_risky(nodes: Nodes) -> bool:
    """Whether backtracking over the pattern could cost too much."""
    if not _has_groups(nodes):
        return sum(isinstance(node, Run) and node.slash for node in nodes) > UNBOUNDED_MAX
    return _unbounded(nodes) > UNBOUNDED_MAX or _count_groups(nodes, "!") > REFUSALS_MAX


def _unbounded(nodes: Nodes) -> int:
    """The largest number of unbounded runs that can stretch over the same characters."""
    crossing = within = most = 0
    for node in nodes:
        if isinstance(node, Text) and "/" in node.text:
            within = 0
        elif isinstance(node, Run):
            crossing, within = crossing + node.slash, within + (not node.slash)
        elif isinstance(node, Group):
            stays = _slashes_of(node) == 0
            within, crossing = (
                within + stays * _unbounded_in(node),
                crossing + (not stays) * _unbounded_in(node),
            )
        most = max(most, crossing + within)
    return most


def _unbounded_in(group: Group) -> int:
    inner = max(_unbounded(option) for option in group.options)
    if group.kind == "!":
        simple = inner <= 1 and not any(_has_groups(option) for option in group.options)
        return inner + 1 if simple else UNBOUNDED_MAX + 1
    if group.kind in "*+":
        return 1 if _steps_singly(group.options) else UNBOUNDED_MAX + 1
    return inner


def _steps_singly(options: Sequence[Nodes]) -> bool:
    """Whether each round of a repetition takes one character, in just one way."""
    if len(options) == 1:
        return len(options[0]) == 1 and (isinstance(options[0][0], One) or _is_character(options[0][0]))
    distinct = len(set(options)) == len(options)
    return distinct and all(len(option) == 1 and _is_character(option[0]) for option in options)


def _is_character(node: Node) -> bool:
    return isinstance(node, Text) and len(node.text) == 1


def _commit_runs(nodes: Nodes) -> str:
    """The expression of a pattern without groups.

    A `*` that another `*` of the same part follows takes the first place where what stands between them
    fits, and never comes back: the earliest place leaves the most room.
    """
    pieces: list[str] = []
    index = 0
    while index < len(nodes):
        node = nodes[index]
        after = index + 1
        while after < len(nodes) and _is_fixed(nodes[after]):
            after += 1
        between = nodes[index + 1 : after]
        following = nodes[after] if after < len(nodes) else None
        if node == following == Run(slash=False) and between:
            pieces.append(f"(?>[^/]*?{''.join(_emit_node(one, '', capturing=False) for one in between)})")
            index = after
        else:
            pieces.append(_emit_node(node, "", capturing=False))
            index += 1
    return "".join(pieces)


def _is_fixed(node: Node) -> bool:
    return isinstance(node, One) or (isinstance(node, Text) and "/" not in node.text)


def _emit(nodes: Nodes, rest: str, *, capturing: bool) -> str:
    """The expression of `nodes`. rest: that of all that follows them, without captures; `!()` looks at it."""
    pieces: list[str] = []
    for node in reversed(nodes):
        pieces.append(_emit_node(node, rest, capturing=capturing))
        rest = (_emit_node(node, rest, capturing=False) if capturing else pieces[-1]) + rest
    return "".join(reversed(pieces))


def _emit_node(node: Node, rest: str, *, capturing: bool) -> str:
    if isinstance(node, Text):
        return re.escape(node.text)
    if isinstance(node, One):
        return node.regex
    if isinstance(node, Run):
        return ".*" if node.slash else "[^/]*"
    if node.kind == "!":
        body = f"(?!{_emit_options(node, rest, capturing=False)}{rest}\\Z)[^/]*"
    else:
        body = _emit_options(node, rest, capturing=capturing) + (node.kind if node.kind in "?*+" else "")
    if not capturing or node.number is None:
        return f"(?:{body})"
    hidden = sum(_count_groups(option) for option in node.options) if node.kind == "!" else 0
    return f"({body}{'()' * hidden})"


def _emit_options(group: Group, rest: str, *, capturing: bool) -> str:
    return "(?:" + "|".join(_emit(option, rest, capturing=capturing) for option in group.options) + ")"
