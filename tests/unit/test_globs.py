"""What globs match, capture and refuse; and what is known of a pattern without matching."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.model.errors import InvalidInput
from paddock.model.glob_machine import Machine
from paddock.model.glob_syntax import parse
from paddock.model.globs import compile_glob, compile_template

MATCHES = [
    ("/*", "/a /.hidden /ä", "/ /a/b"),
    ("*", "/a", "/a/b"),
    ("/", "/", "/a"),
    ("", "/", "/a"),
    ("/**", "/a /a/b /a/b/c", "/"),
    ("/a/**", "/a/b /a/b/c", "/a /ab"),
    ("/a/", "/a", "/a/b"),
    ("//a//*", "/a/b", "/a"),
    ("./a/./*", "/a/b", "/a"),
    ("/**/x.txt", "/a/x.txt /a/b/x.txt", "/x.txt /a/y.txt"),
    ("/**.txt", "/x.txt /a/b.txt", "/x.txt.gz"),
    ("/***ef", "/abef /a/bef", "/abefg"),
    ("/a?c", "/abc /aäc", "/ac /a/c /abbc"),
    ("/[a-c]x", "/ax /cx", "/dx /x"),
    ("/[!a-c]x", "/dx /-x", "/ax //x"),
    ("/[^a]", "/b", "/a"),
    ("/[]a]", "/] /a", "/b"),
    ("/[a\\]]", "/] /a", "/\\"),
    ("/[a-]", "/a /-", "/b"),
    ("/[!/]", "/a", "/"),
    ("/[ -~]", "/a /0", "/ /ä"),
    ("/x[!-~]y", "/x.y", "/x/y"),
    ("/[[:alpha:]]", "/C", "/5"),
    ("/[[:^alpha:]]", "/5", "/C"),
    ("/[^[:alpha:]]", "/5", "/C"),
    ("/[^[:^alpha:]]", "/C", "/5"),
    ("/[[:digit:]_-]", "/5 /_ /-", "/a"),
    ("/[[:punct:]]", "/.", "/a"),
    ("/{abc,def}ghi", "/abcghi /defghi", "/ghi"),
    ("/{a,{b,c}d}", "/a /bd /cd", "/b /ad"),
    ("/{,x}y", "/y /xy", "/xxy"),
    ("/{a,b}/*", "/a/x /b/y", "/c/x"),
    ("/a,b|c", "/a,b|c", "/a"),
    ("/*.(png|jpg)", "/a.png /b.c.jpg", "/a.gif /apng"),
    ("/a@(x|yy)b", "/axb /ayyb", "/ab /axyyb"),
    ("/a?(x)b", "/ab /axb", "/axxb"),
    ("/a*(x|y)b", "/ab /axyxb", "/azb"),
    ("/a+(x|y)b", "/axb /axyb", "/ab"),
    ("/para+([0-9])", "/para9 /para123", "/para /parax"),
    ("/*(*(of*(o)x)o)", "/ofoooxoofxoofoooxoofxoo", "/ofoooxoofxoofoooxoofxofo"),
    ("/@(ab|a*(b))*(c)d", "/abbcd /acd", "/aacd"),
    ("/ab**(e|f)", "/ab /abab /abcfefg", "/a"),
    ("/\\*", "/*", "/a"),
    ("/a\\(1\\)", "/a(1)", "/a1"),
    ("/!(x)", "/foo", "/x /foo/bar"),
    ("/!(*.js|*.json)", "/a.js.gz /a.gz", "/a.js /b.json"),
    ("/!(a).txt", "/b.txt /ab.txt /.txt", "/a.txt"),
    ("/!(foo)*", "/bar", "/foo /foobar"),
    ("/!(!(foo))", "/foo", "/bar"),
    ("/!(!(!(foo)))", "/bar", "/foo"),
    ("/*.!(js|css)", "/bar.min.js /a.txt", "/bar.js"),
    ("/!(*.*).!(*.*)", "/a.b", "/moo.cow.x"),
    ("/*(!(f))", "/fff /foo", "/f"),
    ("/@(!(z*)|*x)", "/foot /foox /zoox", "/zoot"),
    ("/*-!(integration-)test.js", "/a-integration-test.js", "/a-b"),
    ("/*-!(integration)-test.js", "/a-unit-test.js", "/a-integration-test.js"),
    ("/!(a)/!(b)", "/x/y /b/a", "/a/x /x/b"),
    ("/!(a)!(b)!(c)!(d)", "/x", "/x/y"),
    ("/*a*b*c*", "/abc /xaxbxcx", "/acb /ab"),
    ("/*a?*b[x]*/*c*d", "/aybx/cd /xaaybxx/xcxd", "/abx/cd /aybx/dc"),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), MATCHES)
def test_matches(pattern: str, yes: str, no: str) -> None:
    glob = compile_glob(pattern)
    groups = glob.groups
    machine = Machine(parse(glob.pattern), groups)
    for path in yes.split():
        match = glob.match(path)
        assert match is not None, path
        assert len(match.captures) == groups
        assert machine.match(path) is not None, path
    for path in no.split():
        assert glob.match(path) is None, path


CAPTURES = [
    ("/test/(a|b)/x.go", "/test/b/x.go", ("b",)),
    ("/test/a*(a|b)/x.go", "/test/a/x.go", ("",)),
    ("/test/a*(a|b)/x.go", "/test/aba/x.go", ("ba",)),
    ("/test/+(a|b)/x.go", "/test/aba/x.go", ("aba",)),
    ("/test/a?(a|b)/x.go", "/test/aa/x.go", ("a",)),
    ("/test/@(a|b)/@(*).go", "/test/a/x.go", ("a", "x")),
    ("/test/a*(a|b)/*(*).go", "/test/aaaa/x.go", ("aaa", "x")),
    ("/test*(/?(+(a|b)/*.go))", "/test/a/x.go", ("/a/x.go", "a/x.go", "a")),
    ("/(*)-(*).txt", "/a-b-c.txt", ("a-b", "c")),
    ("/{(a)|,b}x", "/bx", ("",)),
    ("/(**)/(*)", "/a/b/c", ("a/b", "c")),
    ("/!(a).txt", "/bc.txt", ("bc",)),
    ("/!((a)b)(c)", "/xc", ("x", "", "c")),
    ("/(*)/(*)/(*)/(*)/(*)", "/1/2/3/4/5", ("1", "2", "3", "4", "5")),
    ("/(*)x(*)x(*)x(*)", "/axbxxc", ("a", "b", "", "c")),
]


@pytest.mark.parametrize(("pattern", "path", "captures"), CAPTURES)
def test_captures_the_groups_in_order(pattern: str, path: str, captures: tuple[str, ...]) -> None:
    glob = compile_glob(pattern)
    match = glob.match(path)
    assert match is not None
    assert match.captures == captures
    assert Machine(parse(glob.pattern), glob.groups).match(path) == captures
    assert glob.filter(["/", path]) == ([1], [captures])


ERRORS = [
    ("/a[b", r"at character 3, '\[' is never closed; add '\]'"),
    ("/(a", r"at character 2, '\(' is never closed; add '\)'"),
    ("/x{a,b", r"at character 3, '\{' is never closed; add '\}'"),
    ("/x+(a", r"at character 4, '\(' is never closed"),
    ("/a)", r"at character 3, '\)' closes nothing; write '\\\)'"),
    ("/a}", r"at character 3, '\}' closes nothing"),
    ("/a\\", r"at character 3, '\\' escapes nothing"),
    ("/[z-a]", "range z-a runs backwards; write a-z"),
    ("/[[:foo:]]", "'foo' is no character class; use one of alnum, alpha"),
    ("/[]", "the class is empty"),
    ("/[a/]", "a class never matches '/'"),
    ("/a/../b", "contains '..'"),
    ("/a\0", "NUL"),
    ("/" + "x" * 5000, "at most 4096 are allowed"),
    ("/" + "(" * 9 + ")" * 9, "nested more than 8 deep"),
]


@pytest.mark.parametrize(("pattern", "message"), ERRORS)
def test_a_bad_pattern_names_the_place_and_the_fix(pattern: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compile_glob(pattern)


@pytest.mark.parametrize(
    ("pattern", "prefix", "depth", "exact", "unfiltered"),
    [
        ("/", "/", 0, "/", False),
        ("/a/b", "/a/", 2, "/a/b", False),
        ("/a\\*", "/", 1, "/a*", False),
        ("/images/*.png", "/images/", 2, None, False),
        ("/images/x*", "/images/", 2, None, False),
        ("/*", "/", 1, None, True),
        ("/(*)/*", "/", 2, None, True),
        ("/a/*/*", "/a/", 3, None, True),
        ("/a/**", "/a/", None, None, True),
        ("/*/", "/", 1, None, True),
        ("/*/a", "/", 2, None, False),
        ("/{a,b/c}", "/", None, None, False),
        ("/{a,b}/*", "/", 2, None, False),
        ("/?(a/)b", "/", None, None, False),
        ("/+([0-9])", "/", 1, None, False),
    ],
)
def test_what_is_known_of_a_pattern(
    pattern: str, prefix: str, depth: int | None, exact: str | None, unfiltered: bool
) -> None:
    glob = compile_glob(pattern)
    assert (glob.prefix, glob.depth, glob.exact, glob.unfiltered) == (prefix, depth, exact, unfiltered)


def test_filter_agrees_with_match() -> None:
    paths = ["/", "/a", "/a/b.txt", "/a/c.txt", "/b"]
    assert compile_glob("/*").filter(paths) == ([1, 4], [])
    assert compile_glob("/").filter(paths) == ([0], [])
    assert compile_glob("/**").filter(paths) == ([1, 2, 3, 4], [])
    assert compile_glob("/a/(*).txt").filter(paths) == ([2, 3], [("b",), ("c",)])
    assert compile_glob("/*(*(a|b))").filter(paths) == ([1, 4], [("a", "a"), ("b", "b")])


@pytest.mark.parametrize("pattern", ["/*(*(a))b", "/*(*(*(a|aa)))b", "/(*)a(*)a(*)a(*)a(*)a(*)ab", "/*a*a*a*a*a*a*a*b"])
def test_patterns_that_explode_in_a_regular_expression_stay_quick(pattern: str) -> None:
    started = time.perf_counter()
    assert compile_glob(pattern).match("/" + "a" * 250) is None
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$1", "x"),
        ("${2}1", "y1"),
        ("$2$1", "yx"),
        ("$0", "/x-y"),
        ("$$1", "$1"),
        ("k", "k"),
        ("a$1-$2b", "ax-yb"),
    ],
)
def test_expand(template: str, expected: str) -> None:
    match = compile_glob("/(*)-(*)").match("/x-y")
    assert match is not None
    assert match.expand(template) == expected


@pytest.mark.parametrize(
    ("template", "groups", "message"),
    [
        ("$3", 2, r"'\$3' names group 3, but the glob has 2 groups; write \$1 to \$2"),
        ("$12", 1, r"the glob has 1 group; write \$1, or \$\{1\}2"),
        ("$1", 0, "the glob captures nothing; put what it should name in parentheses"),
        ("$x", 1, r"at character 1, '\$' is followed by no group"),
        ("a$", 1, r"at character 2, '\$' is followed by no group"),
    ],
)
def test_a_bad_template_names_the_group(template: str, groups: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compile_template(template, groups)


PIECES = [
    "a",
    "b",
    "/",
    "*",
    "**",
    "?",
    "[ab]",
    "[!a]",
    "{a,b*}",
    "(a|b)",
    "?(a)",
    "+(b)",
    "*([ab])",
    "!(a)",
    "!(b*)",
]


@settings(max_examples=400)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), path=st.text("ab/", max_size=9))
def test_expression_and_machine_agree(pieces: list[str], path: str) -> None:
    glob = compile_glob("".join(pieces))
    canonical = "/" + "/".join(part for part in path.split("/") if part)
    expected = Machine(parse(glob.pattern), glob.groups).match(canonical)
    if canonical == "/" and glob.pattern != "/":
        expected = None
    match = glob.match(canonical)
    assert (None if match is None else match.captures) == expected
    if match is not None:
        assert canonical.startswith(glob.literal)
        assert glob.depth in (None, canonical.count("/") if canonical != "/" else 0)
    elif glob.unfiltered:
        below = canonical.startswith(glob.prefix) and canonical != "/"
        assert not (below and glob.depth in (None, canonical.count("/")))
